"""What the API gives about leftovers: `GET /leftovers`."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from dumont.domain.leftovers import Fate, Found, LeftoverKind
from dumont.domain.resources import Resource


class LeftoverView(Resource):
    """One thing that is left and may cost money although no machine runs on it."""

    kind: LeftoverKind
    provider: str = Field(description="`vast`, `gcp`, `temporal` or `s3`.")
    resource_id: str
    label: str = Field(description="Our label on it; empty where there is none.")
    machine_id: str
    machine_name: str | None = Field(description="Null: the database does not know the machine.")
    place: str | None = Field(description="Zone or region.")
    size_gb: float | None
    usd_per_hour: float | None = Field(description="Null: the price is unknown; never free.")
    price_note: str = Field(description="Where the price comes from.")
    detail: str
    seen_since: datetime = Field(description="Seen by every sweep since then.")
    fate: Fate = Field(
        description="`ending`: it is being ended; `watched`: ended when it is still so in a later "
        "sweep; `held`: a sweep found too many at once and ended none; `shown`: this deployment ends "
        "none; `kept`: it has an owner, or holds people's files."
    )
    why: str


class SurveyView(Resource):
    """The last sweep of one source."""

    source: str = Field(description="`vast`, `gcp`, or `control` for schedules and snapshots.")
    surveyed_at: datetime
    blocked: str | None = Field(description="Why it ended nothing although there was something.")


class LeftoverList(Resource):
    """GET /leftovers, the dearest first."""

    items: list[LeftoverView]
    usd_per_hour: float = Field(description="Of those whose price is known, together.")
    unknown_prices: int = Field(description="How many have a price that nobody knows.")
    surveys: list[SurveyView] = Field(
        description="A source that is missing was never looked at; one that does not answer keeps "
        "what was found there last, with its time."
    )


def leftover_view(found: Found, *, machine_name: str | None) -> LeftoverView:
    """A leftover as the API tells it."""
    left = found.leftover
    return LeftoverView(
        kind=left.kind,
        provider=left.provider,
        resource_id=left.resource_id,
        label=left.label,
        machine_id=left.machine_id,
        machine_name=machine_name,
        place=left.place,
        size_gb=left.size_gb,
        usd_per_hour=left.usd_per_hour,
        price_note=left.price_note,
        detail=left.detail,
        seen_since=found.seen_since,
        fate=found.fate,
        why=found.why,
    )


def leftover_list(items: list[LeftoverView], surveys: list[SurveyView]) -> LeftoverList:
    """The list, with its sums."""
    prices = [each.usd_per_hour for each in items if each.usd_per_hour is not None]
    return LeftoverList(
        items=sorted(items, key=lambda each: (-(each.usd_per_hour or 0.0), each.resource_id)),
        usd_per_hour=sum(prices),
        unknown_prices=len(items) - len(prices),
        surveys=surveys,
    )
