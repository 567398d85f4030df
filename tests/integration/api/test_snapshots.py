"""Snapshots through the API: what is listed, what is started, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.repository import ChangesFound, FilesFound
from api.snapshot_commands import SnapshotCommands
from dumont.domain.errors import NotFound
from dumont.domain.protection import AgentRole, ProtectionPolicy
from dumont.domain.snapshot_resources import RunView
from dumont.domain.snapshots import (
    ChangeTotals,
    EntryKind,
    FileChange,
    FileEntry,
    SnapshotRecord,
    TransferProgress,
)
from tests.integration.api.conftest import (
    Running,
    Session,
    serving,
    settings_for,
    wait_for_owner,
)
from tests.integration.api.protected import PROTECTED, put

T0 = datetime.now(UTC)
FIRST, SECOND = "20261126T120001.000000Z-00000001", "20261126T120002.000000Z-00000002"


@pytest.fixture
async def kept(database_url: str, tmp_path: Path) -> AsyncIterator[Session]:
    """The owner of a deployment with a store, and of a machine with two snapshots."""
    settings = settings_for(
        database_url, tmp_path, s3_url="http://127.0.0.1:1", s3_access_key_id="k",
        s3_secret_access_key="s",
    )  # fmt: skip
    async with serving(settings) as running:
        await wait_for_owner(running)
        owner = await running.owner()
        await put(owner, policy=ProtectionPolicy(), **PROTECTED)
        await keep(running, FIRST)
        await keep(running, SECOND)
        yield owner


async def keep(api: Running, snapshot_id: str, **changes: Any) -> None:
    record = SnapshotRecord.model_validate(
        {
            "machine_id": "m1", "snapshot_id": snapshot_id, "taken_at": T0,
            "source": AgentRole.STANDBY, "files": 3, "bytes": 3_000, "new_bytes": 300,
            "stored_bytes": 30, "seconds": 0.5,
        } | changes
    )  # fmt: skip
    await api.services.snapshots.record(record)
    await api.services.snapshots.verified("m1", snapshot_id, at=T0 + timedelta(seconds=1))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the API has the workflows do."""
    calls: list[tuple[Any, ...]] = []

    def taking(word: str) -> Any:
        async def take(_: object, *arguments: Any, key: str) -> str:
            calls.append((word, *arguments, key))
            return f"{word}-00000000-0000-0000-0000-000000000000"

        return take

    for word, name in (("snapshot", "take"), ("restore", "restore"), ("prune", "prune")):
        monkeypatch.setattr(SnapshotCommands, name, taking(word))
    return calls


async def test_they_are_listed_with_their_policy_and_how_it_goes(kept: Session):
    listed = (await kept.get("/machines/my-box/snapshots")).json()
    assert [each["snapshot_id"] for each in listed["items"]] == [SECOND, FIRST]
    assert listed["policy"]["every_minutes"] == 30
    assert listed["health"]["failures"] == 0
    assert listed["health"]["stale"] is False
    assert listed["next_at"] is None, "Temporal is away; what is kept is known all the same"


async def test_without_a_store_it_says_what_to_set(owner: Session):
    await put(owner, policy=ProtectionPolicy(), **PROTECTED)
    listed = await owner.get("/machines/my-box/snapshots")
    assert listed.status_code == 200
    assert listed.json()["policy"] is None
    for path in ("snapshots", "restore", "snapshots/prune", "hibernate"):
        answer = await owner.post(f"/machines/my-box/{path}", {})
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed"), path
        assert "S3_ENDPOINT_URL" in answer.json()["hint"]


