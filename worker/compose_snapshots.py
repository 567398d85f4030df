"""From settings to the activities that keep workspaces in the object store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from activities.repository import RepositoryActivities
from activities.snapshot_upkeep import UpkeepActivities
from activities.snapshots import SnapshotActivities
from dumont.domain.snapshots import SnapshotPolicy
from dumont.remote.engine import SshEngine
from dumont.remote.shell import SshShell
from dumont.repositories.bucket import bucket_of
from dumont.repositories.repositories import OwnerRepositories
from dumont.temporal import snapshot_schedules
from dumont.temporal.ids import PRUNE, SNAPSHOT_SCHEDULES
from dumont.temporal.queues import CONTROL
from dumont.temporal.schedules import ensure_schedule
from worker.compose import Parts
from worker.roles import KeepingActivities

PRUNE_EVERY: Final = timedelta(hours=24)
ALIGN_EVERY: Final = timedelta(seconds=60)


def keeping_activities(parts: Parts) -> KeepingActivities:
    """Snapshots, restores, and what keeps them going.

    Without a store each of them says so: a machine's history does not depend on what is configured.

    Raises:
        PreconditionFailed: There is a store, and what is set does not open it.
    """
    repositories = OwnerRepositories(
        bucket_of(parts.settings),
        roots=[key.key for key in parts.keys.vault],
        cache=parts.settings.state_dir / "repositories",
    )
    shell = SshShell(secrets=parts.secrets.ensure_machine_secrets)

    async def align(wanted: Mapping[str, SnapshotPolicy]) -> int:
        return await snapshot_schedules.align(parts.client, wanted)

    return KeepingActivities(
        snapshots=SnapshotActivities(
            engine=SshEngine(shell),
            repositories=repositories,
            store=parts.store,
            snapshots=parts.snapshots,
        ),
        repository=RepositoryActivities(repositories=repositories, snapshots=parts.snapshots),
        upkeep=UpkeepActivities(
            store=parts.store,
            repositories=repositories,
            policies=parts.snapshots.policies,
            owners=parts.snapshots.owners,
            align=align,
        ),
    )


async def ensure_upkeep(parts: Parts) -> None:
    """Have the sweeps run, where there is a store."""
    if parts.settings.s3_url is None:
        return
    await ensure_schedule(
        parts.client,
        schedule_id=SNAPSHOT_SCHEDULES,
        workflow="SnapshotSchedules",
        task_queue=CONTROL,
        every=ALIGN_EVERY,
    )
    await ensure_schedule(
        parts.client,
        schedule_id=PRUNE,
        workflow="PruneRepositories",
        task_queue=CONTROL,
        every=PRUNE_EVERY,
    )
