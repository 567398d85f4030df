"""What keeps snapshots going without anybody asking: schedules as policies want them, and pruning."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from temporalio import activity

from activities.heartbeat import heartbeating
from dumont.domain.errors import DumontError
from dumont.domain.machine import MachinePhase
from dumont.domain.snapshots import PruneResult, SnapshotPolicy
from dumont.ports import MachineStore, Repositories

_ENDING = (MachinePhase.DESTROYING, MachinePhase.DESTROYED)


class UpkeepActivities:
    """Sweeps over all machines and owners.

    Args:
        store: The machines.
        repositories: The owners' repositories.
        policies: What owners of some machines want, by machine; others have the default.
        owners: Everybody who has a snapshot.
        align: Makes the schedules be those; returns how many it changed.
    """

    def __init__(
        self,
        *,
        store: MachineStore,
        repositories: Repositories,
        policies: Callable[[Sequence[str]], Awaitable[dict[str, SnapshotPolicy]]],
        owners: Callable[[], Awaitable[list[str]]],
        align: Callable[[Mapping[str, SnapshotPolicy]], Awaitable[int]],
    ) -> None:
        self._store = store
        self._repositories = repositories
        self._policies = policies
        self._owners = owners
        self._align = align

    @activity.defn
    async def align_schedules(self) -> int:
        """Have a schedule for each live machine, as its policy wants it, and no other."""
        live = [
            each.spec.machine_id
            for each in await self._store.live_machines()
            if not each.state.stopping and each.state.phase not in _ENDING
        ]
        said = await self._policies(live)
        default = SnapshotPolicy()
        async with heartbeating():
            return await self._align({each: said.get(each, default) for each in live})

    @activity.defn
    async def repository_owners(self) -> list[str]:
        """Everybody who has a repository."""
        return await self._owners()

    @activity.defn
    async def prune_owner(self, owner_id: str) -> PruneResult | None:
        """Prune one owner's repository; None when it cannot be done now, which is told in the log."""
        async with heartbeating():
            try:
                return await self._repositories.prune(owner_id, dry_run=False)
            except DumontError as error:
                activity.logger.warning("%s: not pruned: %s", owner_id, error.message)
                return None
