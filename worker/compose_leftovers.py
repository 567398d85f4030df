"""From settings to the sweeps over leftovers: at each cloud, in Temporal and in the object store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from temporalio.client import Client

from activities.leftovers import EndLeftover, FindLeftovers, LeftoverActivities, LeftoverSurvey
from dumont.config import Settings
from dumont.db.leftovers import PostgresLeftovers
from dumont.domain import leftovers
from dumont.domain.errors import RequestRefused
from dumont.domain.labels import prefix
from dumont.domain.leftovers import Leftover, LeftoverKind, LeftoverLimits
from dumont.domain.protection import AgentRole
from dumont.ports import CloudRemains, InstanceProvider, VmProvider
from dumont.temporal import machine_schedules
from dumont.temporal.ids import LEFTOVERS, LEFTOVERS_GCP, LEFTOVERS_VAST
from dumont.temporal.queues import CONTROL, PROVIDER_GCP, PROVIDER_VAST
from dumont.temporal.schedules import ensure_schedule
from worker.compose import Entities, Parts
from workflows.leftovers import LeftoversInput

EVERY: Final = timedelta(minutes=5)
SCHEDULES: Final = {
    CONTROL: LEFTOVERS,
    PROVIDER_VAST: LEFTOVERS_VAST,
    PROVIDER_GCP: LEFTOVERS_GCP,
}


class Source(NamedTuple):
    """Where leftovers are looked for."""

    find: FindLeftovers
    end: EndLeftover


def control_leftovers(parts: Parts) -> LeftoverActivities:
    """Schedules of machines that do not live, and snapshots of those that were destroyed."""
    kept = PostgresLeftovers(parts.database)
    settings = parts.settings

    async def snapshots() -> list[Leftover]:
        if settings.s3_url is None:
            return []
        return await kept.snapshots_of_destroyed(usd_per_gb_month=settings.storage_usd_per_gb_month)

    return _activities(parts, CONTROL, control_source(parts.client, snapshots))


def vast_leftovers(parts: Parts, provider: InstanceProvider) -> LeftoverActivities:
    """What is left at Vast.ai."""
    return _activities(parts, PROVIDER_VAST, vast_source(provider))


def gcp_leftovers(parts: Parts, provider: VmProvider, remains: CloudRemains) -> LeftoverActivities:
    """What is left in the Google project."""
    return _activities(parts, PROVIDER_GCP, gcp_source(provider, remains))


def control_source(
    client: Client, snapshots: Callable[[], Awaitable[Sequence[Leftover]]]
) -> Source:
    """Temporal's schedules, which are ended, and snapshots, which never are."""

    async def find(env: str) -> list[Leftover]:
        schedules = await machine_schedules.of_machines(client)
        return [
            *(
                leftovers.schedule(each.schedule_id, machine_id=each.machine_id)
                for each in schedules
            ),
            *await snapshots(),
        ]

    async def end(leftover: Leftover) -> None:
        if leftover.kind is not LeftoverKind.SCHEDULE:
            raise _not_here(leftover)
        await machine_schedules.delete(client, leftover.resource_id)

    return Source(find, end)


def vast_source(provider: InstanceProvider) -> Source:
    """Stopped instances of Vast.ai: their disks bill on. `EndInstances` ends those, not this."""

    async def find(env: str) -> list[Leftover]:
        instances = await provider.list_instances(label_prefix=prefix(env=env))
        return leftovers.stopped_instances(instances, env=env)

    async def end(leftover: Leftover) -> None:
        raise _not_here(leftover)

    return Source(find, end)


def gcp_source(provider: VmProvider, remains: CloudRemains) -> Source:
    """Stopped VMs, detached disks and unused addresses of the Google project."""

    async def find(env: str) -> list[Leftover]:
        ours = prefix(env=env)
        vms = await provider.list_instances(label_prefix=ours)
        disks = await remains.list_disks(label_prefix=ours)
        addresses = await remains.list_addresses(label_prefix=ours)
        return [
            *leftovers.stopped_instances(vms, env=env, body=AgentRole.STANDBY, disks=disks),
            *leftovers.detached_disks(disks, env=env),
            *leftovers.idle_addresses(addresses, env=env),
        ]

    async def end(leftover: Leftover) -> None:
        if leftover.kind is LeftoverKind.DETACHED_DISK and leftover.place is not None:
            await remains.delete_disk(
                zone=leftover.place, name=leftover.label, disk_id=leftover.resource_id
            )
        elif leftover.kind is LeftoverKind.ADDRESS and leftover.place is not None:
            await remains.delete_address(
                region=leftover.place, name=leftover.label, address_id=leftover.resource_id
            )
        else:
            raise _not_here(leftover)

    return Source(find, end)


async def ensure_leftovers_sweep(parts: Parts, queue: str) -> None:
    """Have the leftovers of one source swept, whoever started first."""
    await ensure_schedule(
        parts.client,
        schedule_id=SCHEDULES[queue],
        workflow="Leftovers",
        arg=leftovers_of(parts.settings, queue),
        task_queue=CONTROL,
        every=EVERY,
    )


def leftovers_of(settings: Settings, queue: str) -> LeftoversInput:
    """How the sweep over one source decides."""
    limits = LeftoverLimits(
        confirm_s=settings.gone_confirm_s,
        unknown_owner_s=settings.create_window_s,
        end=settings.end_leftovers,
    )
    return LeftoversInput(
        survey=LeftoverSurvey(env=settings.env, limits=limits),
        queue=queue,
        confirm_s=settings.gone_confirm_s,
    )


def _activities(parts: Parts, queue: str, source: Source) -> LeftoverActivities:
    return LeftoverActivities(
        source=queue.removeprefix("provider-"),
        find=source.find,
        end=source.end,
        machines=parts.store,
        describe_owner=Entities(parts).describe,
        store=PostgresLeftovers(parts.database),
    )


def _not_here(leftover: Leftover) -> RequestRefused:
    return RequestRefused(
        f"{leftover.kind.value} {leftover.resource_id} is not ended here",
        provider=leftover.provider,
    )
