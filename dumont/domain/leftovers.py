"""What is left and may cost money although no machine runs on it: found, priced, and what becomes of it.

Pure. As in `dumont.domain.reconcile`, nothing is ended on one witness: the database *and* Temporal
have to say that nobody owns it, in two sweeps without a break, and what carries no label of this
deployment is not even looked at. People's files are never ended by a sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from dumont.domain import labels
from dumont.domain.gcp_list_prices import (
    ADDRESS_PER_HOUR_UNUSED,
    AS_OF,
    HOURS_PER_MONTH,
    LIST_PRICES,
)
from dumont.domain.instances import Instance, InstanceState, Message
from dumont.domain.protection import AgentRole
from dumont.domain.reconcile import Limits, Owner, OwnerStatus, Suspicion, suspect

LISTED = f"estimate from list prices of {AS_OF.isoformat()}"
"""What to print beside a price from our dated lists."""
LISTED_ADDRESS = "estimate from Google's price list as others quote it"
QUOTED = "the provider's own figure"
CONFIGURED = "estimate from the configured price of storage"

_GB = 1e9


class LeftoverKind(StrEnum):
    """What it is. Names are public and stable."""

    STOPPED_INSTANCE = "stopped_instance"
    """Nothing runs; its disk bills."""
    DETACHED_DISK = "detached_disk"
    ADDRESS = "address"
    """A reserved address that nothing uses."""
    SCHEDULE = "schedule"
    """A Temporal Schedule of a machine that does not live. It costs nothing but work."""
    BUCKET_PREFIX = "bucket_prefix"
    """Snapshots of a machine that was destroyed."""


class Fate(StrEnum):
    """What the sweep does about it. Names are public and stable."""

    ENDING = "ending"
    """It is being ended."""
    WATCHED = "watched"
    """Ended when later sweeps find it still without an owner."""
    HELD = "held"
    """It would be ended, but the sweep found too many at once and stopped itself."""
    SHOWN = "shown"
    """It would be ended, but this deployment only wants to see."""
    KEPT = "kept"
    """Not ended by any sweep: it has an owner, or holds people's files."""


class CloudDisk(Message):
    """A disk as its cloud lists it."""

    name: str
    disk_id: str
    zone: str
    size_gb: float
    disk_type: str
    """Google's name, such as `pd-balanced`."""
    labels: dict[str, str] = Field(default_factory=dict)
    users: tuple[str, ...] = ()
    """Names of the instances that it is attached to."""
    ready: bool = True
    """Whether it is there whole: not being made, not being deleted."""


class CloudAddress(Message):
    """A reserved address as its cloud lists it."""

    name: str
    address_id: str
    region: str
    address: str
    labels: dict[str, str] = Field(default_factory=dict)
    in_use: bool


class Leftover(Message):
    """One thing that is left, with what it costs."""

    kind: LeftoverKind
    provider: str
    """`vast`, `gcp`, `temporal` or `s3`."""
    resource_id: str
    """The provider's id of it; a schedule's id; a machine's id for its snapshots."""
    label: str = ""
    """Our label on it; empty where there is none."""
    machine_id: str
    place: str | None = None
    """Zone or region, as the provider writes it."""
    size_gb: float | None = None
    usd_per_hour: float | None = None
    """None: unknown, never zero."""
    price_note: str = ""
    """Where the price comes from, for people."""
    detail: str = ""
    body: AgentRole = AgentRole.PRIMARY
    """Of a stopped instance: whether it was rented as a machine's GPU or as its standby."""

    @property
    def key(self) -> str:
        """Names it among all leftovers."""
        return f"{self.provider}/{self.kind.value}/{self.resource_id}"

    @property
    def sentence(self) -> str:
        """What it is and what it costs, for a person."""
        name = self.label or self.resource_id
        where = f" in {self.place}" if self.place else ""
        size = f", {self.size_gb:.0f} GB" if self.size_gb is not None else ""
        price = "at an unknown price"
        if self.usd_per_hour is not None:
            price = f"${self.usd_per_hour:.4f}/h ({self.price_note})"
        if self.kind is LeftoverKind.SCHEDULE:
            price = self.price_note
        return f"{self.kind.value.replace('_', ' ')} {name}{where}{size}, {price}"


