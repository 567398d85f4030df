"""The only place of the API that talks to Temporal: commands to machines, and short look-ups.

Connects at the first use and stays connected; a Temporal that is away makes each call fail within
seconds with `DependencyUnavailable`, and is found again when it is back.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError
from temporalio.exceptions import TimeoutError as TemporalTimeout
from temporalio.service import RPCError, RPCStatusCode

from activities.accounts import AccountStatus
from activities.market import Browse, Browsed
from activities.mirroring import FlushAsk
from dumont.config import Settings
from dumont.domain.errors import DependencyUnavailable, DumontError, NotFound
from dumont.domain.machine import MachineSpec, MachineState
from dumont.domain.protection import AgentNews, Barrier
from dumont.temporal.client import connect
from dumont.temporal.codec import CodecKey
from dumont.temporal.failures import error_of
from dumont.temporal.ids import fleet_watch_id, machine_workflow_id
from dumont.temporal.queues import CONTROL
from dumont.temporal.refusals import no_worker, refusals
from workflows.failover_messages import DrillRequest, FailBackRequest
from workflows.fleet_watch import FleetWatch
from workflows.lookups import BrowseOffers, FetchLogs, Flush, ProviderAccounts
from workflows.machine import DestroyRequest, Machine, MachineInput
from workflows.rest import HibernateRequest, WakeRequest

DEPENDENCY: Final = "temporal"

_CONNECT_S: Final = 5.0
_CALL: Final = timedelta(seconds=5)
_UPDATE: Final = timedelta(seconds=10)
"""An update is accepted by a worker, not by the server: time for one that has to load history."""
_LOOKUP: Final = timedelta(seconds=30)
_LOOKUP_WAIT_S: Final = 35.0
_FLUSH: Final = timedelta(minutes=11)
"""The agent's own ten minutes, and a minute to reach it."""
_FLUSH_WAIT_S: Final = 665.0


