"""One worker process: connect, prepare what must exist before polling, poll until told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final

import structlog
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError
from temporalio.worker import Interceptor, Worker

from dumont.config import Settings
from dumont.db.engine import Database
from dumont.domain.errors import DependencyUnavailable, InvalidInput
from dumont.security.keys import load_or_create_keys
from dumont.temporal.client import connect
from dumont.temporal.codec import CodecKey
from dumont.temporal.ids import RECONCILE, RECONCILE_STANDBYS, fleet_watch_id
from dumont.temporal.queues import ALL, CONTROL, PROVIDER_GCP, PROVIDER_VAST
from dumont.temporal.schedules import ensure_schedule
from dumont.temporal.search_attributes import register_search_attributes
from worker.compose import (
    Parts,
    control_activities,
    sweep_of,
    vast_activities,
    vast_provider,
    watch_of,
)
from worker.compose_gcp import gcp_activities, gcp_provider
from worker.compose_leftovers import ensure_leftovers_sweep, vast_leftovers
from worker.compose_money import ensure_money_sweeps, money_activities
from worker.compose_snapshots import ensure_upkeep, keeping_activities
from worker.health import health_server
from worker.roles import control_worker, gcp_worker, vast_worker
from workflows.fleet_watch import FleetWatch, FleetWatchInput

log = structlog.get_logger("worker")

TEMPORAL_PATIENCE_S: Final = 60.0
"""A worker started beside Temporal waits this long for it before it gives up."""


async def run(
    settings: Settings,
    *,
    roles: Sequence[str],
    health_port: int = 0,
    interceptors: Sequence[Interceptor] = (),
) -> None:
    """Work until SIGTERM or SIGINT, then let running activities finish for a while.

    Args:
        settings: The process's settings.
        roles: Task queues to serve.
        health_port: Port of the health server; 0 for none.
        interceptors: More of them, for tests that kill a worker at a chosen moment.

    Raises:
        InvalidInput: An unknown role.
        DependencyUnavailable: Temporal stays away.
        PreconditionFailed: A role lacks its key.
    """
    unknown = [role for role in roles if role not in ALL]
    if unknown:
        raise InvalidInput(
            f"unknown role {unknown[0]!r}; there are {', '.join(ALL)}", field="roles"
        )
    stop = _stop_event()
    keys = load_or_create_keys(settings.keys_path)
    client = await _connect(settings, [CodecKey(key_id=k.key_id, key=k.key) for k in keys.codec])
    parts = Parts(
        settings=settings,
        keys=keys,
        client=client,
        database=Database(settings.database_url.get_secret_value()),
    )
    await register_search_attributes(client)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(parts.database.close)
        for role in roles:
            await stack.enter_async_context(await _worker(role, parts, stack, interceptors))
        if health_port:
            await stack.enter_async_context(
                health_server(health_port, lambda: {"ok": True, "roles": list(roles)})
            )
        log.info("polling", roles=list(roles), temporal=settings.temporal_address)
        await stop.wait()
        log.info("stopping")


async def _worker(
    role: str, parts: Parts, stack: AsyncExitStack, interceptors: Sequence[Interceptor]
) -> Worker:
    if role == CONTROL:
        acts = control_activities(
            parts, keeping=keeping_activities(parts), money=money_activities(parts)
        )
        await ensure_upkeep(parts)
        await ensure_money_sweeps(parts)
        return control_worker(parts.client, acts, interceptors=interceptors)
    if role == PROVIDER_VAST:
        provider = vast_provider(parts.settings)
        stack.push_async_callback(provider.aclose)
        await _ensure_watch(parts, PROVIDER_VAST, account=provider.account, sweep=RECONCILE)
        await ensure_leftovers_sweep(parts, PROVIDER_VAST)
        vast = vast_activities(parts, provider, leftovers=vast_leftovers(parts, provider))
        return vast_worker(parts.client, vast, interceptors=interceptors)
    assert role == PROVIDER_GCP
    project = gcp_provider(parts.settings)
    stack.callback(project.close)
    await _ensure_watch(parts, PROVIDER_GCP, account=project.account, sweep=RECONCILE_STANDBYS)
    await ensure_leftovers_sweep(parts, PROVIDER_GCP)
    return gcp_worker(parts.client, gcp_activities(parts, project), interceptors=interceptors)


async def _ensure_watch(parts: Parts, queue: str, *, account: str, sweep: str) -> None:
    """Have the account watched and swept, whoever started first."""
    settings = parts.settings
    watch = FleetWatchInput(watch=watch_of(settings), queue=queue)
    await parts.client.start_workflow(
        FleetWatch.run,
        watch,
        id=fleet_watch_id(queue.removeprefix("provider-"), account),
        task_queue=CONTROL,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    await ensure_schedule(
        parts.client,
        schedule_id=sweep,
        workflow="Reconcile",
        arg=sweep_of(settings, queue),
        task_queue=CONTROL,
        every=timedelta(seconds=settings.reconcile_every_s),
    )


async def _connect(settings: Settings, codec_keys: Sequence[CodecKey]) -> Client:
    """Connect, and wait for a Temporal that is not there yet."""
    deadline = asyncio.get_running_loop().time() + TEMPORAL_PATIENCE_S
    while True:
        try:
            client = await connect(
                address=settings.temporal_address,
                namespace=settings.temporal_namespace,
                codec_keys=codec_keys,
            )
            await client.workflow_service.describe_namespace(_namespace(client))
            return client
        except (DependencyUnavailable, RPCError) as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise DependencyUnavailable(
                    f"Temporal at {settings.temporal_address} did not become ready within "
                    f"{TEMPORAL_PATIENCE_S:g} s: {error}",
                    dependency="temporal",
                    hint="check TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE",
                ) from error
            log.warning("temporal is not ready", error=str(error))
            await asyncio.sleep(1)


def _namespace(client: Client) -> Any:
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

    return DescribeNamespaceRequest(namespace=client.namespace)


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