class Found(Message):
    """A leftover, and what one sweep makes of it."""

    leftover: Leftover
    suspicion: Suspicion | None = None
    """Why nobody owns it; None: somebody does, or not both witnesses say so."""
    seen_since: datetime
    """Seen without a break since then."""
    fate: Fate
    why: str
    """For people."""


class LeftoverPlan(Message):
    """What one sweep decided."""

    found: tuple[Found, ...] = ()
    blocked: str | None = None
    """Why nothing is ended although there is something to end."""

    @property
    def end(self) -> tuple[Found, ...]:
        """What is to be ended now."""
        return tuple(each for each in self.found if each.fate is Fate.ENDING)

    @property
    def watching(self) -> tuple[Found, ...]:
        """What has no owner, and is not acted on yet."""
        return tuple(each for each in self.found if each.fate is Fate.WATCHED)


class LeftoverLimits(Limits):
    """How careful a sweep over leftovers is."""

    end: bool = True
    """False: find, price and show, and end nothing."""


# What a listing means ---------------------------------------------------------------------------


def stopped_instances(
    instances: Iterable[Instance],
    *,
    env: str,
    body: AgentRole = AgentRole.PRIMARY,
    disks: Iterable[CloudDisk] = (),
) -> list[Leftover]:
    """Instances of ours that do not run and bill storage.

    Args:
        instances: A whole listing of one account.
        env: This deployment.
        body: What is rented there: machines' GPUs, or their standbys.
        disks: What they are billed for, where their provider gives no price of the instance.
    """
    attached = list(disks)
    found = []
    for instance in instances:
        label = labels.parse(instance.label, env=env)
        if label is None or instance.state is not InstanceState.STOPPED:
            continue
        own = [
            disk
            for disk in attached
            if instance.label in disk.users and disk.zone == instance.region
        ]
        quoted = instance.usd_per_hour is not None
        found.append(
            Leftover(
                kind=LeftoverKind.STOPPED_INSTANCE,
                provider=instance.provider,
                resource_id=instance.instance_id,
                label=str(label),
                machine_id=label.machine_id,
                place=instance.region,
                size_gb=sum(disk.size_gb for disk in own) if own else None,
                usd_per_hour=instance.usd_per_hour if quoted else _all_disks(own),
                price_note=QUOTED if quoted else LISTED if own else "",
                detail=instance.detail,
                body=body,
            )
        )
    return found


def detached_disks(disks: Iterable[CloudDisk], *, env: str) -> list[Leftover]:
    """Disks of ours that no instance has. Both the name and the cloud's label have to say so."""
    found = []
    for disk in disks:
        label = _ours(disk.name, disk.labels, env=env)
        if label is None or disk.users or not disk.ready:
            continue
        price = disk_usd_per_hour(disk)
        found.append(
            Leftover(
                kind=LeftoverKind.DETACHED_DISK,
                provider="gcp",
                resource_id=disk.disk_id,
                label=disk.name,
                machine_id=label.machine_id,
                place=disk.zone,
                size_gb=disk.size_gb,
                usd_per_hour=price,
                price_note=LISTED if price is not None else "",
                detail=disk.disk_type,
            )
        )
    return found


def idle_addresses(addresses: Iterable[CloudAddress], *, env: str) -> list[Leftover]:
    """Reserved addresses of ours that nothing uses."""
    found = []
    for address in addresses:
        label = _ours(address.name, address.labels, env=env)
        if label is None or address.in_use:
            continue
        found.append(
            Leftover(
                kind=LeftoverKind.ADDRESS,
                provider="gcp",
                resource_id=address.address_id,
                label=address.name,
                machine_id=label.machine_id,
                place=address.region,
                usd_per_hour=ADDRESS_PER_HOUR_UNUSED,
                price_note=LISTED_ADDRESS,
                detail=address.address,
            )
        )
    return found


