"""The register of instances: who exists, on which host, written down, metered, in transition."""

from __future__ import annotations

from collections.abc import Callable

from simcloud.context import CloudContext
from simcloud.vast.billing import Billing
from simcloud.vast.container import Containers
from simcloud.vast.errors import no_such_instance
from simcloud.vast.host import Host, Slot
from simcloud.vast.instance import Instance
from simcloud.vast.knobs import Knobs, KnobStore
from simcloud.vast.market import Market
from simcloud.vast.transitions import Transitions

Notify = Callable[[str, Instance], None]


class Roster:
    """What tenancy.py, outages.py and fleet.py share. It decides nothing."""

    def __init__(
        self,
        context: CloudContext,
        *,
        market: Market,
        billing: Billing,
        knobs: KnobStore,
        notify: Notify,
    ) -> None:
        self.context = context
        self.market = market
        self.billing = billing
        self.notify = notify
        self.transitions = Transitions()
        self.containers = Containers(context, save=self.save)
        self.instances: dict[int, Instance] = {}
        self._knobs = knobs
        self._documents = context.store.collection("vast.instances")
        for _, document in self._documents.items():
            self._wake(Instance.model_validate(document))
        self._tidy()

    @property
    def knobs(self) -> Knobs:
        """The knobs in force at this moment."""
        return self._knobs.values

    def get(self, instance_id: int) -> Instance:
        """Return an existing instance.

        Raises:
            VastError: 404 when there is none.
        """
        instance = self.instances.get(instance_id)
        if instance is None or not instance.exists():
            raise no_such_instance(instance_id, self.knobs.missing_instance_slug)
        return instance

    def listed(self) -> list[Instance]:
        """Return what a listing shows, oldest first: also what was destroyed a moment ago."""
        return [*self.instances.values()]

    def existing(self) -> list[Instance]:
        """Return what was not destroyed, oldest first."""
        return [each for each in self.instances.values() if each.exists()]

    def host_of(self, instance: Instance) -> Host:
        """Return the host an instance is on."""
        return self.market.hosts[instance.machine_id]

    def slot_of(self, instance: Instance) -> Slot:
        """Return the GPUs that an instance rents."""
        return self.host_of(instance).slots[instance.slot]

    def on_host(self, host: Host) -> list[Instance]:
        """Return the instances on a host."""
        return [each for each in self.existing() if each.machine_id == host.machine_id]

    def in_slot(self, host: Host, slot: Slot) -> list[Instance]:
        """Return the instances that rent the same GPUs, at most one of which runs."""
        return [each for each in self.on_host(host) if each.slot == slot.index]

    def add(self, instance: Instance) -> None:
        """Enter a new instance."""
        self.instances[instance.id] = instance
        self.save(instance)

    def save(self, instance: Instance) -> None:
        """Write an instance down."""
        if instance.id in self.instances:
            self._documents.put(str(instance.id), instance.model_dump())

    def forget(self, instance: Instance) -> None:
        """Strike an instance off."""
        self.instances.pop(instance.id, None)
        self._documents.delete(str(instance.id))

    def meter(self, instance: Instance) -> None:
        """Bill an instance up to now, at its present state."""
        host = self.host_of(instance)
        self.billing.meter(
            instance,
            now=self.context.clock.now(),
            online=host.online,
            gpu_name=host.gpu,
            num_gpus=self.slot_of(instance).num_gpus,
            save=self.save,
        )

    async def close(self) -> None:
        """Bill up to now and stop all transitions; the machines are the engine's to end."""
        for instance in self.existing():
            self.meter(instance)
        await self.transitions.close()
        await self.containers.close()

    def _wake(self, instance: Instance) -> None:
        """Take an instance over from an earlier run; its machine died with that run."""
        if not instance.exists():
            self._documents.delete(str(instance.id))
            self.context.addresses.release_of(instance.name)
            return
        self.instances[instance.id] = instance
        instance.address = self.context.addresses.relocate(instance.address)
        if instance.cur_state == "running":
            instance.actual_status = "exited"
            instance.status_msg = "host rebooted; container exited"
            instance.running_since = None
            instance.rebooted = True
        self.save(instance)

    def _tidy(self) -> None:
        """Put right what a crash in the middle of a create or a destroy left half done."""
        known = {each.name for each in self.existing()}
        self.context.machines.discard(lambda name: name.startswith("vast-") and name not in known)
        for host in self.market.hosts.values():
            for slot in host.slots:
                held = any(
                    not each.is_bid and each.cur_state == "running"
                    for each in self.in_slot(host, slot)
                )
                if slot.held != held:
                    slot.held = held
                    self.market.save(host)
