"""Keeping workspaces and bringing them back: the engine on a machine, the repository behind it.

Every activity may run twice. A second snapshot sends nothing that the first one sent; a second restore
writes nothing that is right already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from temporalio import activity

from activities.heartbeat import heartbeating
from activities.mirroring import read
from dumont.domain.errors import Conflict, NotFound
from dumont.domain.instances import Message, SshAddress
from dumont.domain.machine import MachinePhase
from dumont.domain.protection import AgentRole, ProtectionStatus
from dumont.domain.snapshots import (
    SNAPSHOT_ID,
    PruneResult,
    RestoreResult,
    SnapshotRecord,
    TransferProgress,
)
from dumont.ports import (
    EngineGrant,
    EngineOrder,
    MachineEngine,
    MachineStore,
    Repositories,
    SnapshotStore,
)

OWN_FILES: Final = "/.dumont/[!c]*"
"""What the product itself keeps in a workspace, but not `.dumont/conflicts`, which is the user's."""

_NAMED: Final = 20
"""So many names of files travel in a result; the snapshot itself has them all."""


class Body(Message):
    """The body of a machine that a snapshot is read from, or a restore writes to."""

    machine_id: str
    owner_id: str
    name: str
    generation: int
    role: AgentRole
    ssh: SshAddress
    flushable: bool = False
    """It is the standby, and its GPU is there: a barrier makes it hold everything."""


class BodyAsk(Message):
    """Input of `choose_body`."""

    machine_id: str
    writes: bool = False
    """Somebody works there: the body that people are on, not the one that mirrors it."""


class TakeAsk(Message):
    """Input of `take_snapshot`."""

    body: Body
    tags: tuple[str, ...] = ()
    pinned: bool = False


class SnapshotOf(Message):
    """One snapshot."""

    owner_id: str
    machine_id: str
    snapshot_id: str


class Failure(Message):
    """Input of `note_failure`."""

    machine_id: str
    error: str
    at: datetime


class RestoreAsk(Message):
    """Input of `restore_snapshot`."""

    body: Body
    snapshot_id: str
    paths: tuple[str, ...] = ()
    folder: str = ""
    total_files: int | None = None
    total_bytes: int | None = None
    small_only: bool = False
    """Only folders, links and small files: the others are for a later ask."""
    keep_changed: bool = False
    """People may work there: what they changed since the first such ask of this snapshot stays."""


class PruneAsk(Message):
    """Input of `prune_repository`."""

    owner_id: str
    dry_run: bool = False