def schedule(schedule_id: str, *, machine_id: str) -> Leftover:
    """A schedule of a machine. It costs nothing by itself."""
    return Leftover(
        kind=LeftoverKind.SCHEDULE,
        provider="temporal",
        resource_id=schedule_id,
        machine_id=machine_id,
        usd_per_hour=0.0,
        price_note="costs nothing",
    )


def kept_snapshots(
    machine_id: str, *, snapshots: int, stored_bytes: int, usd_per_gb_month: float | None
) -> Leftover:
    """The snapshots of a machine that was destroyed.

    Args:
        machine_id: Whose.
        snapshots: How many there are.
        stored_bytes: What they have sent to the store, all together.
        usd_per_gb_month: What the store costs; None is unknown.
    """
    size_gb = stored_bytes / _GB
    return Leftover(
        kind=LeftoverKind.BUCKET_PREFIX,
        provider="s3",
        resource_id=machine_id,
        machine_id=machine_id,
        size_gb=size_gb,
        usd_per_hour=None
        if usd_per_gb_month is None
        else size_gb * usd_per_gb_month / HOURS_PER_MONTH,
        price_note="" if usd_per_gb_month is None else CONFIGURED,
        detail=f"{snapshots} snapshot{'' if snapshots == 1 else 's'}",
    )


def disk_usd_per_hour(disk: CloudDisk) -> float | None:
    """What a disk costs by Google's list; None where the list does not have it."""
    prices = LIST_PRICES.get(disk.zone.rpartition("-")[0])
    if prices is None:
        return None
    per_month = {
        "pd-standard": prices.pd_standard,
        "pd-balanced": prices.pd_balanced,
        "pd-ssd": prices.pd_ssd,
    }.get(disk.disk_type)
    return None if per_month is None else per_month * disk.size_gb / HOURS_PER_MONTH


# What becomes of it -----------------------------------------------------------------------------


def suspicion(leftover: Leftover, *, env: str, owner: Owner | None) -> Suspicion | None:
    """Why nobody owns a leftover; None when somebody does, or when that is not certain.

    Args:
        leftover: What was found.
        env: This deployment.
        owner: What both witnesses say; None: they were not asked.
    """
    if owner is None or leftover.kind is LeftoverKind.BUCKET_PREFIX:
        return None
    if leftover.kind is LeftoverKind.SCHEDULE:
        if not leftover.resource_id.startswith(f"machine/{leftover.machine_id}/"):
            return None
        return _without_owner(owner)
    label = labels.parse(leftover.label, env=env)
    if label is None or label.machine_id != leftover.machine_id:
        return None
    if leftover.kind is LeftoverKind.STOPPED_INSTANCE:
        # The same rule as the sweep over instances, so that the two never disagree.
        instance = Instance(
            provider=leftover.provider,
            instance_id=leftover.resource_id,
            label=leftover.label,
            state=InstanceState.STOPPED,
        )
        return suspect(instance, env=env, owner=owner, body=leftover.body)
    return _without_owner(owner)


def sightings_of(
    leftovers: Iterable[Leftover], owners: Mapping[str, Owner], *, env: str
) -> list[str]:
    """The keys to remember: what was seen, and apart from it what was seen without an owner."""
    keys = []
    for leftover in leftovers:
        keys.append(seen_key(leftover))
        if suspicion(leftover, env=env, owner=owners.get(leftover.machine_id)) is not None:
            keys.append(suspect_key(leftover))
    return keys


def seen_key(leftover: Leftover) -> str:
    """Under which it is remembered that a leftover was seen."""
    return f"seen:{leftover.key}"


def suspect_key(leftover: Leftover) -> str:
    """Under which it is remembered that a leftover was seen without an owner."""
    return f"suspect:{leftover.key}"


