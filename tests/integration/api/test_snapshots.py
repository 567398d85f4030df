"""Snapshots through the API: what is listed, what is started, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from activities.readiness import ReadinessActivities
from activities.records import RecordActivities
from activities.repository import ChangesFound, FilesFound, RepositoryActivities
from activities.snapshot_upkeep import UpkeepActivities
from activities.snapshots import SnapshotActivities
from api.snapshot_commands import SnapshotCommands
from dumont.db.engine import Database
from dumont.db.machine_store import PostgresMachineStore
from dumont.db.snapshots import PostgresSnapshots
from dumont.domain.errors import (
    AgentRefused,
    DependencyUnavailable,
    DumontError,
    NotFound,
    StorageError,
)
from dumont.domain.instances import SshAddress
from dumont.domain.machine import MachinePhase, MachineSpec
from dumont.domain.offers import GpuRequirement
from dumont.domain.protection import AgentRole, ProtectionPolicy, ProtectionStatus
from dumont.domain.snapshot_resources import RunView
from dumont.domain.snapshots import (
    ChangeTotals,
    EntryKind,
    FileChange,
    FileEntry,
    SnapshotRecord,
    TransferProgress,
)
from dumont.security.keys import load_or_create_keys
from dumont.temporal.client import connect
from dumont.temporal.codec import CodecKey
from dumont.temporal.ids import run_workflow_id
from tests.integration.api.conftest import (
    PUBLIC_KEY,
    Running,
    Session,
    _fresh_namespace,
    serving,
    settings_for,
    wait_for_owner,
)
from tests.integration.api.protected import PROTECTED, become, put
from tests.support.fakes import FakeShell
from tests.support.snapshots import WASTE, FakeEngine, FakeRepositories
from tests.support.temporal import TemporalServer
from worker.roles import ControlActivities, KeepingActivities, control_worker

T0 = datetime.now(UTC)
FIRST, SECOND = "20261126T120001.000000Z-00000001", "20261126T120002.000000Z-00000002"
THIRD = "20261126T120003.000000Z-00000003"


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
    at = T0 + timedelta(seconds=1)
    await api.services.snapshots.verified(record.machine_id, snapshot_id, at=at)


async def machine(api: Running, machine_id: str, *, owner_id: str, name: str) -> None:
    """One more machine, of anybody."""
    spec = MachineSpec(
        machine_id=machine_id,
        owner_id=owner_id,
        name=name,
        env="test",
        requirement=GpuRequirement(gpu="RTX 4090", max_usd_per_hour=0.6),
        authorized_keys=(PUBLIC_KEY,),
    )
    await api.services.machines.request(spec, at=datetime.now(UTC))


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
        ("POST", "restore", {"paths": ["a/../../b"]}, 422),
        ("POST", "restore", {"paths": ["/"]}, 422),
        ("POST", "restore", {"into": "../elsewhere"}, 422),
        ("POST", "restore", {"of": "\0"}, 404),
        ("PUT", "snapshots/policy", {"every_minutes": 7}, 422),
        ("PUT", "snapshots/policy", {"every": 5}, 422),
        ("PUT", "snapshots/policy", {"retention": {"dayly": 14}}, 422),
        ("PUT", "snapshots/policy", {"every_minutes": 5, "cron": "0 * * * *"}, 422),
        ("PUT", "snapshots/policy", {"cron": "every day"}, 422),
        ("PUT", "snapshots/policy", {"retention": {"minimum": 0}}, 422),
        ("PUT", "snapshots/policy", {"excludes": ["a\nb"]}, 422),
        ("GET", "snapshots/2027", None, 404),
        ("GET", "snapshots/2026", None, 422),
        ("GET", f"snapshots/{FIRST}/files?path=../x", None, 422),
        ("GET", f"snapshots/{FIRST}/files?limit=0", None, 422),
        ("GET", f"snapshots/{FIRST}/changes", None, 409),
        ("GET", f"snapshots/{SECOND}/changes?since=%00", None, 422),
        ("GET", f"snapshots/{SECOND}/changes?since=2027", None, 404),
        ("PUT", f"snapshots/{FIRST}/pin", {}, 422),
        ("DELETE", "snapshots/2027", None, 404),
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


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "restore", b'{"paths": ["\\ud800"]}'),
        ("POST", "snapshots", b'{"tags": ["\\ud800"]}'),
        ("PUT", "snapshots/policy", b'{"excludes": ["\\ud800"]}'),
    ],
)
async def test_half_a_character_is_refused(
    kept: Session, started: list[tuple[Any, ...]], method: str, path: str, body: bytes
):
    answer = await kept.call(
        method,
        f"/machines/my-box/{path}",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert started == []


async def test_a_prune_only_looks_unless_told_otherwise(
    kept: Session, started: list[tuple[Any, ...]]
):
    me = (await kept.get("/auth/me")).json()["user_id"]
    path = "/machines/my-box/snapshots/prune"
    assert (await kept.post(path, headers={"Idempotency-Key": "k"})).status_code == 202
    assert (await kept.post(path, {"dry_run": False})).status_code == 202
    (_, machine_id, looks, key), (_, _, frees, other) = started
    assert (machine_id, looks.owner_id, frees.owner_id) == ("m1", me, me)
    assert (looks.dry_run, frees.dry_run) == (True, False)
    assert (key, other == key) == ("k", False)


async def test_a_restore_takes_a_snapshot_of_another_machine_of_mine(
    kept: Session, started: list[tuple[Any, ...]]
):
    me = (await kept.get("/auth/me")).json()["user_id"]
    await machine(kept.api, "m2", owner_id=me, name="other-box")
    await keep(kept.api, THIRD, machine_id="m2", files=7, bytes=7_000)
    for of in ("other-box", "m2"):
        answer = await kept.post("/machines/my-box/restore", {"of": of})
        assert answer.status_code == 202, answer.text
        assert answer.json()["machine_id"] == "m1", "the run is of the machine that it comes to"
        (_, order, _) = started.pop()
        assert (order.machine_id, order.snapshot_id) == ("m1", THIRD)
        assert (order.folder, order.total_bytes) == (f"restored/{THIRD}", 7_000)
    mixed_up = {"of": "other-box", "snapshot": FIRST}
    assert (await kept.post("/machines/my-box/restore", mixed_up)).status_code == 404
    assert started == []


async def test_a_restore_takes_nothing_of_somebody_else(
    kept: Session, started: list[tuple[Any, ...]]
):
    stranger = await kept.api.somebody_else()
    them = (await stranger.get("/auth/me")).json()["user_id"]
    await machine(kept.api, "m2", owner_id=them, name="their-box")
    await keep(kept.api, THIRD, machine_id="m2")
    for of in ("m2", "their-box"):
        for body in ({"of": of}, {"of": of, "snapshot": THIRD}):
            answer = await kept.post("/machines/my-box/restore", body)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), body
            assert "there is no machine" in answer.json()["detail"], "as if it did not exist"
    answer = await kept.post("/machines/my-box/restore", {"snapshot": THIRD})
    assert answer.status_code == 404
    assert started == []


async def test_a_machine_that_is_gone_takes_none_but_others_may_take_its_own(
    kept: Session, started: list[tuple[Any, ...]]
):
    await become(kept.api, phase=MachinePhase.DESTROYED)
    me = (await kept.get("/auth/me")).json()["user_id"]
    await machine(kept.api, "m2", owner_id=me, name="other-box")
    listed = (await kept.get("/machines/m1/snapshots")).json()
    assert len(listed["items"]) == 2
    for path in ("snapshots", "restore"):
        answer = await kept.post(f"/machines/m1/{path}", {})
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict"), path
        assert "--of" in answer.json()["hint"]
    policy = {"every_minutes": 5}
    answer = await kept.call("PUT", "/machines/m1/snapshots/policy", json=policy)
    assert answer.status_code == 409
    assert (await kept.post("/machines/other-box/restore", {"of": "m1"})).status_code == 202
    ((_, order, _),) = started
    assert (order.machine_id, order.snapshot_id) == ("m2", SECOND)


async def test_every_answer_of_a_route_is_in_its_description(kept: Session):
    paths = (await kept.api.http.get("/api/v1/openapi.json")).json()["paths"]
    policy = paths["/api/v1/machines/{machine}/snapshots/policy"]["put"]["responses"]
    assert {"200", "401", "403", "404", "409", "412", "422", "502", "503"} <= set(policy)


async def test_failures_are_told_until_one_is_made(kept: Session):
    snapshots = kept.api.services.snapshots
    for minutes in (1, 2):
        at = T0 + timedelta(minutes=minutes)
        await snapshots.record_failure("m1", error=f"no room {minutes}", at=at)
    health = (await kept.get("/machines/my-box/snapshots")).json()["health"]
    assert (health["failures"], health["error"]) == (2, "no room 2")
    assert health["age_s"] >= 0
    await snapshots.verified("m1", SECOND, at=T0 + timedelta(minutes=3))
    health = (await kept.get("/machines/my-box/snapshots")).json()["health"]
    assert (health["failures"], health["error"]) == (0, "")


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
    for asks, status in ((reader, 403), (stranger, 404)):
        pin, policy = {"pinned": True}, {"every_minutes": 5}
        base = "/machines/m1/snapshots"
        assert (await asks.call("PUT", f"{base}/policy", json=policy)).status_code == status
        assert (await asks.call("PUT", f"{base}/{FIRST}/pin", json=pin)).status_code == status
        assert (await asks.delete(f"{base}/{FIRST}")).status_code == status
    for path in (FIRST, f"{FIRST}/files", f"{SECOND}/changes"):
        assert (await stranger.get(f"/machines/m1/snapshots/{path}")).status_code == 404
    assert (await stranger.get("/machines/m1/runs/prune-" + "0" * 36)).status_code == 404
    assert started == []
    listed = (await kept.get("/machines/m1/snapshots")).json()
    assert listed["policy"]["every_minutes"] == 30
    assert [each["pinned"] for each in listed["items"]] == [False, False]


async def test_without_temporal_nothing_is_accepted(kept: Session):
    for path in ("snapshots", "restore", "snapshots/prune", "hibernate", "wake"):
        answer = await kept.post(f"/machines/my-box/{path}", {})
        assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable"), path
    policy = {"every_minutes": 15}
    answer = await kept.call("PUT", "/machines/my-box/snapshots/policy", json=policy)
    assert answer.status_code == 200, "it is written down: a sweep brings the schedule up to date"
    assert answer.json()["policy"]["every_minutes"] == 15


# With Temporal and a worker behind it; the machine and the store are in memory -------------------


class HeldEngine(FakeEngine):
    """An engine that says how far it is, and goes on when it is let."""

    def __init__(self, repositories: FakeRepositories) -> None:
        super().__init__(repositories)
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def run(
        self,
        address: SshAddress,
        *,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        **how: Any,
    ) -> dict[str, Any]:
        if not self.may_end.is_set():
            assert on_progress is not None
            on_progress({"files": 1, "bytes": 1_000, "new_raw": 100, "sent": 10})
        await self.may_end.wait()
        return await super().run(address, on_progress=on_progress, **how)


@dataclass
class Working:
    """The owner of machine `my-box`, in a deployment that keeps snapshots."""

    owner: Session
    temporal: Client
    engine: HeldEngine
    repositories: FakeRepositories

    async def starts(self, path: str, body: Any = None, *, key: str | None = None) -> str:
        """Start a run; returns its name."""
        headers = {"Idempotency-Key": key} if key is not None else {}
        answer = await self.owner.post(f"/machines/my-box/{path}", body, headers=headers)
        assert answer.status_code == 202, answer.text
        assert answer.json()["machine_id"] == "m1"
        run: str = answer.json()["run"]
        return run

    async def run(self, run: str) -> RunView:
        answer = await self.owner.get(f"/machines/my-box/runs/{run}")
        assert answer.status_code == 200, answer.text
        return RunView.model_validate_json(answer.content)

    async def until(self, run: str, so: Callable[[RunView], bool]) -> RunView:
        """The run once it is so."""
        async with asyncio.timeout(60):
            while not so(view := await self.run(run)):
                await asyncio.sleep(0.05)
            return view

    async def ended(self, run: str) -> RunView:
        return await self.until(run, lambda view: view.state != "running")

    async def takes(self, **order: Any) -> str:
        """Have a snapshot made; returns its id."""
        view = await self.ended(await self.starts("snapshots", order))
        assert view.snapshot is not None, view.error
        return view.snapshot.snapshot_id

    async def wants(self, **policy: Any) -> httpx.Response:
        return await self.owner.call("PUT", "/machines/my-box/snapshots/policy", json=policy)

    async def listed(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.owner.get("/machines/my-box/snapshots")).json()
        return found


@pytest.fixture
async def working(
    database_url: str, tmp_path: Path, temporal_server: TemporalServer
) -> AsyncIterator[Working]:
    """A machine without a standby, and a worker that makes its snapshots."""
    settings = settings_for(
        database_url,
        tmp_path,
        temporal_address=temporal_server.address,
        temporal_namespace=await _fresh_namespace(temporal_server),
        s3_url="http://127.0.0.1:1",
        s3_access_key_id="k",
        s3_secret_access_key="s",
    )
    keys = load_or_create_keys(settings.keys_path)
    client = await connect(
        address=settings.temporal_address,
        namespace=settings.temporal_namespace,
        codec_keys=[CodecKey(key_id=key.key_id, key=key.key) for key in keys.codec],
    )
    database, repositories = Database(database_url), FakeRepositories()
    engine = HeldEngine(repositories)
    alone = {"standby": None, "mirrored": False, "protection": ProtectionStatus.UNPROTECTED}
    async with serving(settings) as api:
        await wait_for_owner(api)
        owner = await api.owner()
        await put(owner, **(PROTECTED | alone))
        async with control_worker(client, _keeping(database, engine, repositories)):
            yield Working(owner, client, engine, repositories)
            engine.may_end.set()
    await database.close()


def _keeping(
    database: Database, engine: FakeEngine, repositories: FakeRepositories
) -> ControlActivities:
    store, snapshots = PostgresMachineStore(database), PostgresSnapshots(database)

    async def align(_: object) -> int:
        return 0

    return ControlActivities(
        records=RecordActivities(store=store),
        readiness=ReadinessActivities(shell=FakeShell(), store=store),
        keeping=KeepingActivities(
            snapshots=SnapshotActivities(
                engine=engine, repositories=repositories, store=store, snapshots=snapshots
            ),
            repository=RepositoryActivities(repositories=repositories, snapshots=snapshots),
            upkeep=UpkeepActivities(
                store=store,
                repositories=repositories,
                policies=snapshots.policies,
                owners=snapshots.owners,
                align=align,
            ),
        ),
    )


def refuse(error: Exception) -> Callable[..., None]:
    """For `on_run` and `on_call`."""

    def raising(*_: object) -> None:
        raise error

    return raising


async def test_the_same_key_is_the_same_snapshot_and_another_key_another(working: Working):
    first = await working.starts("snapshots", {"tags": ["mine"], "pinned": True}, key="k")
    assert await working.starts("snapshots", {"tags": ["mine"], "pinned": True}, key="k") == first
    done = await working.ended(first)
    assert (done.state, done.kind, done.error) == ("done", "snapshot", None)
    assert done.snapshot is not None
    assert (done.snapshot.tags, done.snapshot.pinned) == (("mine",), True)
    assert done.snapshot.source is AgentRole.PRIMARY
    assert done.snapshot.verified_at is not None
    assert done.ended_at is not None
    assert await working.starts("snapshots", key="k") == first, "also when it ended long ago"
    assert len((await working.listed())["items"]) == 1
    other = await working.starts("snapshots", key="another")
    assert other != first
    await working.ended(other)
    listed = (await working.listed())["items"]
    assert [(each["tags"], each["pinned"]) for each in listed] == [([], False), (["mine"], True)]
    assert await working.starts("snapshots/prune", key="k") != first, "one key, two intents"


async def test_without_a_key_every_request_is_a_snapshot(working: Working):
    runs = {await working.starts("snapshots") for _ in range(2)}
    for run in runs:
        await working.ended(run)
    assert len(runs) == len((await working.listed())["items"]) == 2


async def test_a_run_tells_how_far_it_is_and_how_it_ended(working: Working):
    await working.takes()  # from now on the total is known
    working.engine.may_end.clear()
    run = await working.starts("snapshots")
    now = await working.until(run, lambda view: bool(view.progress and view.progress.bytes))
    assert (now.state, now.ended_at, now.tries, now.snapshot) == ("running", None, 1, None)
    assert now.progress is not None
    assert now.progress.step == "reading the primary"
    assert (now.progress.bytes, now.progress.total_bytes) == (1_000, 3_000)
    assert (now.progress.new_bytes, now.progress.sent_bytes) == (100, 10)
    working.engine.may_end.set()
    done = await working.ended(run)
    assert (done.state, done.progress) == ("done", None)
    assert done.snapshot is not None
    assert done.ended_at is not None
    assert done.started_at == now.started_at < done.ended_at


async def test_a_run_that_failed_says_why_and_so_does_the_list(working: Working):
    working.engine.on_run = refuse(AgentRefused("the disk is full", hint="make room"))
    failed = await working.ended(await working.starts("snapshots"))
    assert (failed.state, failed.snapshot) == ("failed", None)
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("agent_refused", "the disk is full")
    assert failed.error.hint == "make room"
    health = (await working.listed())["health"]
    assert (health["failures"], health["error"]) == (1, "the disk is full")
    working.engine.on_run = lambda host, order: None
    await working.takes()
    assert (await working.listed())["health"]["failures"] == 0


async def test_a_run_that_somebody_ended_has_failed(working: Working):
    working.engine.may_end.clear()
    run = await working.starts("snapshots")
    await working.temporal.get_workflow_handle(run_workflow_id("m1", run)).terminate("enough")
    failed = await working.ended(run)
    assert failed.state == "failed"
    assert failed.error is not None
    assert "terminated" in failed.error.message


async def test_a_run_is_found_at_its_own_machine_only(working: Working):
    me = (await working.owner.get("/auth/me")).json()["user_id"]
    await machine(working.owner.api, "m2", owner_id=me, name="other-box")
    run = await working.starts("snapshots/prune")
    await working.ended(run)
    for path in (f"other-box/runs/{run}", f"my-box/runs/snapshot-{run.partition('-')[2]}"):
        answer = await working.owner.get(f"/machines/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


async def test_a_restore_comes_into_a_folder_of_its_own(working: Working):
    made = await working.takes()
    done = await working.ended(await working.starts("restore", {"paths": ["/src/"]}))
    assert (done.kind, done.state) == ("restore", "done")
    assert done.restored is not None
    assert (done.restored.snapshot_id, done.restored.folder) == (made, f"restored/{made}")
    assert done.restored.before is None
    _, order = working.engine.runs[-1]
    assert order.folder == f"restored/{made}"
    assert "--path=src" in order.words
    assert len((await working.listed())["items"]) == 1


async def test_a_restore_in_place_keeps_first_what_is_there(working: Working):
    made = await working.takes()
    done = await working.ended(await working.starts("restore", {"in_place": True}))
    assert done.restored is not None, done.error
    assert (done.restored.snapshot_id, done.restored.folder) == (made, "")
    before, _ = (await working.listed())["items"]
    assert done.restored.before == before["snapshot_id"] != made
    assert before["tags"] == ["before-restore"]


async def test_a_prune_says_what_it_would_free_and_frees_it(working: Working):
    await working.takes()
    looked = await working.ended(await working.starts("snapshots/prune"))
    assert looked.pruned is not None
    assert (looked.pruned.dry_run, looked.pruned.freed, looked.pruned.doomed) == (True, 0, WASTE)
    freed = await working.ended(await working.starts("snapshots/prune", {"dry_run": False}))
    assert freed.pruned is not None
    assert (freed.pruned.dry_run, freed.pruned.freed) == (False, WASTE)


async def test_a_policy_moves_the_next_snapshot(working: Working):
    assert (await working.listed())["next_at"] is None, "no sweep has been there yet"
    often = (await working.wants(every_minutes=5)).json()
    assert often["policy"]["every_minutes"] == 5
    next_at = datetime.fromisoformat(often["next_at"])
    assert next_at - datetime.now(UTC) < timedelta(minutes=6)
    yearly = await working.wants(cron="0 3 1 1 *", excludes=["*.tmp"], retention={"daily": 14})
    policy = yearly.json()["policy"]
    assert (policy["cron"], policy["every_minutes"]) == ("0 3 1 1 *", None)
    assert (policy["excludes"], policy["retention"]["daily"]) == (["*.tmp"], 14)
    next_at = datetime.fromisoformat(yearly.json()["next_at"])
    assert (next_at.month, next_at.day, next_at.hour) == (1, 1, 3)
    assert (await working.listed()) == yearly.json() | {
        "health": (await working.listed())["health"]
    }
    never = (await working.wants(every_minutes=None)).json()
    assert (never["policy"]["every_minutes"], never["policy"]["cron"]) == (None, None)
    assert never["policy"]["excludes"] == [], "the whole policy: what is not given is the default"
    assert never["next_at"] is None


async def test_a_cron_line_that_no_clock_understands_changes_nothing(working: Working):
    before = (await working.wants(every_minutes=15)).json()
    answer = await working.wants(cron="99 99 * * *")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["field"] == "cron"
    now = await working.listed()
    assert now["policy"] == before["policy"]
    assert now["next_at"] is not None


async def test_what_is_left_out_is_left_out_of_the_next_one(working: Working):
    await working.wants(excludes=["*.tmp"])
    await working.takes()
    _, order = working.engine.runs[-1]
    assert "--exclude=*.tmp" in order.words


async def test_pinning_unpinning_and_deleting_reach_the_store(working: Working):
    made = await working.takes()
    path = f"/machines/my-box/snapshots/{made}"
    (kept,) = working.repositories.kept.values()
    for pinned in (True, False, True):
        answer = await working.owner.call("PUT", f"{path}/pin", json={"pinned": pinned})
        assert (answer.status_code, answer.json()["pinned"]) == (200, pinned), answer.text
        assert kept[made].kept is pinned
    refused = await working.owner.delete(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert f"dumont snapshot-pin my-box {made} --off" in refused.json()["hint"]
    assert made in kept
    await working.owner.call("PUT", f"{path}/pin", json={"pinned": False})
    assert (await working.owner.delete(path)).status_code == 204
    assert made not in kept
    assert (await working.listed())["items"] == []
    for gone in (path, "/machines/my-box/snapshots/latest"):
        assert (await working.owner.get(gone)).status_code == 404


async def test_pages_of_files_and_changes_leave_nothing_out(working: Working):
    first, second = await working.takes(), await working.takes()
    old = [f"src/{n:02}" for n in range(5)]
    working.repositories.contents[first] = entries(*old, "top")
    working.repositories.contents[second] = entries(*old, "new/a", "new/b", "new/c", "top")
    base, seen, cursor = f"/machines/my-box/snapshots/{second}", [], None
    for _ in range(4):
        where = {"path": "src", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await working.owner.get(f"{base}/files", params=where)).json()
        seen.append([each["path"] for each in page["items"]])
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == [old[:2], old[2:4], old[4:]]
    whole = (await working.owner.get(f"{base}/files?path=src&limit=5")).json()
    assert whole["next_cursor"] is None, "there is no page after the last entry"
    top = (await working.owner.get(f"{base}/files")).json()
    assert [each["path"] for each in top["items"]] == ["top"]

    for limit, more in ((2, True), (3, False)):
        listed = (await working.owner.get(f"{base}/changes?limit={limit}")).json()
        assert (listed["old"], listed["new"]) == (first, second)
        assert (len(listed["items"]), listed["more"]) == (limit, more)
        assert listed["totals"]["added"] == 3, "of all, whatever the page"
    since = (await working.owner.get(f"{base}/changes?since={second}")).json()
    assert (since["old"], since["items"]) == (second, [])
    shown = (await working.owner.get(base)).json()
    assert (shown["before"], shown["changes"]["added"]) == (first, 3)
    shown = (await working.owner.get(f"/machines/my-box/snapshots/{first}")).json()
    assert (shown["before"], shown["changes"]) == (None, None)


def entries(*paths: str) -> list[FileEntry]:
    return [
        FileEntry(path=path, kind=EntryKind.FILE, size=1, mode=0o644, modified_at=T0)
        for path in paths
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StorageError("the bucket is gone"), 502),
        (DependencyUnavailable("the store is away", dependency="s3"), 503),
    ],
)
async def test_what_the_store_says_is_told_to_whoever_looks(
    working: Working, error: DumontError, status: int
):
    made = await working.takes()
    working.repositories.on_call = refuse(error)
    path = f"/machines/my-box/snapshots/{made}"
    for answer in (
        await working.owner.get(f"{path}/files"),
        await working.owner.call("PUT", f"{path}/pin", json={"pinned": True}),
        await working.owner.delete(path),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, error.code), answer.text
        assert answer.json()["detail"] == error.message
    (listed,) = (await working.listed())["items"]
    assert (listed["snapshot_id"], listed["pinned"]) == (made, False), "and nothing is changed"
