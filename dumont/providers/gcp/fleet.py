"""A Google project as `InstanceProvider`: VMs by id, where Google wants zone and name."""

from __future__ import annotations

from dumont.domain.instances import Instance
from dumont.ports import VmProvider

Place = tuple[str, str]
"""Zone and name."""


class VmFleet:
    """Lists, shows and ends VMs by their id.

    Args:
        provider: The project.
    """

    def __init__(self, provider: VmProvider, *, account: str) -> None:
        self._provider = provider
        self._account = account
        self._places: dict[str, Place] = {}

    @property
    def name(self) -> str:
        """`gcp`."""
        return self._provider.name

    @property
    def account(self) -> str:
        """The project's id."""
        return self._account

    async def list_instances(self, *, label_prefix: str) -> list[Instance]:
        """Every VM whose name starts so, in all zones."""
        found = await self._provider.list_instances(label_prefix=label_prefix)
        for vm in found:
            self._remember(vm)
        return found

    async def get(self, instance_id: str) -> Instance | None:
        """The VM, or None when Google says that it does not exist or is another by that name."""
        place = self._places.get(instance_id) or await self._find(instance_id)
        if place is None:
            return None
        vm = await self._provider.get(zone=place[0], name=place[1])
        return vm if vm is not None and vm.instance_id == instance_id else None

    async def destroy(self, instance_id: str) -> None:
        """End a VM by its id; never another one that has taken its name."""
        vm = await self.get(instance_id)
        if vm is not None and vm.label is not None and vm.region is not None:
            await self._provider.delete(zone=vm.region, name=vm.label)

    async def _find(self, instance_id: str) -> Place | None:
        for vm in await self._provider.list_instances(label_prefix=""):
            self._remember(vm)
        return self._places.get(instance_id)

    def _remember(self, vm: Instance) -> None:
        if vm.label is not None and vm.region is not None:
            self._places[vm.instance_id] = (vm.region, vm.label)