async def test_a_snapshot_is_started_as_it_was_ordered(
    kept: Session, started: list[tuple[Any, ...]]
):
    body = {"tags": ["before-refactoring"], "pinned": True, "flush": False}
    answer = await kept.post("/machines/my-box/snapshots", body, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202
    assert answer.json()["run"].startswith("snapshot-")
    ((_, order, key),) = started
    assert (order.machine_id, order.tags, order.pinned, order.flush) == (
        "m1", ("before-refactoring",), True, False,
    )  # fmt: skip
    assert order.asked
    assert key == "k"


@pytest.mark.parametrize(
    ("body", "folder", "paths"),
    [
        ({}, f"restored/{SECOND}", ()),
        ({"snapshot": FIRST, "paths": ["/src/a.py/"]}, f"restored/{FIRST}", ("src/a.py",)),
        ({"into": "old"}, "old", ()),
        ({"in_place": True}, "", ()),
    ],
)
async def test_a_restore_goes_beside_the_workspace_unless_told_otherwise(
    kept: Session, started: list[tuple[Any, ...]], body: Any, folder: str, paths: tuple[str, ...]
):
    assert (await kept.post("/machines/my-box/restore", body)).status_code == 202
    ((_, order, _),) = started
    assert (order.machine_id, order.folder, order.paths) == ("m1", folder, paths)
    assert (order.total_files, order.total_bytes) == (3, 3_000)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "restore", {"paths": ["../../etc/passwd"]}, 422),
        ("POST", "restore", {"paths": [""]}, 422),
        ("POST", "restore", {"into": "/"}, 422),
        ("POST", "restore", {"into": "x", "in_place": True}, 422),
        ("POST", "restore", {"snapshot": "; rm -rf /"}, 422),
        ("POST", "restore", {"snapshot": "20200101T000000.000000Z-00000000"}, 404),
        ("POST", "restore", {"of": "no-such-box"}, 404),
        ("POST", "snapshots", {"tags": ["a,b"]}, 422),
        ("POST", "snapshots", {"tags": ["x" * 65]}, 422),
        ("POST", "snapshots", {"flash": True}, 422),
        ("PUT", "snapshots/policy", {"every_minutes": 7}, 422),
        ("PUT", "snapshots/policy", {"every_minutes": 5, "cron": "0 * * * *"}, 422),
        ("PUT", "snapshots/policy", {"cron": "every day"}, 422),
        ("PUT", "snapshots/policy", {"retention": {"minimum": 0}}, 422),
        ("PUT", "snapshots/policy", {"excludes": ["a\nb"]}, 422),
        ("GET", "snapshots/2027", None, 404),
        ("GET", "snapshots/2026", None, 422),
        ("GET", f"snapshots/{FIRST}/files?path=../x", None, 422),
        ("GET", f"snapshots/{FIRST}/changes", None, 409),
        ("GET", "runs/snapshot-1", None, 422),
    ],
)
async def test_bad_input_is_refused(
    kept: Session, started: list[tuple[Any, ...]], method: str, path: str, body: Any, status: int
):
    answer = await kept.call(method, f"/machines/my-box/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]
    assert started == []


async def test_what_is_pinned_is_not_deleted(kept: Session, monkeypatch: pytest.MonkeyPatch):
    forgotten: list[str] = []

    async def forget(_: object, which: Any) -> None:
        forgotten.append(which.snapshot_id)

    monkeypatch.setattr(SnapshotCommands, "forget", forget)
    await kept.api.services.snapshots.pinned("m1", FIRST, pinned=True)
    answer = await kept.delete(f"/machines/my-box/snapshots/{FIRST}")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "--off" in answer.json()["hint"]
    assert (await kept.delete(f"/machines/my-box/snapshots/{SECOND}")).status_code == 204
    assert forgotten == [SECOND]


async def test_looking_into_one(kept: Session, monkeypatch: pytest.MonkeyPatch):
    async def files(_: object, ask: Any) -> FilesFound:
        assert (ask.folder, ask.snapshot_id) == ("src", SECOND)
        found = [
            FileEntry(path=f"src/{n}", kind=EntryKind.FILE, size=n, mode=0o644, modified_at=T0)
            for n in range(5)
        ]
        return FilesFound(items=found[: ask.limit])

    async def changes(_: object, ask: Any) -> ChangesFound:
        assert (ask.old, ask.new) == (FIRST, SECOND)
        one = FileChange(what="added", path="a", before=0, after=1)
        return ChangesFound(totals=ChangeTotals(added=3, bytes=3), items=[one] * min(3, ask.limit))

    monkeypatch.setattr(SnapshotCommands, "files", files)
    monkeypatch.setattr(SnapshotCommands, "changes", changes)
    base = "/machines/my-box/snapshots/latest"
    shown = (await kept.get(base)).json()
    assert (shown["before"], shown["changes"]["added"]) == (FIRST, 3)
    page = (await kept.get(f"{base}/files?path=/src/&limit=2")).json()
    assert [each["path"] for each in page["items"]] == ["src/0", "src/1"]
    assert page["next_cursor"] == "src/1"
    listed = (await kept.get(f"{base}/changes?limit=2")).json()
    assert (len(listed["items"]), listed["more"], listed["totals"]["added"]) == (2, True, 3)


async def test_a_run_is_shown_as_it_is(kept: Session, monkeypatch: pytest.MonkeyPatch):
    run = "restore-00000000-0000-0000-0000-000000000000"

    async def show(_: object, machine_id: str, asked: str) -> RunView:
        if machine_id != "m1" or asked != run:
            raise NotFound("no such run")
        return RunView(
            run=run, kind="restore", state="running", started_at=T0, ended_at=None, tries=2,
            progress=TransferProgress(step="writing", bytes=5, total_bytes=10),
        )  # fmt: skip

    monkeypatch.setattr(SnapshotCommands, "run", show)
    shown = (await kept.get(f"/machines/my-box/runs/{run}")).json()
    assert (shown["state"], shown["tries"], shown["progress"]["bytes"]) == ("running", 2, 5)
    other = run.replace("restore", "prune")
    assert (await kept.get(f"/machines/my-box/runs/{other}")).status_code == 404


async def test_others_see_and_touch_nothing(kept: Session, started: list[tuple[Any, ...]]):
    stranger = await kept.api.somebody_else()
    assert (await stranger.get("/machines/m1/snapshots")).status_code == 404
    assert (await stranger.post("/machines/m1/snapshots", {})).status_code == 404
    assert (await stranger.post("/machines/m1/restore", {})).status_code == 404
    reader = await kept.api_key("machines:read")
    assert (await reader.get("/machines/my-box/snapshots")).status_code == 200
    for path in ("snapshots", "restore", "snapshots/prune", "hibernate", "wake"):
        assert (await reader.post(f"/machines/my-box/{path}", {})).status_code == 403
    assert started == []


async def test_without_temporal_nothing_is_accepted(kept: Session):
    for path in ("snapshots", "restore", "snapshots/prune", "hibernate", "wake"):
        answer = await kept.post(f"/machines/my-box/{path}", {})
        assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable"), path
    policy = {"every_minutes": 15}
    answer = await kept.call("PUT", "/machines/my-box/snapshots/policy", json=policy)
    assert answer.status_code == 200, "it is written down: a sweep brings the schedule up to date"
    assert answer.json()["policy"]["every_minutes"] == 15
