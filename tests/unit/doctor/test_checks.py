"""What the doctor says: one finding a check, a cause once, and always what to do."""

from __future__ import annotations

import asyncio
import shutil
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from dumont.cli.checks import finding, local, parts
from dumont.cli.checks.clock import judge_clock
from dumont.cli.checks.finding import Answer, Check, run, run_all
from dumont.config import Settings
from dumont.domain.errors import AuthFailed

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def check(name: str, outcome: Answer | Exception, *, needs: str | None = None) -> Check:
    async def look() -> Answer:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Check(group="g", name=name, look=look, needs=needs)


async def test_our_own_errors_say_what_to_do() -> None:
    error = AuthFailed("the key is wrong", hint="make a new one")
    found = await run(check("Vast.ai", error))
    assert (found.status, found.detail, found.hint) == (
        "fail",
        "the key is wrong",
        "make a new one",
    )


async def test_a_strangers_error_is_a_finding_too() -> None:
    found = await run(check("disk", RuntimeError("odd\nmore lines")))
    assert (found.status, found.detail) == ("fail", "RuntimeError: odd")


async def test_a_check_that_never_ends_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "TIMEOUT_S", 0.01)

    async def look() -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    found = await run(Check(group="g", name="slow", look=look))
    assert found.status == "fail"
    assert "no answer within" in found.detail


async def test_a_cause_is_reported_once() -> None:
    findings = await run_all(
        [
            check("API", RuntimeError("down")),
            check("login", RuntimeError("down"), needs="API"),
            check("clock", Answer(detail="agrees"), needs="API"),
        ]
    )
    assert [found.status for found in findings] == ["fail", "skip", "ok"]
    assert findings[1].detail == "not without: API"


@pytest.mark.parametrize(
    ("off_s", "status", "words"),
    [
        (0, "ok", "agrees"),
        (29, "ok", "agrees"),
        (95, "fail", "95 s ahead of"),
        (-95, "fail", "behind"),
    ],
)
def test_clocks(off_s: int, status: str, words: str) -> None:
    date = format_datetime(NOW, usegmt=True)
    answer = judge_clock(date=date, whose="Vast.ai's", now=NOW + timedelta(seconds=off_s))
    assert answer.status == status
    assert words in answer.detail


def test_a_senseless_date_proves_nothing() -> None:
    assert judge_clock(date="yesterday", whose="x").status == "warn"


@pytest.mark.parametrize(("free", "status"), [(50e9, "ok"), (3e9, "warn"), (0.5e9, "fail")])
async def test_disk(
    free: float, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(100e9, 0, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    found = [c for c in local.checks(state=tmp_path / "not" / "there") if c.name == "disk"]
    assert (await run(found[0])).status == status


async def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)
    findings = {found.name: found for found in await run_all(local.checks(state=Path()))}
    assert findings["ssh"].status == "fail"
    assert "openssh-client" in (findings["ssh"].hint or "")
    assert findings["sshd"].status == "warn"  # only the demo needs it


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[arg-type]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An object store that answers with the codes of this list."""
    codes: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.method == "HEAD"
        assert "Signature=" in request.headers["authorization"]
        return httpx.Response(codes.pop(0))

    real = httpx.AsyncClient
    monkeypatch.setattr(
        parts.httpx,
        "AsyncClient",
        lambda **options: real(**options, transport=httpx.MockTransport(answer)),
    )
    return codes


STORE = {"s3_url": "http://s3", "s3_access_key_id": "id", "s3_secret_access_key": "secret"}


@pytest.mark.parametrize(
    ("code", "status", "hint"),
    [(200, "ok", ""), (403, "fail", "AWS_SECRET_ACCESS_KEY"), (404, "fail", "S3_BUCKET"),
     (500, "fail", "S3_ENDPOINT_URL")],
)  # fmt: skip
async def test_object_store(store: list[int], code: int, status: str, hint: str) -> None:
    store.append(code)
    found = {c.name: c for c in parts.checks(settings(**STORE))}["object store"]
    answer = await run(found)
    assert answer.status == status
    assert hint in (answer.hint or "")


async def test_what_is_not_configured_is_not_asked() -> None:
    found = {c.name: c for c in parts.checks(settings(vast_api_key=None, s3_url=None))}
    assert (await run(found["object store"])).status == "skip"
    assert (await run(found["Google"])).status == "skip"
    assert (await run(found["Vast.ai"])).status == "fail"


async def test_a_service_account_that_is_no_service_account() -> None:
    given = settings(gcp_credentials={"type": "service_account", "project_id": "p"})
    found = {c.name: c for c in parts.checks(given)}["Google"]
    answer = await run(found)
    assert answer.status == "fail"
    assert "service account's JSON is incomplete" in answer.detail
    assert "GCP_CREDENTIALS" in (answer.hint or "")


async def test_keys_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text("{}")
    file.chmod(0o644)
    found = {c.name: c for c in parts.checks(settings(keys_file=file))}["keys"]
    answer = await run(found)
    assert answer.status == "fail"
    assert answer.hint == f"run: chmod 600 {file}"
