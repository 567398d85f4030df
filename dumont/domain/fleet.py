"""What changed between two listings of a provider account: the only news a machine is sent.

A listing is evidence only of what it contains. An instance missing from it is *unknown* until two
complete listings some time apart have not shown it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from dumont.domain.instances import Instance, InstanceState, Message


class Presence(StrEnum):
    """Whether the provider lists an instance."""

    LISTED = "listed"
    GONE = "gone"
    """Missing from at least two complete listings, far enough apart."""


class InstanceReport(Message):
    """News about one instance, sent to its machine."""

    label: str
    instance_id: str
    presence: Presence
    instance: Instance | None
    """As listed; None when it is gone."""
    at: datetime


class Sighting(Message):
    """What a watch remembers of one instance between listings."""

    instance: Instance
    missing_since: datetime | None = None
    reported_gone: bool = False


def news(
    before: Mapping[str, Sighting],
    listing: Iterable[Instance],
    *,
    at: datetime,
    confirm: timedelta,
) -> tuple[list[InstanceReport], dict[str, Sighting]]:
    """Compare a complete listing with what was known.

    Args:
        before: Sightings by instance id, as the previous call returned them.
        listing: Every instance with a label of ours.
        at: When the listing was asked for.
        confirm: How long an instance must stay missing before it counts as gone.

    Returns:
        Reports to send, and the sightings to pass to the next call.
    """
    reports: list[InstanceReport] = []
    after: dict[str, Sighting] = {}
    for instance in listing:
        known = before.get(instance.instance_id)
        if known is None or known.reported_gone or _matters(known.instance, instance):
            reports.append(_report(instance, Presence.LISTED, at))
        after[instance.instance_id] = Sighting(instance=instance)
    for instance_id, known in before.items():
        if instance_id in after:
            continue
        since = known.missing_since or at
        gone = at - since >= confirm
        if gone and not known.reported_gone:
            reports.append(_report(known.instance, Presence.GONE, at))
        if not (gone and known.reported_gone):
            after[instance_id] = known.model_copy(
                update={"missing_since": since, "reported_gone": gone}
            )
    return reports, after


def implausible(before: Mapping[str, Sighting], listing: list[Instance]) -> bool:
    """Whether a listing lost so much at once that it says more about the provider than about us.

    Half of what ran a moment ago does not die in one second; a broken filter or page does.
    """
    listed = {instance.instance_id for instance in listing}
    present = [i for i, s in before.items() if s.missing_since is None]
    missing = sum(1 for i in present if i not in listed)
    return len(present) >= 2 and missing * 2 > len(present)


def _matters(old: Instance, new: Instance) -> bool:
    if new.state is InstanceState.UNKNOWN:
        return False
    return (old.state, old.ssh, old.usd_per_hour) != (new.state, new.ssh, new.usd_per_hour)


def _report(instance: Instance, presence: Presence, at: datetime) -> InstanceReport:
    return InstanceReport(
        label=instance.label or "",
        instance_id=instance.instance_id,
        presence=presence,
        instance=instance if presence is Presence.LISTED else None,
        at=at,
    )
