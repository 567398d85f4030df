"""Named knobs: every behaviour of the real Vast.ai that nobody could verify, with its default.

Each knob whose docstring starts with "Unverified" is an open question about the real service.
Changed through the control API; the values survive a restart.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from simcloud.store import Store


class Knobs(BaseModel):
    """Values in force; attributes may be read at any time and must not be cached."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    outbid_actual_status: Literal["exited", "stopped"] = "exited"
    """Unverified: `actual_status` of an instance that was outbid."""
    outbid_flips_intended: bool = True
    """Unverified: whether being outbid also sets `intended_status` to `stopped`."""
    outbid_grace_seconds: float = Field(default=0.0, ge=0)
    """Unverified: time between SIGTERM and SIGKILL when outbid; 0 is no warning at all."""
    low_bid_create: Literal["stopped", "error_with_contract", "error"] = "stopped"
    """Unverified: answer to a bid below `min_bid` without `cancel_unavail`."""
    low_bid_status: int = Field(default=400, ge=400, le=599)
    """Unverified: HTTP status of that error."""
    low_bid_slug: str = "invalid_price"
    """Unverified: slug of that error."""
    credit_status: int = Field(default=400, ge=400, le=599)
    """Unverified: HTTP status of a create without credit."""
    credit_slug: str = "insufficient_credit"
    """Unverified: slug of a create without credit."""
    search_default_limit: int = Field(default=64, ge=1)
    """Unverified: offers returned when the search names no limit."""
    threshold_unit_seconds: float = Field(default=1.0, gt=0)
    """Unverified: the unit of the documented rate-limit thresholds."""
    bid_search_shows_min_bid: bool = True
    """Unverified: whether a search of type bid puts `min_bid` into `dph_base` and `dph_total`."""
    missing_instance_slug: Literal["no_such_instance", "not_found"] = "no_such_instance"
    """Unverified: slug of the 404 when an instance to destroy does not exist."""
    destroyed_listed_seconds: float = Field(default=0.0, ge=0)
    """Unverified: how long a destroyed instance is still listed."""
    search_quota: int = Field(default=20_000, ge=0)
    """Unverified: searches a day and account before `search_quota_exceeded`."""
    account_keys_reach_existing: bool = False
    """Unverified: whether a new account key is also put on instances that exist already."""
    metrics_lag_seconds: float = Field(default=30.0, ge=0)
    """How old the metrics in an instance row may be (documented: about 30 s)."""
    offline_after_seconds: float = Field(default=3.0, ge=0)
    """Unverified: time in `unknown` before a lost host reads `offline` (shortened for demos)."""
    exit_report_seconds: float = Field(default=2.0, ge=0)
    """Unverified: time until a container that died by itself reads `exited`."""
    stop_grace_seconds: float = Field(default=10.0, ge=0)
    """Time between SIGTERM and SIGKILL when the owner stops (docker's default)."""
    stale_offer_seconds: float = Field(default=10.0, ge=0)
    """How long an offer that another customer took can still be found."""
    stale_offer_probability: float = Field(default=0.2, ge=0, le=1)
    """Chance that such an offer is in a search result."""
    rivals: bool = True
    """Whether other customers rent, return and bid; false makes a market that stands still."""
    webhook_retry_seconds: float = Field(default=2.0, gt=0)
    """Unverified: first pause before a webhook is tried again; doubles, six tries in all."""


class KnobStore:
    """The knobs and their place in the store."""

    def __init__(self, store: Store) -> None:
        self._documents = store.collection("vast.knobs")
        self.values = Knobs.model_validate(self._documents.get("knobs") or {})

    def change(self, changes: dict[str, object]) -> Knobs:
        """Set some knobs; raises pydantic's ValidationError and changes nothing if one is bad."""
        self.values = Knobs.model_validate({**self.values.model_dump(), **changes})
        self._documents.put("knobs", self.values.model_dump())
        return self.values
