"""A receipt is the same record wherever it was, and another one when anything in it changes."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from dumont.domain.receipts import MAX_NAMES, Receipt, Unreplicated
from tests.support.receipts import AT, receipt


def test_its_export_survives_the_journey_bit_by_bit():
    filed = receipt()
    again = Receipt.model_validate_json(filed.model_dump_json())
    assert again == filed
    assert again.canonical() == filed.canonical()
    assert again.digest == filed.digest
    assert Receipt.model_validate(json.loads(filed.canonical())).digest == filed.digest


@pytest.mark.parametrize(
    "change",
    [
        {"cause": "another"},
        {"epoch_after": 3},
        {"conflicts": ("a.py",)},
        {"unreplicated": Unreplicated(last_point_at=AT, why_unknown="nobody saw")},
        {"timeline": ()},
    ],
)
def test_every_change_shows_in_its_digest(change: dict[str, object]):
    assert receipt(**change).digest != receipt().digest


def test_it_cannot_be_changed_in_place():
    with pytest.raises(ValidationError):
        receipt().cause = "another"  # type: ignore[misc]


def test_what_is_not_known_is_null_in_the_export_never_zero():
    unknown = receipt(unreplicated=Unreplicated(why_unknown="its agent said nothing"))
    told = json.loads(unknown.canonical())
    assert told["unreplicated"]["bytes"] is None
    assert told["unreplicated"]["files"] is None
    assert told["cost"]["standby_usd"] is None


def test_names_are_bounded():
    with pytest.raises(ValidationError):
        Unreplicated(names=tuple(str(n) for n in range(MAX_NAMES + 1)))


def test_how_long_a_phase_took_to_reach():
    assert receipt().ms("redirected") == 41.0
    assert receipt(timeline=()).ms("redirected") is None


def test_a_link_that_healed_is_a_false_alarm():
    assert receipt(outcome="healed").false_alarm
    assert not receipt().false_alarm
