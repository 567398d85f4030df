"""What is rented, as listings and the event log show it: the ledger's evidence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from temporalio import activity

from activities.heartbeat import heartbeating
from activities.listing import SharedListing
from dumont.domain import labels
from dumont.domain.errors import ProviderError
from dumont.domain.instances import Instance, Message
from dumont.domain.metering import Prices, RentalRecord, Role, Seen, changes
from dumont.domain.rental_events import RentalEvent, expected
from dumont.ports import InstanceProvider

_AT_ONCE = 500
_ASK_PROVIDER_FOR = timedelta(days=1)
"""So long after an end its exact time is looked for."""
_ASK_LATER_MIN = timedelta(minutes=2)
_ASK_LATER_MAX = timedelta(hours=2)
"""Between two looks passes as much time as had passed since the end, within these."""
_MOST_ENDS = 20
"""Ends that are looked for in one round: each is a list to be read at the provider."""

PriceOf = Callable[[Instance], Awaitable[Prices]]
"""What an instance costs now."""

EndOf = Callable[[RentalRecord], Awaitable[datetime | None]]
"""When a rental ended by its provider's own record; None: the provider does not say."""


class RentalStore(Protocol):
    """What is known of rentals."""

    async def see(self, seen: Sequence[tuple[RentalRecord, Sequence[Seen]]]) -> None:
        """Note rentals as a listing shows them, with what changed."""
        ...

    async def expect(self, rental: RentalRecord) -> None:
        """Note one that no listing has shown yet; a known one is left alone."""
        ...

    async def miss(self, provider: str, resource_ids: Sequence[str], *, at: datetime) -> None:
        """Note that a complete listing does not show them."""
        ...

    async def end(self, provider: str, resource_id: str, *, at: datetime, by: str) -> None:
        """Note when one ended, verified."""
        ...

    async def unended(self, provider: str) -> list[RentalRecord]:
        """Those that nobody has verified to be gone."""
        ...

    async def ended_by_us(self, provider: str, *, since: datetime) -> list[RentalRecord]:
        """Those that ended since then, not by the provider's clock."""
        ...

    async def newest_changes(self, provider: str, resource_ids: Sequence[str]) -> dict[str, Seen]:
        """The last change of each."""
        ...

    async def owners(self, machine_ids: Sequence[str]) -> dict[str, str]:
        """Whose machines these are."""
        ...

    async def new_events(self, *, limit: int) -> list[RentalEvent]:
        """Events that were not followed yet, in their order."""
        ...

    async def followed(self, seq: int) -> None:
        """Note that all events up to this one are followed."""
        ...

    async def intended(self, labels: Sequence[str]) -> dict[str, tuple[str, datetime]]:
        """Provider and time of our intents, by label."""
        ...


class NoteRentals(Message):
    """Input of `note_rentals`."""

    env: str
    confirm_s: float = 30.0
    """How long an instance must be missing before its own page is asked for."""
    max_age_s: float = 5.0
    """Age of a listing that still will do."""


class Noted(Message):
    """What `note_rentals` and `follow_events` found."""

    seen: int = 0
    ended: int = 0