class _Said(BaseModel):
    """What an engine on a machine says; more than this is not read.

    A host that is not trusted may say anything. What a workflow cannot count with, or what cannot be a
    payload, would hold that workflow up for ever.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


_MOST: Final = 2**53
_Count = Annotated[int, Field(ge=0, le=_MOST)]
_Seconds = Annotated[float, Field(ge=0, le=_MOST)]
_SnapshotId = Annotated[str, Field(pattern=rf"^{SNAPSHOT_ID}$")]


class _Totals(_Said):
    files: _Count
    bytes: _Count
    new_raw: _Count
    new_stored: _Count
    seconds: _Seconds
    torn: list[str] = []
    unreadable: list[str] = []


class _Made(_Said):
    id: _SnapshotId
    time: AwareDatetime
    totals: _Totals


class _Problem(_Said):
    path: str
    why: str


class _Restored(_Said):
    snapshot: _SnapshotId
    files: _Count
    bytes: _Count
    unchanged: _Count
    fetched: _Count
    usable_s: _Seconds | None = None
    seconds: _Seconds
    problems: list[_Problem] = []
    kept: list[str] = []
    kept_count: _Count = 0
    later: _Count = 0
    later_bytes: _Count = 0


class SnapshotActivities:
    """Snapshots and restores of machines."""

    def __init__(
        self,
        *,
        engine: MachineEngine,
        repositories: Repositories,
        store: MachineStore,
        snapshots: SnapshotStore,
    ) -> None:
        self._engine = engine
        self._repositories = repositories
        self._store = store
        self._snapshots = snapshots

    @activity.defn
    async def choose_body(self, ask: BodyAsk) -> Body:
        """The standby when there is one that has everything, the GPU otherwise.

        Raises:
            NotFound: There is no such machine.
            Conflict: It has no body now.
        """
        owned = await self._store.owned_machines([ask.machine_id])
        if not owned:
            raise NotFound(f"no machine {ask.machine_id}")
        spec, state = owned[0].spec, owned[0].state
        home, standby = state.instance, state.standby
        on_standby = state.lives_on_standby
        # On its way to sleep it is read once more, until its bodies are given back.
        falling_asleep = state.phase is MachinePhase.HIBERNATING and state.restoring is None
        running = state.phase is MachinePhase.RUNNING or falling_asleep
        spare = running and state.mirrored and state.protection is ProtectionStatus.PROTECTED
        role, ssh = None, None
        if standby is not None and (on_standby or (spare and not ask.writes)):
            role, ssh = AgentRole.STANDBY, standby.ssh
        elif running and home is not None:
            role, ssh = AgentRole.PRIMARY, home.ssh
        if role is None or ssh is None:
            raise Conflict(
                f"{spec.name} is {state.phase.value}: no body of it can be reached now",
                hint=f"dumont show {spec.name}",
            )
        return Body(
            machine_id=spec.machine_id,
            owner_id=spec.owner_id,
            name=spec.name,
            generation=state.generation,
            role=role,
            ssh=ssh,
            flushable=running and role is AgentRole.STANDBY,
        )

    @activity.defn
    async def take_snapshot(self, ask: TakeAsk) -> SnapshotRecord:
        """Have the engine on a body keep the workspace.

        Raises:
            NotReady: It did not end. The next try goes on where this one was.
            AgentRefused, StorageError, PreconditionFailed: It cannot be done.
        """
        body = ask.body
        policy = await self._snapshots.policy(body.machine_id)
        before = await self._snapshots.newest(body.machine_id)
        words = ["snapshot", f"--machine={body.machine_id}", f"--exclude={OWN_FILES}"]
        words += [f"--exclude={pattern}" for pattern in policy.excludes]
        words += [f"--tag={tag}" for tag in ask.tags]
        words += ["--keep"] if ask.pinned else []
        answer = await self._run(
            body,
            EngineOrder(words=tuple(words), folder=""),
            writes=True,
            step=f"reading the {body.role.value}",
            totals=(before.files, before.bytes) if before is not None else (None, None),
        )
        made = read(_Made, answer, "snapshot")
        totals = made.totals
        return SnapshotRecord(
            machine_id=body.machine_id,
            snapshot_id=made.id,
            taken_at=made.time,
            source=body.role,
            files=totals.files,
            bytes=totals.bytes,
            new_bytes=totals.new_raw,
            stored_bytes=totals.new_stored,
            seconds=totals.seconds,
            whole=not totals.unreadable,
            unreadable=_short(totals.unreadable),
            changing=_short(totals.torn),
            tags=ask.tags,
            pinned=ask.pinned,
        )

    @activity.defn
    async def record_snapshot(self, record: SnapshotRecord) -> None:
        """Note a snapshot that was made."""
        await self._snapshots.record(record)

    @activity.defn
    async def newest_snapshot(self, ask: BodyAsk) -> SnapshotRecord | None:
        """The newest whole snapshot of a machine; None when there is none."""
        return await self._snapshots.newest(ask.machine_id)

    @activity.defn
    async def note_failure(self, failure: Failure) -> int:
        """Note that a snapshot was not made; returns how many were not, in a row."""
        return await self._snapshots.record_failure(
            failure.machine_id, error=failure.error, at=failure.at
        )

    @activity.defn
    async def verify_snapshot(self, which: SnapshotOf) -> datetime:
        """See that the store has all that a snapshot needs, by its own listing; returns when.

        Raises:
            StorageError: It has not; names what is lost.
            DependencyUnavailable: The store does not answer.
        """
        async with heartbeating():
            await self._repositories.verify(which.owner_id, which.snapshot_id)
        at = datetime.now(UTC)
        await self._snapshots.verified(which.machine_id, which.snapshot_id, at=at)
        return at

    @activity.defn
    async def retire_snapshots(self, which: SnapshotOf) -> list[str]:
        """Delete what a machine's policy keeps no longer; returns the ids."""
        policy = await self._snapshots.policy(which.machine_id)
        async with heartbeating():
            gone = await self._repositories.retire(which.owner_id, which.machine_id, policy)
        await self._snapshots.forgotten(which.machine_id, gone)
        return gone

    @activity.defn
    async def restore_snapshot(self, ask: RestoreAsk) -> RestoreResult:
        """Have the engine on a body bring files back, each verified.

        Raises:
            NotReady: It did not end. The next try does not fetch what is there already.
            AgentRefused, StorageError, PreconditionFailed: It cannot be done.
        """
        words = ["restore", *(f"--path={path}" for path in ask.paths)]
        words += ["--small-only"] if ask.small_only else []
        words += ["--keep-changed"] if ask.keep_changed else []
        words.append(ask.snapshot_id)
        answer = await self._run(
            ask.body,
            EngineOrder(words=tuple(words), folder=ask.folder),
            writes=False,
            step=f"writing to the {ask.body.role.value}",
            totals=(ask.total_files, ask.total_bytes) if not ask.paths else (None, None),
        )
        done = read(_Restored, answer, "restore")
        return RestoreResult(
            snapshot_id=done.snapshot,
            folder=ask.folder,
            body=ask.body.role,
            files=done.files,
            bytes=done.bytes,
            unchanged=done.unchanged,
            fetched_bytes=done.fetched,
            usable_s=done.usable_s,
            seconds=done.seconds,
            problems=_short([f"{each.path}: {each.why}" for each in done.problems]),
            kept=done.kept_count,
            kept_names=_short(done.kept[:_NAMED]),
            later=done.later,
            later_bytes=done.later_bytes,
        )

    @activity.defn
    async def prune_repository(self, ask: PruneAsk) -> PruneResult:
        """Free what no snapshot of an owner needs, or say what would be freed."""
        async with heartbeating():
            return await self._repositories.prune(ask.owner_id, dry_run=ask.dry_run)

    async def _run(
        self,
        body: Body,
        order: EngineOrder,
        *,
        writes: bool,
        step: str,
        totals: tuple[int | None, int | None],
    ) -> dict[str, Any]:
        now = [TransferProgress(step=step, total_files=totals[0], total_bytes=totals[1])]

        async def grant() -> EngineGrant:
            return await self._repositories.grant(
                body.owner_id, holder=body.machine_id, writes=writes
            )

        async with heartbeating(lambda: now[0].model_dump(mode="json")):
            return await self._engine.run(
                body.ssh,
                machine_id=body.machine_id,
                order=order,
                grant=await grant(),
                renew=grant,
                on_progress=_listener(now),
            )


def _listener(now: list[TransferProgress]) -> Callable[[dict[str, Any]], None]:
    """Takes in what an engine says of its progress; nonsense is passed over. The clock is ours."""
    step, began = now[0].step, time.monotonic()

    def hear(said: dict[str, Any]) -> None:
        nonlocal began

        def number(name: str) -> int | None:
            value = said.get(name)
            return int(value) if isinstance(value, int | float) and 0 <= value < _MOST else None

        if said.get("waits"):
            now[0] = now[0].model_copy(update={"step": "waiting for another run on the machine"})
            began = time.monotonic()
            return
        now[0] = (
            now[0]
            .model_copy(
                update={
                    "step": step,
                    "files": number("files") or 0,
                    "bytes": number("bytes") or 0,
                    "unchanged_bytes": number("unchanged"),
                    "new_bytes": number("new_raw"),
                    "sent_bytes": number("sent") or number("fetched"),
                    "seconds": round(time.monotonic() - began, 1),
                }
            )
            .estimated()
        )

    return hear


def _short(names: list[str]) -> tuple[str, ...]:
    more = len(names) - _NAMED
    kept = tuple(name[:500].encode(errors="replace").decode() for name in names[:_NAMED])
    return (*kept, f"and {more} more") if more > 0 else kept
