"""What the API asks of the workflows about snapshots: runs that take their time, and look-ups."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from pydantic import ValidationError
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.repository import ChangesAsk, ChangesFound, FilesAsk, FilesFound, PinAsk
from activities.snapshots import PruneAsk, SnapshotOf
from api.commands import Commands
from dumont.domain.errors import NotFound
from dumont.domain.snapshot_resources import RunError, RunView
from dumont.domain.snapshots import (
    PruneResult,
    RestoreResult,
    SnapshotPolicy,
    SnapshotRecord,
    TransferProgress,
)
from dumont.temporal import snapshot_schedules
from dumont.temporal.failures import error_of
from dumont.temporal.ids import run_workflow_id
from dumont.temporal.queues import CONTROL
from workflows.repository_lookups import ForgetSnapshot, ListChanges, ListFiles, PinSnapshot
from workflows.snapshots import (
    PruneRepository,
    RestoreInput,
    RestoreSnapshot,
    Snapshot,
    SnapshotInput,
)

Kind = Literal["snapshot", "restore", "prune"]

_CALL: Final = timedelta(seconds=5)
_LOOKUP: Final = timedelta(seconds=60)
_LOOKUP_WAIT_S: Final = 62.0
_KINDS: Final[dict[str, Kind]] = {
    "Snapshot": "snapshot",
    "RestoreSnapshot": "restore",
    "PruneRepository": "prune",
}
_RESULTS: Final[dict[Kind, tuple[str, type[Any]]]] = {
    "snapshot": ("snapshot", SnapshotRecord),
    "restore": ("restored", RestoreResult),
    "prune": ("pruned", PruneResult),
}


class SnapshotCommands:
    """Snapshots as workflows.

    Every method may raise `DependencyUnavailable` when Temporal or the workers do not answer.

    Args:
        commands: The connection.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def take(self, order: SnapshotInput, *, key: str) -> str:
        """Start a snapshot; returns the run. The same key again is the same run."""
        return await self._start("snapshot", Snapshot.run, order, order.machine_id, key)

    async def restore(self, order: RestoreInput, *, key: str) -> str:
        """Start a restore; returns the run."""
        return await self._start("restore", RestoreSnapshot.run, order, order.machine_id, key)

    async def prune(self, machine_id: str, ask: PruneAsk, *, key: str) -> str:
        """Start a prune of the repository that a machine's owner has; returns the run."""
        return await self._start("prune", PruneRepository.run, ask, machine_id, key)

    async def run(self, machine_id: str, run: str) -> RunView:
        """How far a run is, or how it ended.

        Raises:
            NotFound: There is no such run, or it ended too long ago.
        """
        async with self._commands.answering() as client:
            handle = client.get_workflow_handle(run_workflow_id(machine_id, run))
            try:
                found = await handle.describe(rpc_timeout=_CALL)
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND and "amespace" not in error.message:
                    raise NotFound(f"no run {run} of this machine") from error
                raise
            kind = _KINDS[found.workflow_type]
            view = RunView(
                run=run,
                kind=kind,
                state=_state(found),
                started_at=found.start_time,
                ended_at=found.close_time,
                progress=None,
                tries=_tries(found),
            )
            if view.state == "running":
                return view.model_copy(update={"progress": await _progress(client, found)})
            name, model = _RESULTS[kind]
            try:
                typed = client.get_workflow_handle(
                    handle.id, run_id=found.run_id, result_type=model
                )
                return view.model_copy(update={name: await typed.result()})
            except WorkflowFailureError as failure:
                cause = error_of(failure.cause)
                said = RunError(code=cause.code, message=cause.message, hint=cause.hint)
                return view.model_copy(update={"error": said})

    async def files(self, ask: FilesAsk) -> FilesFound:
        """What is in one folder of a snapshot."""
        found: FilesFound = await self._ask(ListFiles.run, ask, FilesFound)
        return found

    async def changes(self, ask: ChangesAsk) -> ChangesFound:
        """What changed between two snapshots."""
        found: ChangesFound = await self._ask(ListChanges.run, ask, ChangesFound)
        return found

    async def pin(self, ask: PinAsk) -> None:
        """Let no rule delete a snapshot, or let rules decide again."""
        await self._ask(PinSnapshot.run, ask, None)

    async def forget(self, which: SnapshotOf) -> None:
        """Delete a snapshot."""
        await self._ask(ForgetSnapshot.run, which, None)

    async def schedule(self, machine_id: str, policy: SnapshotPolicy) -> None:
        """Have a machine's schedule as its policy wants it."""
        async with self._commands.answering() as client:
            await snapshot_schedules.apply(client, machine_id, policy)

    async def next_at(self, machine_id: str) -> datetime | None:
        """When the schedule makes the next one; None when none is planned."""
        async with self._commands.answering() as client:
            return await snapshot_schedules.next_at(client, machine_id)

    async def _start(self, kind: Kind, workflow: Any, arg: Any, machine_id: str, key: str) -> str:
        run = f"{kind}-{uuid.uuid5(uuid.NAMESPACE_OID, key)}"
        async with self._commands.answering() as client:
            with suppress(WorkflowAlreadyStartedError):  # the same key is the same run
                await client.start_workflow(
                    workflow,
                    arg,
                    id=run_workflow_id(machine_id, run),
                    task_queue=CONTROL,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    rpc_timeout=_CALL,
                )
        return run

    async def _ask(self, workflow: Any, arg: Any, result: type[Any] | None) -> Any:
        async with self._commands.looking_up(within_s=_LOOKUP_WAIT_S) as client:
            return await client.execute_workflow(
                workflow,
                arg,
                id=f"lookup/repository/{uuid.uuid4()}",
                task_queue=CONTROL,
                execution_timeout=_LOOKUP,
                result_type=result,
            )


def _state(found: WorkflowExecutionDescription) -> Literal["running", "done", "failed"]:
    if found.status is WorkflowExecutionStatus.RUNNING:
        return "running"
    return "done" if found.status is WorkflowExecutionStatus.COMPLETED else "failed"


def _tries(found: WorkflowExecutionDescription) -> int:
    return max((each.attempt for each in found.raw_description.pending_activities), default=1)


async def _progress(client: Client, found: WorkflowExecutionDescription) -> TransferProgress | None:
    """What the activity under way said last of itself."""
    for pending in found.raw_description.pending_activities:
        step = pending.activity_type.name.replace("_", " ")
        if not pending.heartbeat_details.payloads:
            return TransferProgress(step=step)
        try:
            said = await client.data_converter.decode(
                pending.heartbeat_details.payloads, [TransferProgress]
            )
        except (ValidationError, ValueError, RuntimeError):
            return TransferProgress(step=step)
        return said[0] if said else TransferProgress(step=step)
    return None