class Commands:
    """What the API asks of the workflows.

    Args:
        settings: Where Temporal is.
        codec_keys: Newest first; payloads are sealed with them.
    """

    def __init__(self, settings: Settings, *, codec_keys: Sequence[CodecKey]) -> None:
        self._settings = settings
        self._codec_keys = codec_keys
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def start_machine(self, spec: MachineSpec) -> None:
        """Start a machine's workflow. One that ever ran under this id is left alone.

        Raises:
            DependencyUnavailable: Temporal did not confirm. The start may have succeeded all the
                same; then the workflow writes the machine's row itself.
        """
        async with self.answering() as client:
            try:
                await client.start_workflow(
                    Machine.run,
                    MachineInput(spec=spec, timing=self._settings.timing),
                    id=machine_workflow_id(spec.machine_id),
                    task_queue=CONTROL,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    static_summary=f"machine {spec.name}",
                    rpc_timeout=_CALL,
                )
            except WorkflowAlreadyStartedError:
                return

    async def destroy_machine(self, machine_id: str, *, update_id: str, reason: str) -> None:
        """Ask a machine to end itself; returns once that is durable.

        Raises:
            NotFound: No such workflow runs: it never started, or has ended.
            DependencyUnavailable: Nobody accepted it. Ask again with the same `update_id`.
        """
        async with self.answering() as client:
            handle = client.get_workflow_handle(machine_workflow_id(machine_id))
            try:
                await handle.start_update(
                    Machine.destroy,
                    DestroyRequest(reason=reason),
                    id=update_id,
                    wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                    rpc_timeout=_UPDATE,
                )
            except WorkflowUpdateFailedError:
                return  # its validator says that it is destroyed already
            except WorkflowUpdateRPCTimeoutOrCancelledError as error:
                raise no_worker() from error
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    raise NotFound(f"no workflow of machine {machine_id} runs") from error
                raise

    async def drill(self, machine_id: str, request: DrillRequest, *, update_id: str) -> None:
        """Ask a machine to fail over on purpose; returns once that is durable.

        Raises:
            Conflict: Its state does not allow it now.
            NotFound: No such workflow runs.
            DependencyUnavailable: Nobody accepted it. Ask again with the same `update_id`.
        """
        async with self._commanding(machine_id) as machine:
            await machine.execute_update(Machine.drill, request, id=update_id, rpc_timeout=_UPDATE)

    async def fail_back(self, machine_id: str, request: FailBackRequest, *, update_id: str) -> None:
        """Ask a machine to return to its GPU as soon as it can. Raises like `drill`."""
        async with self._commanding(machine_id) as machine:
            await machine.execute_update(
                Machine.fail_back, request, id=update_id, rpc_timeout=_UPDATE
            )

    async def hibernate(
        self, machine_id: str, request: HibernateRequest, *, update_id: str
    ) -> None:
        """Ask a machine to keep its workspace and give back what it rents. Raises like `drill`."""
        async with self._commanding(machine_id) as machine:
            await machine.execute_update(
                Machine.hibernate, request, id=update_id, rpc_timeout=_UPDATE
            )

    async def wake(self, machine_id: str, request: WakeRequest, *, update_id: str) -> None:
        """Ask a hibernated machine to come back. Raises like `drill`."""
        async with self._commanding(machine_id) as machine:
            await machine.execute_update(Machine.wake, request, id=update_id, rpc_timeout=_UPDATE)

    async def flush(self, machine_id: str) -> Barrier:
        """Wait until everything written before is on the machine's standby; ten minutes at most.

        Raises:
            DumontError: Why it cannot be promised.
            DependencyUnavailable: Temporal or the workers do not answer.
        """
        async with self.looking_up(within_s=_FLUSH_WAIT_S) as client:
            return await client.execute_workflow(
                Flush.run,
                FlushAsk(machine_id=machine_id),
                id=f"flush/{machine_id}/{uuid.uuid4()}",
                task_queue=CONTROL,
                execution_timeout=_FLUSH,
            )

    async def tell_agent_news(self, machine_id: str, news: AgentNews) -> None:
        """Tell a machine that something changed at one of its agents.

        Raises:
            NotFound: No such workflow runs.
            DependencyUnavailable: Temporal does not answer.
        """
        async with self._commanding(machine_id) as machine:
            await machine.signal(Machine.agent_news, news, rpc_timeout=_CALL)

    async def wake_watches(self, provider: str) -> int:
        """Let the watches over a provider's accounts look now; returns how many there are.

        Raises:
            DependencyUnavailable: Temporal does not answer.
        """
        prefix, woken = fleet_watch_id(provider, ""), 0
        async with self.answering() as client:
            query = "WorkflowType = 'FleetWatch' AND ExecutionStatus = 'Running'"
            async for found in client.list_workflows(query, rpc_timeout=_CALL):
                if found.id.startswith(prefix):
                    handle = client.get_workflow_handle(found.id)
                    await handle.signal(FleetWatch.wake, rpc_timeout=_CALL)
                    woken += 1
        return woken

    async def browse_offers(self, ask: Browse) -> Browsed:
        """What the market rents now.

        Raises:
            DumontError: What the provider said.
            DependencyUnavailable: Temporal or the workers do not answer.
        """
        async with self.looking_up() as client:
            return await client.execute_workflow(
                BrowseOffers.run,
                ask,
                id=f"lookup/offers/{uuid.uuid4()}",
                task_queue=CONTROL,
                execution_timeout=_LOOKUP,
            )

    async def fetch_logs(self, instance_id: str) -> str:
        """The output of an instance. Raises like `browse_offers`."""
        async with self.looking_up() as client:
            return await client.execute_workflow(
                FetchLogs.run,
                instance_id,
                id=f"lookup/logs/{uuid.uuid4()}",
                task_queue=CONTROL,
                execution_timeout=_LOOKUP,
            )

    async def provider_accounts(self) -> list[AccountStatus]:
        """Whether providers accept our keys. Raises like `browse_offers`."""
        async with self.looking_up() as client:
            return await client.execute_workflow(
                ProviderAccounts.run,
                id=f"lookup/accounts/{uuid.uuid4()}",
                task_queue=CONTROL,
                execution_timeout=_LOOKUP,
            )

    async def workers(self) -> int:
        """How many workers have asked for workflow tasks lately; also a check of Temporal.

        Raises:
            DependencyUnavailable: Temporal does not answer.
        """
        async with self.answering() as client:
            answer = await client.workflow_service.describe_task_queue(
                DescribeTaskQueueRequest(
                    namespace=client.namespace,
                    task_queue=TaskQueue(name=CONTROL),
                    task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
                ),
                timeout=_CALL,
            )
            return len(answer.pollers)

    @asynccontextmanager
    async def _commanding(
        self, machine_id: str
    ) -> AsyncIterator[WorkflowHandle[Machine, MachineState]]:
        """A machine that is asked something; its refusal is told in our words.

        Its handlers only note the wish: their result is awaited, for a refusal is one.
        """
        async with self.answering() as client:
            with refusals(machine_id):
                yield client.get_workflow_handle(machine_workflow_id(machine_id))

    @asynccontextmanager
    async def looking_up(self, *, within_s: float = _LOOKUP_WAIT_S) -> AsyncIterator[Client]:
        """A client for a workflow whose answer is awaited; its failure is told in our words."""
        try:
            async with asyncio.timeout(within_s), self.answering() as client:
                try:
                    yield client
                except WorkflowFailureError as failure:
                    raise _failed_look_up(failure) from failure
        except TimeoutError as error:
            raise no_worker() from error

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[Client]:
        """The client; Temporal's own troubles become `DependencyUnavailable`."""
        client = await self._connected()
        try:
            yield client
        except RPCError as error:
            raise self._away(error) from error

    async def _connected(self) -> Client:
        if self._client is None:
            async with self._connecting:
                if self._client is None:
                    self._client = await self._connect()
        return self._client

    async def _connect(self) -> Client:
        try:
            async with asyncio.timeout(_CONNECT_S):
                return await connect(
                    address=self._settings.temporal_address,
                    namespace=self._settings.temporal_namespace,
                    codec_keys=self._codec_keys,
                )
        except (TimeoutError, DependencyUnavailable) as error:
            raise DependencyUnavailable(
                f"Temporal does not answer at {self._settings.temporal_address}",
                dependency=DEPENDENCY,
                hint="is it started? check TEMPORAL_ADDRESS",
            ) from error

    def _away(self, error: RPCError) -> DependencyUnavailable:
        if error.status is RPCStatusCode.NOT_FOUND and "amespace" in error.message:
            return DependencyUnavailable(
                f"Temporal has no namespace {self._settings.temporal_namespace!r}",
                dependency=DEPENDENCY,
                hint="create it, or check TEMPORAL_NAMESPACE",
            )
        return DependencyUnavailable(
            f"Temporal does not answer ({error.status.name.lower()}: {error.message})",
            dependency=DEPENDENCY,
            hint=f"is it up at {self._settings.temporal_address}? nothing was changed; try again",
        )


def _failed_look_up(failure: WorkflowFailureError) -> DumontError:
    cause: BaseException | None = failure.cause
    while isinstance(cause, FailureError):
        if isinstance(cause, TemporalTimeout):
            return no_worker()
        cause = cause.cause
    return error_of(failure.cause)
