"""Keeping a workspace in the object store, and bringing it back."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.mirroring import FlushAsk, MirrorActivities
    from activities.records import RecordActivities
    from activities.snapshots import (
        Body,
        BodyAsk,
        Failure,
        PruneAsk,
        RestoreAsk,
        SnapshotActivities,
        SnapshotOf,
        TakeAsk,
    )
    from dumont.domain.errors import Conflict, DumontError
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.instances import Message
    from dumont.domain.snapshots import PruneResult, RestoreResult, SnapshotRecord
    from dumont.temporal.failures import error_of, to_application_error
    from workflows.options import LOOKUP, ONCE, RECORD, STORE, TRANSFER

_LOOKS = 3
"""So often the machine is looked at anew: its body may have died while it was read."""
_MATTERS_OF_COURSE = ("conflict", "precondition_failed")
"""The machine has no body now, or the deployment has no store: nobody had asked for this snapshot."""
_ALARMING = 3
"""So many failures in a row make an alert; the first one is told too, the others are not."""


class SnapshotInput(Message):
    """Input of `Snapshot`."""

    machine_id: str
    tags: tuple[str, ...] = ()
    pinned: bool = False
    flush: bool = False
    """First wait until the standby has everything written so far."""
    must_flush: bool = False
    """Where that cannot be had, the GPU itself is read: what is kept now may be all that is left."""
    asked: bool = False
    """Somebody asked for this one: a machine that has no body now is an error, not a matter of course."""


@workflow.defn
class Snapshot:
    """A workspace is kept, found whole in the store, and what is too old is let go."""

    @workflow.run
    async def run(self, input: SnapshotInput) -> SnapshotRecord | None:
        """Make one. None: there was nothing to read or nowhere to keep it, and nobody had asked."""
        try:
            body, record = await self._taken(input)
            verified_at = await self._verified(body, record)
        except (ActivityError, DumontError) as failure:
            if is_cancelled_exception(failure):
                raise
            error = error_of(failure)
            if error.code in _MATTERS_OF_COURSE and not input.asked:
                return None
            await self._failed(input, error)
            raise to_application_error(error) from failure
        await self._old_ones_go(body, record)
        return record.model_copy(update={"verified_at": verified_at})

    async def _taken(self, input: SnapshotInput) -> tuple[Body, SnapshotRecord]:
        """The body that is there now is read; when it dies meanwhile, the one that is there then."""
        for look in range(1, _LOOKS + 1):
            body = await workflow.execute_activity_method(
                SnapshotActivities.choose_body, BodyAsk(machine_id=input.machine_id), **LOOKUP
            )
            if input.flush and body.flushable:
                body = await self._flushed(body, must=input.must_flush)
            try:
                record = await workflow.execute_activity_method(
                    SnapshotActivities.take_snapshot,
                    TakeAsk(body=body, tags=input.tags, pinned=input.pinned),
                    summary=f"{body.name}: from its {body.role.value}",
                    **TRANSFER,
                )
            except ActivityError as failure:
                if is_cancelled_exception(failure) or look == _LOOKS:
                    raise
                if not error_of(failure).retryable:
                    raise
                continue
            await self._recorded(body, record)
            return body, record
        raise AssertionError("the last look returns or raises")

    async def _flushed(self, body: Body, *, must: bool) -> Body:
        """Have the standby hold everything; returns what is to be read.

        If it cannot now, what it holds is kept all the same, unless that must be all there is.

        Raises:
            Conflict: Somebody is writing, and it must be everything.
        """
        try:
            barrier = await workflow.execute_activity_method(
                MirrorActivities.flush,
                FlushAsk(machine_id=body.machine_id),
                summary="the standby gets everything first",
                **ONCE,
            )
        except ActivityError as failure:
            if not must or is_cancelled_exception(failure):
                return body
            return await workflow.execute_activity_method(
                SnapshotActivities.choose_body,
                BodyAsk(machine_id=body.machine_id, writes=True),
                summary="no barrier: the GPU itself is read",
                **LOOKUP,
            )
        if must and barrier.changing:
            raise Conflict(f"somebody is writing: {barrier.changing[0]}")
        return body

    async def _recorded(self, body: Body, record: SnapshotRecord) -> None:
        await workflow.execute_activity_method(SnapshotActivities.record_snapshot, record, **RECORD)
        parts = [f"{record.files:,} files", f"{_size(record.bytes)}"]
        parts.append(f"{_size(record.stored_bytes)} sent, from the {record.source.value}")
        if not record.whole:
            parts.append(f"NOT WHOLE: {record.unreadable[0]}")
        await _tell(body.machine_id, EventKind.SNAPSHOT_TAKEN, "; ".join(parts), body.generation)

    async def _verified(self, body: Body, record: SnapshotRecord) -> datetime:
        return await workflow.execute_activity_method(
            SnapshotActivities.verify_snapshot,
            SnapshotOf(
                owner_id=body.owner_id,
                machine_id=body.machine_id,
                snapshot_id=record.snapshot_id,
            ),
            **STORE,
        )

    async def _old_ones_go(self, body: Body, record: SnapshotRecord) -> None:
        """That old snapshots could not be let go is no failure of the new one: the next one tries."""
        with suppress(ActivityError):
            await workflow.execute_activity_method(
                SnapshotActivities.retire_snapshots,
                SnapshotOf(
                    owner_id=body.owner_id,
                    machine_id=body.machine_id,
                    snapshot_id=record.snapshot_id,
                ),
                **LOOKUP,
            )

    async def _failed(self, input: SnapshotInput, error: DumontError) -> None:
        failures = await workflow.execute_activity_method(
            SnapshotActivities.note_failure,
            Failure(machine_id=input.machine_id, error=error.message, at=workflow.now()),
            **RECORD,
        )
        if input.asked or failures == 1:
            await _tell(input.machine_id, EventKind.SNAPSHOT_FAILED, error.message)
        elif failures == _ALARMING:
            summary = f"{failures} snapshots in a row failed: {error.message}"
            await _tell(input.machine_id, EventKind.ALERT, summary)


class RestoreInput(Message):
    """Input of `RestoreSnapshot`."""

    machine_id: str
    """Where to."""
    snapshot_id: str
    paths: tuple[str, ...] = ()
    folder: str = ""
    """Below the workspace; empty: the workspace itself, after what is there was kept."""
    total_files: int | None = None
    total_bytes: int | None = None
    onto: Body | None = None
    """This body, which nobody has used yet; otherwise the one that people are on now."""
    small_only: bool = False
    """Only what a shell needs: folders, links and small files."""
    keep_changed: bool = False
    """What people have changed since the restore began is theirs."""


@workflow.defn
class RestoreSnapshot:
    """Files of a snapshot are brought back onto a machine, each verified."""

    @workflow.run
    async def run(self, input: RestoreInput) -> RestoreResult:
        """Bring them back; what is overwritten is kept in a snapshot first."""
        before, body = None, input.onto
        if not input.folder and body is None:
            before = await workflow.execute_child_workflow(
                Snapshot.run,
                SnapshotInput(machine_id=input.machine_id, tags=("before-restore",), asked=True),
                id=f"{workflow.info().workflow_id}/before",
            )
        if body is None:
            body = await workflow.execute_activity_method(
                SnapshotActivities.choose_body,
                BodyAsk(machine_id=input.machine_id, writes=True),
                **LOOKUP,
            )
        done = await workflow.execute_activity_method(
            SnapshotActivities.restore_snapshot,
            RestoreAsk(
                body=body,
                snapshot_id=input.snapshot_id,
                paths=input.paths,
                folder=input.folder,
                total_files=input.total_files,
                total_bytes=input.total_bytes,
                small_only=input.small_only,
                keep_changed=input.keep_changed,
            ),
            summary=f"{body.name}: {input.snapshot_id} to its {body.role.value}",
            **TRANSFER,
        )
        where = f"workspace/{done.folder}" if done.folder else "the workspace"
        problems = f"; NOT restored: {done.problems[0]}" if done.problems else ""
        if done.kept:
            problems += f"; {done.kept:,} that people have changed meanwhile are left as they are"
        if input.small_only:
            return done
        await _tell(
            input.machine_id,
            EventKind.RESTORED,
            f"{done.files:,} files, {_size(done.bytes)} of {done.snapshot_id} are back and verified "
            f"in {where}{problems}",
            body.generation,
        )
        return done.model_copy(update={"before": before.snapshot_id if before else None})


@workflow.defn
class PruneRepository:
    """What no snapshot of an owner needs is freed."""

    @workflow.run
    async def run(self, ask: PruneAsk) -> PruneResult:
        """Free it, or say what would be freed."""
        return await workflow.execute_activity_method(
            SnapshotActivities.prune_repository, ask, **STORE
        )


async def _tell(machine_id: str, kind: EventKind, summary: str, generation: int = 0) -> None:
    event = MachineEvent(
        key=f"{machine_id}/{kind.value}/{workflow.info().run_id}",
        machine_id=machine_id,
        kind=kind,
        at=workflow.now(),
        generation=generation,
        summary=summary,
    )
    await workflow.execute_activity_method(RecordActivities.record_events, [event], **RECORD)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"
