"""What the event log tells the ledger: beginnings and ends, of what we intended and of nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dumont.domain.events import EventKind
from dumont.domain.metering import Role
from dumont.domain.rental_events import RentalEvent, expected

T0 = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
M = "m000000000001"
LABEL = f"dmt-test-{M}-g2-a3"
INTENTS = {LABEL: ("vast", T0), f"standby/{LABEL}": ("gcp", T0)}


def event(kind: EventKind, key: str = "k", **data: Any) -> RentalEvent:
    return RentalEvent(
        seq=1, key=key, kind=kind, at=T0 + timedelta(seconds=40), machine_id=M, owner_id="u1",
        env="test", generation=2, data=data,
    )  # fmt: skip


def test_a_rented_instance_is_one_of_its_intent():
    rented = event(EventKind.RUNG, rung="rented", attempt=3, detail="24")
    found = expected(rented, INTENTS)
    assert found is not None
    assert (found.provider, found.resource_id, found.label) == ("vast", "24", LABEL)
    assert (found.role, found.machine_id, found.owner_id) == (Role.GPU, M, "u1")
    assert (found.first_seen_at, found.created_at) == (rented.at, None)


@pytest.mark.parametrize(
    ("key", "provider", "role"),
    [(f"end/{LABEL}/24", "vast", Role.GPU), (f"end/standby/{LABEL}/24", "gcp", Role.STANDBY)],
)
def test_an_end_tells_of_one_that_nobody_saw(key: str, provider: str, role: Role):
    """A machine's GPU and its standby may have the same label."""
    ended = event(EventKind.INSTANCE_ENDED, key, instance_id="24", label=LABEL)
    found = expected(ended, INTENTS)
    assert found is not None
    assert (found.provider, found.role, found.label) == (provider, role, LABEL)
    assert found.created_at == T0, "when it was intended: nothing earlier can be"


@pytest.mark.parametrize(
    "strange",
    [
        event(EventKind.RUNG, rung="running", attempt=3, detail="24"),
        event(EventKind.RUNG, rung="rented", attempt=4, detail="24"),
        event(EventKind.RUNG, rung="rented", attempt="3", detail="24"),
        event(EventKind.RUNG, rung="rented", attempt=3, detail=""),
        event(EventKind.INSTANCE_ENDED, instance_id="24", label=f"dmt-test-{M}-g"),
        event(EventKind.INSTANCE_ENDED, instance_id="24", label="dmt-prod-m000000000001-g2-a3"),
        event(EventKind.INSTANCE_ENDED, instance_id=None, label=LABEL),
        event(EventKind.INSTANCE_ENDED),
    ],
)
def test_what_we_never_intended_is_none_of_ours(strange: RentalEvent):
    assert expected(strange, INTENTS) is None


def test_the_end_of_everything_a_machine_had_is_an_end_of_each():
    whole = event(EventKind.INSTANCE_ENDED, instance_id="24", label=f"dmt-test-{M}-g")
    assert (whole.is_end, whole.resource_id) == (True, "24")
