"""Ending what a cloud bills us for. The same activities serve every provider, each on its own queue."""

from __future__ import annotations

from temporalio import activity

from activities.heartbeat import heartbeating
from activities.listing import SharedListing
from dumont.domain.instances import Instance, Message
from dumont.ports import InstanceProvider


class EndTarget(Message):
    """What to end: one label, one instance of a label, or everything a machine ever rented."""

    label: str
    """A label, or with `whole_machine` the prefix that all labels of the machine share."""
    whole_machine: bool = False
    instance_id: str | None = None
    """Only this one of the instances with the label."""
    known_ids: tuple[str, ...] = ()
    """Instances known to be meant, whether a listing shows them or not."""

    def covers(self, instance: Instance) -> bool:
        """Whether an instance is meant."""
        label = instance.label or ""
        if self.instance_id is not None and instance.instance_id != self.instance_id:
            return False
        return label.startswith(self.label) if self.whole_machine else label == self.label


class Ended(Message):
    """What `destroy_instances` ended."""

    instance_ids: tuple[str, ...]
    usd_per_hour: float | None = None
    """What they cost together until now, as far as the provider said."""


class Look(Message):
    """One complete listing, as far as a target is concerned."""

    present: tuple[str, ...]


class EndingActivities:
    """Ends instances of one provider account, and looks whether they are gone."""

    def __init__(self, *, provider: InstanceProvider, listing: SharedListing) -> None:
        self._provider = provider
        self._listing = listing

    @activity.defn
    async def destroy_instances(self, target: EndTarget) -> Ended:
        """End every instance that a target means. An instance that is gone already is success.

        Safe to repeat: destroying twice is one destroy.
        """
        async with heartbeating():
            for instance_id in target.known_ids:
                await self._provider.destroy(instance_id)
            listing = await self._listing.taken_within(0)
            meant = [i for i in listing.instances if target.covers(i)]
            for instance in meant:
                if instance.instance_id not in target.known_ids:
                    await self._provider.destroy(instance.instance_id)
            prices = [i.usd_per_hour for i in meant if i.usd_per_hour is not None]
            return Ended(
                instance_ids=tuple(
                    dict.fromkeys([*target.known_ids, *(i.instance_id for i in meant)])
                ),
                usd_per_hour=sum(prices) if prices else None,
            )

    @activity.defn
    async def look_for_instances(self, target: EndTarget) -> Look:
        """What of a target a listing taken now still shows."""
        async with heartbeating():
            listing = await self._listing.taken_within(0)
        present = tuple(i.instance_id for i in listing.instances if target.covers(i))
        return Look(present=present)