def decide(
    leftovers: Iterable[Leftover],
    owners: Mapping[str, Owner],
    first_seen: Mapping[str, datetime],
    *,
    env: str,
    now: datetime,
    limits: LeftoverLimits,
) -> LeftoverPlan:
    """Decide what becomes of each leftover.

    Args:
        leftovers: What this sweep found.
        owners: What both witnesses say, by machine id; one that is missing was not asked about.
        first_seen: Since when each key of `sightings_of` was seen without a break.
        env: This deployment.
        now: Time of this sweep.
        limits: How careful to be, and whether to end anything.
    """
    judged = [
        (each, suspicion(each, env=env, owner=owners.get(each.machine_id)))
        for each in sorted(leftovers, key=lambda each: each.key)
    ]
    lasted = {
        each.key
        for each, why in judged
        if why is not None and _has_lasted(each, why, first_seen, now, limits)
    }
    allowed = max(limits.max_ended, int(len(judged) * limits.max_ended_share))
    blocked = None
    if limits.end and len(lasted) > allowed:
        blocked = (
            f"{len(lasted)} of {len(judged)} leftovers look as if nobody owned them, more than the "
            f"{allowed} one sweep may end"
        )
    return LeftoverPlan(
        found=tuple(
            _found(
                each,
                why,
                owner=owners.get(each.machine_id),
                seen_since=first_seen.get(seen_key(each), now),
                lasted=each.key in lasted,
                blocked=blocked,
                limits=limits,
            )
            for each, why in judged
        ),
        blocked=blocked,
    )


def _found(
    leftover: Leftover,
    why: Suspicion | None,
    *,
    owner: Owner | None,
    seen_since: datetime,
    lasted: bool,
    blocked: str | None,
    limits: LeftoverLimits,
) -> Found:
    if why is None:
        fate, said = Fate.KEPT, _why_kept(leftover, owner)
    elif not limits.end:
        fate, said = Fate.SHOWN, f"{why.value}; this deployment ends no leftovers"
    elif not lasted:
        fate, said = Fate.WATCHED, f"{why.value}; ended when it is still so in a later sweep"
    elif blocked is not None:
        fate, said = Fate.HELD, f"{why.value}; {blocked}"
    else:
        fate, said = Fate.ENDING, why.value
    return Found(leftover=leftover, suspicion=why, seen_since=seen_since, fate=fate, why=said)


def _why_kept(leftover: Leftover, owner: Owner | None) -> str:
    if leftover.kind is LeftoverKind.BUCKET_PREFIX:
        return "files of a destroyed machine; only their owner deletes them"
    record = owner.record if owner is not None else None
    if owner is None or owner.workflow is not OwnerStatus.RUNNING or record is None:
        return "the database and Temporal do not agree about its machine"
    if leftover.label in record.retiring:
        return "bills storage; kept until what only it has is rescued"
    if leftover.label == record.kept_standby:
        return "bills storage; kept until another standby has everything"
    if leftover.kind is LeftoverKind.STOPPED_INSTANCE:
        return "bills storage; its machine lives and wants it"
    return "its machine lives; not ended while it does"


def _has_lasted(
    leftover: Leftover,
    why: Suspicion,
    first_seen: Mapping[str, datetime],
    now: datetime,
    limits: LeftoverLimits,
) -> bool:
    since = first_seen.get(suspect_key(leftover))
    if since is None or since >= now:
        return False  # once is no evidence, however short the wait is
    patience = limits.unknown_owner_s if why is Suspicion.OWNER_UNKNOWN else limits.confirm_s
    return now - since >= timedelta(seconds=patience)


def _without_owner(owner: Owner) -> Suspicion | None:
    if owner.workflow is OwnerStatus.ABSENT and owner.record is None:
        return Suspicion.OWNER_UNKNOWN
    if owner.workflow is OwnerStatus.RUNNING:
        return None
    ended = owner.record is None or owner.record.phase.final
    return Suspicion.OWNER_ENDED if ended else None


def _ours(name: str, tags: Mapping[str, str], *, env: str) -> labels.Label | None:
    label = labels.parse(name, env=env)
    if label is None or tags.get(labels.MACHINE_KEY) != label.machine_id:
        return None
    return label


def _all_disks(disks: list[CloudDisk]) -> float | None:
    prices = [disk_usd_per_hour(disk) for disk in disks]
    known = [price for price in prices if price is not None]
    return sum(known) if known and len(known) == len(prices) else None