class RentalActivities:
    """Keeps the record of what one provider account bills us for.

    Args:
        provider: The account.
        listing: Of the account.
        store: The record.
        role: What is rented there.
        price: What an instance costs now.
        end: When one ended, where the provider tells afterwards.
    """

    def __init__(
        self,
        *,
        provider: InstanceProvider,
        listing: SharedListing,
        store: RentalStore,
        role: Role,
        price: PriceOf,
        end: EndOf | None = None,
    ) -> None:
        self._provider = provider
        self._listing = listing
        self._store = store
        self._role = role
        self._price = price
        self._end = end
        self._ask_end_at: dict[str, datetime] = {}
        """When an end without a date is looked for again; a new process asks at once."""

    @activity.defn
    async def note_rentals(self, ask: NoteRentals) -> Noted:
        """Note what a listing shows, what changed, and what is verified to be gone.

        Safe to repeat: the same listing twice changes nothing.

        Raises:
            ProviderError: There is no listing; then nothing is noted.
            DependencyUnavailable: The database does not answer.
        """
        async with heartbeating():
            listing = await self._listing.taken_within(ask.max_age_s)
            listed = {i.instance_id: i for i in listing.instances}
            await self._note(list(listed.values()), at=listing.asked_at, env=ask.env)
            missing = [
                rental
                for rental in await self._store.unended(self._provider.name)
                if rental.resource_id not in listed
            ]
            ended = await self._look_for(missing, at=listing.asked_at, ask=ask)
            await self._date_ends(listing.asked_at)
            return Noted(seen=len(listed), ended=ended)

    async def _note(self, instances: Sequence[Instance], *, at: datetime, env: str) -> None:
        ours = {}
        for instance in instances:
            label = labels.parse(instance.label, env=env)
            if label is not None:
                ours[instance.instance_id] = (instance, label.machine_id)
        owners = await self._store.owners([machine_id for _, machine_id in ours.values()])
        last = await self._store.newest_changes(self._provider.name, list(ours))
        seen = []
        for instance_id, (instance, machine_id) in ours.items():
            if machine_id not in owners:
                # Nobody's machine: another deployment's, or one that the sweep will end.
                continue
            new = changes(
                last.get(instance_id), instance, at=at, prices=await self._price(instance)
            )
            seen.append((self._record(instance, machine_id, owners[machine_id], at), new))
        await self._store.see(seen)

    def _record(
        self, instance: Instance, machine_id: str, owner_id: str, at: datetime
    ) -> RentalRecord:
        return RentalRecord(
            provider=self._provider.name,
            resource_id=instance.instance_id,
            machine_id=machine_id,
            owner_id=owner_id,
            label=instance.label or "",
            role=self._role,
            gpu=instance.gpu,
            gpu_count=instance.gpu_count,
            host_id=instance.host_id,
            region=instance.region,
            rental=instance.rental.value if instance.rental is not None else None,
            machine_type=instance.machine_type,
            disk_gb=instance.disk_gb,
            created_at=instance.created_at,
            first_seen_at=at,
            last_seen_at=at,
        )

    async def _look_for(
        self, missing: Sequence[RentalRecord], *, at: datetime, ask: NoteRentals
    ) -> int:
        """A listing that has lost something is one witness; after a while its own page is another."""
        if missing:
            await self._store.miss(
                self._provider.name, [rental.resource_id for rental in missing], at=at
            )
        ended = 0
        for rental in missing:
            since = rental.missing_since
            if since is None or at - since < timedelta(seconds=ask.confirm_s):
                continue
            try:
                shown = await self._provider.get(rental.resource_id)
            except ProviderError as error:
                activity.logger.warning(
                    "%s is not listed, and nothing more known: %s", rental.resource_id, error
                )
                continue
            if shown is not None:
                await self._note([shown], at=datetime.now(UTC), env=ask.env)
                continue
            await self._store.end(self._provider.name, rental.resource_id, at=since, by="missing")
            ended += 1
        return ended

    async def _date_ends(self, now: datetime) -> None:
        """Ends that we saw late get the provider's own time, where it tells one: soon, as a rule; one
        that it does not tell is looked for less and less often."""
        if self._end is None:
            return
        name = self._provider.name
        undated = await self._store.ended_by_us(name, since=now - _ASK_PROVIDER_FOR)
        asked = {rental.resource_id: self._ask_end_at.get(rental.resource_id) for rental in undated}
        self._ask_end_at = {each: at for each, at in asked.items() if at is not None}
        due = [each for each in undated if (asked[each.resource_id] or now) <= now]
        for rental in due[:_MOST_ENDS]:
            age = now - (rental.ended_at or now)
            later = min(max(age, _ASK_LATER_MIN), _ASK_LATER_MAX)
            self._ask_end_at[rental.resource_id] = now + later
            try:
                ended_at = await self._end(rental)
            except ProviderError as error:
                activity.logger.warning("%s: end not dated: %s", rental.resource_id, error)
                return
            if ended_at is not None:
                await self._store.end(name, rental.resource_id, at=ended_at, by="provider")


class RentalEventActivities:
    """Follows the event log, which knows of rentals that came and went between two listings."""

    def __init__(self, *, store: RentalStore) -> None:
        self._store = store

    @activity.defn
    async def follow_events(self) -> Noted:
        """Note beginnings and verified ends since the last time.

        Safe to repeat: noting one twice is noting it once.
        """
        seen = ended = 0
        async with heartbeating():
            while found := await self._store.new_events(limit=_AT_ONCE):
                wanted = [event.intent for event in found if event.intent is not None]
                intents = await self._store.intended(list(dict.fromkeys(wanted)))
                for event in found:
                    rental = expected(event, intents)
                    if rental is not None:
                        await self._store.expect(rental)
                        seen += 1
                    if event.is_end:
                        await self._end(event, intents)
                        ended += 1
                await self._store.followed(found[-1].seq)
        return Noted(seen=seen, ended=ended)

    async def _end(self, event: RentalEvent, intents: Mapping[str, tuple[str, datetime]]) -> None:
        if event.resource_id is None:
            return
        known = intents.get(event.intent or "")
        # Ids of providers do not meet: one counts to millions, the other has nineteen digits.
        providers = [known[0]] if known is not None else ["vast", "gcp"]
        for provider in providers:
            await self._store.end(provider, event.resource_id, at=event.at, by="event")


async def listed_prices(instance: Instance) -> Prices:
    """The prices that the provider's own listing names."""
    return Prices(instance.usd_per_hour, instance.disk_usd_per_hour)
