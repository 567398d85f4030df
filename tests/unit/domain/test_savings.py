"""The savings report: each figure from its records, recomputed, and unknown where nothing is known."""

from __future__ import annotations

import csv
import io
import math
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumont.domain.instances import Rental
from dumont.domain.ledger import Basis, Entry, Item
from dumont.domain.machine import MachinePhase
from dumont.domain.offers import Offer
from dumont.domain.receipts import Receipt
from dumont.domain.reference_prices import (
    DATED,
    ReferenceKind,
    ReferencePrice,
    Rented,
    asked_at_rental,
    default_reference,
)
from dumont.domain.savings import Bound, By, Figure, SavingsReport, breakdown, savings_report
from dumont.domain.savings_lines import Assumptions, Known, Part, recomputed
from dumont.domain.savings_resources import lines_csv, rows_csv
from dumont.domain.spans import PhaseSpan
from tests.support.receipts import receipt

DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW = datetime(2026, 11, 25, tzinfo=UTC)
P = MachinePhase
M = "m0123456789ab"
LABEL = f"dmt-test-{M}-g1-a1"


def at(hours: float) -> datetime:
    """Hours into the first day."""
    return datetime(2026, 11, 20, tzinfo=UTC) + timedelta(hours=hours)


def entry(item: Item = Item.GPU, usd: float | None = 4.0, **changes: Any) -> Entry:
    """Ten hours of an RTX 4090 at $0.40."""
    whole: dict[str, Any] = {
        "provider": "vast", "resource_id": "7", "item": item, "day": DAY, "machine_id": M,
        "owner_id": "u1", "basis": Basis.BILLED, "start": at(2), "end": at(12), "usd": usd,
        "source": "Vast.ai's bill",
    }  # fmt: skip
    if item is Item.GPU:
        whole |= {"seconds": 36_000, "gpu": "RTX 4090", "gpu_count": 1, "rental": "spot"}
    return Entry.model_validate(whole | changes)


def cost(item: Item, usd: float | None, **changes: Any) -> Entry:
    return entry(item, usd, provider="gcp", resource_id="9", basis=Basis.LISTED, **changes)


def span(phase: MachinePhase | None, start: float, end: float | None, machine: str = M):
    return PhaseSpan(
        machine_id=machine, phase=phase, start=at(start), end=None if end is None else at(end)
    )


UP = [span(P.PROVISIONING, 1, 2), span(P.RUNNING, 2, None)]


def report(
    *entries: Entry,
    spans: list[PhaseSpan] | None = None,
    receipts: tuple[Receipt, ...] = (),
    until: date = DAY,
    **more: Any,
) -> SavingsReport:
    return savings_report(
        entries,
        UP if spans is None else spans,
        receipts,
        since=DAY,
        until=until,
        now=NOW,
        **more,
    )


def figure(of: SavingsReport, part: Part) -> Figure:
    return next(each for each in of.figures if each.part is part)


def cents(usd: Decimal | None) -> float | None:
    return None if usd is None else round(float(usd), 2)


# Spot against on demand


def test_spot_is_held_against_the_dated_price_of_its_own_market():
    found = report(entry())
    spot = figure(found, Part.SPOT)
    assert cents(spot.usd) == 2.07
    assert spot.known is Known.LISTED, "a dated price is in it, however exact the bill"
    [line] = found.lines
    assert "2026-06-14" in str(line.inputs["reference"])
    assert found.bound is Bound.EXACT
    assert found.coverage == 1


def test_the_market_s_price_at_the_time_of_renting_comes_first():
    """$1.25 an hour with the disk, for two: half of $1.20 for each, not the series' $0.607."""
    rented = {LABEL: Rented(offer(), NOON)}
    found = report(entry(label=LABEL), recorded=rented)
    assert cents(figure(found, Part.SPOT).usd) == 2.0
    assert figure(found, Part.SPOT).known is Known.METERED
    assert "when it was rented" in str(found.lines[0].inputs["reference"])
    other = report(entry(label="dmt-test-m0123456789ab-g9-a9"), recorded=rented)
    assert cents(figure(other, Part.SPOT).usd) == 2.07, "another instance's price is not this one's"


def test_an_offer_that_names_no_price_still_tells_the_size_of_its_gpu():
    bare = offer(gpu="A100 SXM4", gpu_memory_gb=80.0, on_demand_usd_per_hour=None)
    big = entry(gpu="A100 SXM4", label=LABEL)
    found = report(big, recorded={LABEL: Rented(bare, NOON)})
    assert cents(figure(found, Part.SPOT).usd) == 7.34


def test_a_bid_above_the_reference_is_a_loss_and_is_shown_so():
    assert cents(figure(report(entry(usd=7.07)), Part.SPOT).usd) == -1.0


def test_every_gpu_of_an_instance_counts():
    assert cents(figure(report(entry(gpu_count=4, usd=10)), Part.SPOT).usd) == 14.28


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"gpu": "RTX 3060"}, "no reference price is known for RTX 3060"),
        ({"gpu": "A100 SXM4"}, "no reference price is known for A100 SXM4"),
        ({"provider": "elsewhere"}, "no reference price is known for RTX 4090"),
        ({"usd": None}, "what was paid is not known"),
        ({"gpu": None}, "which GPUs they were is not known"),
        ({"gpu_count": None}, "which GPUs they were is not known"),
        ({"rental": None}, "whether it was rented as spot is not known"),
        ({"seconds": 0}, "for how long it was paid is not known"),
    ],
)
def test_what_is_not_known_is_unknown_and_not_zero(changes: dict[str, Any], why: str):
    found = report(entry(**changes))
    spot = figure(found, Part.SPOT)
    assert (spot.usd, spot.unknown, spot.whys) == (None, 1, (why,))
    assert found.bound is Bound.AT_LEAST
    both = report(entry(), entry(resource_id="8", **changes))
    assert cents(figure(both, Part.SPOT).usd) == 2.07, "the known part is not hidden"
    assert figure(both, Part.SPOT).unknown == 1


def test_what_was_rented_on_demand_saved_nothing_so_and_is_named():
    found = report(entry(rental="on_demand"))
    assert figure(found, Part.SPOT).lines == 0
    assert found.net_usd == 0
    assert any("rented on demand: $4.00" in words for words in found.left_out)
    assert found.coverage is None


# Interruptions


def test_seconds_that_were_paid_and_of_no_use_are_taken_out():
    """Paid from 2 to 12, usable until 6 and from 7: an hour was the interruption's."""
    spans = [span(P.RUNNING, 2, 6), span(P.ON_STANDBY, 6, 7), span(P.RUNNING, 7, None)]
    found = report(entry(), spans=spans)
    assert cents(figure(found, Part.INTERRUPTIONS).usd) == -0.61
    assert cents(found.net_usd) == round(9 * 0.607 - 4.0, 2), "what on demand would have cost"


def test_two_instances_at_once_save_as_much_as_one_on_demand():
    """The loser of a race, or a replacement that boots beside the old one, is no saving."""
    found = report(entry(), entry(resource_id="8", start=at(11), end=at(12), seconds=3600, usd=0.4))
    assert cents(figure(found, Part.SPOT).usd) == round(11 * 0.607 - 4.4, 2)
    assert cents(found.net_usd) == round(10 * 0.607 - 4.4, 2)


@pytest.mark.parametrize(
    "spans", [[], [span(P.RUNNING, 2, 6), span(None, 6, 7), span(P.RUNNING, 7, None)]]
)
def test_an_unknown_phase_makes_the_net_an_upper_bound(spans: list[PhaseSpan]):
    found = report(entry(), spans=spans)
    assert figure(found, Part.INTERRUPTIONS).usd is None
    assert figure(found, Part.INTERRUPTIONS).unknown == 1
    assert found.bound is Bound.AT_MOST


def test_a_line_that_does_not_say_when_tells_nothing_of_interruptions():
    found = report(entry(end=at(2)))
    assert figure(found, Part.INTERRUPTIONS).usd is None
    assert found.bound is Bound.AT_MOST


# Hibernation


def test_hours_asleep_count_at_the_price_before_and_hours_idle_do_not():
    """The GPU was paid until 12, idle or not; asleep from 12 until 36 hours later."""
    spans = [span(P.RUNNING, 2, 12), span(P.HIBERNATED, 12, 36), span(P.WAKING, 36, None)]
    found = report(entry(), spans=spans, until=DAY + timedelta(days=3))
    asleep = figure(found, Part.HIBERNATION)
    assert cents(asleep.usd) == 9.6
    assert asleep.known is Known.ESTIMATE
    by_day = {row.key: row.parts.get(Part.HIBERNATION) for row in breakdown(found, "day")}
    assert {day: cents(usd) for day, usd in by_day.items()} == {
        "2026-11-20": 4.8,
        "2026-11-21": 4.8,
    }


def test_a_sleep_that_goes_on_is_counted_until_now():
    spans = [span(P.RUNNING, 2, 12), span(P.HIBERNATED, 12, None)]
    found = report(entry(), spans=spans, until=DAY + timedelta(days=30))
    assert cents(figure(found, Part.HIBERNATION).usd) == round((12 + 4 * 24) * 0.4, 2)


def test_the_price_may_lie_before_the_period_and_its_line_does_not_count_again():
    spans = [span(P.RUNNING, 2, 12), span(P.HIBERNATED, 12, None)]
    found = savings_report(
        [entry()], spans, (), since=DAY + timedelta(days=1), until=DAY + timedelta(days=1), now=NOW
    )
    assert cents(found.net_usd) == 9.6
    assert figure(found, Part.SPOT).lines == 0
    assert found.paid == ()


def test_a_sleep_after_an_unknown_price_is_unknown():
    spans = [span(P.RUNNING, 2, 12), span(P.HIBERNATED, 12, None)]
    for entries in ([], [entry(usd=None)], [entry(start=at(13), end=at(14))]):
        found = report(*entries, spans=spans)
        asleep = figure(found, Part.HIBERNATION)
        assert (asleep.usd, asleep.unknown) == (None, 1)


# Downtime


def failover(hour: float = 12, **changes: Any) -> Receipt:
    """Away for 41 ms; another GPU had the files after 41.1 s."""
    return receipt(detected_at=at(hour), closed_at=at(hour + 1), **changes)


def test_downtime_is_minutes_until_somebody_says_what_an_hour_is_worth():
    found = report(receipts=(failover(),))
    down = figure(found, Part.DOWNTIME)
    assert down.usd is None
    assert down.minutes == pytest.approx((41.1 - 0.041) / 60)
    assert down.unknown == 0
    assert (found.net_usd, found.bound) == (0, Bound.EXACT)
    worth = report(receipts=(failover(),), assumptions=Assumptions(usd_per_hour_of_work=60))
    assert float(worth.net_usd) == pytest.approx((41.1 - 0.041) / 60)
    assert figure(worth, Part.DOWNTIME).known is Known.ESTIMATE


def test_an_assumption_replaces_the_least_it_would_have_been_and_is_shown():
    assumed = Assumptions(minutes_without_standby=15)
    found = report(receipts=(failover(),), assumptions=assumed)
    assert figure(found, Part.DOWNTIME).minutes == pytest.approx(15 - 0.041 / 60)
    assert found.lines[0].inputs["without_by"] == "assumption"
    assert found.assumptions.minutes_without_standby == 15


def test_drills_and_false_alarms_avoid_nothing():
    drill, healed = failover(drill=True), failover(number=2, outcome="healed")
    assert figure(report(receipts=(drill, healed)), Part.DOWNTIME).lines == 0


def test_a_receipt_that_does_not_tell_is_unknown():
    found = report(receipts=(failover(timeline=()),))
    down = figure(found, Part.DOWNTIME)
    assert (down.minutes, down.unknown) == (None, 1)
    assert found.bound is Bound.EXACT, "the net has no downtime in it"
    worth = report(
        receipts=(failover(timeline=()),), assumptions=Assumptions(usd_per_hour_of_work=60)
    )
    assert worth.bound is Bound.AT_LEAST


# Costs, net and return


def everything() -> tuple[Entry, ...]:
    return (
        entry(),
        entry(Item.DISK, 0.3),
        entry(Item.TRAFFIC, 0.05, quantity=2.5),
        cost(Item.VM, 0.12, seconds=36_000),
        cost(Item.VM_DISK, 0.02),
        cost(Item.ADDRESS, 0.03),
        cost(Item.EGRESS, 0.24, quantity=2.0),
        entry(Item.STORAGE, 0.01, provider="s3", resource_id="u1", machine_id=None),
        entry(Item.OTHER, 0.07),
    )


def test_the_net_is_what_is_left():
    found = report(*everything())
    assert cents(figure(found, Part.STANDBY).usd) == -0.41
    assert cents(figure(found, Part.STORAGE).usd) == -0.01
    assert cents(figure(found, Part.TRAFFIC).usd) == -0.05
    assert figure(found, Part.STANDBY).known is Known.LISTED
    assert cents(found.net_usd) == round(2.07 - 0.41 - 0.01 - 0.05, 2)
    assert any("disks: $0.30" in words for words in found.left_out)
    assert any("$0.07" in words for words in found.left_out)
    paid = {each.item: each.usd for each in found.paid}
    assert sum(paid.values()) == Decimal("4.84")


def test_an_unknown_cost_makes_the_net_an_upper_bound():
    found = report(entry(), cost(Item.EGRESS, None))
    assert found.bound is Bound.AT_MOST
    assert report(entry(gpu="RTX 3060"), cost(Item.VM, None)).bound is Bound.EITHER


def test_a_standby_s_return_is_of_the_time_it_saved_and_of_nothing_else():
    alone, whole = report(*everything(), receipts=(failover(),)).returns
    assert (alone.percent, alone.payback_days) == (None, None)
    assert "value of an hour" in alone.why_not
    assert whole.benefit_usd is not None
    assert cents(whole.benefit_usd) == 2.02
    assert whole.percent == pytest.approx((2.02 - 0.42) / 0.42 * 100)
    assert whole.payback_days == pytest.approx(30 * 0.42 / 2.02)

    assumed = Assumptions(usd_per_hour_of_work=60, minutes_without_standby=10)
    alone, _ = report(*everything(), receipts=(failover(),), assumptions=assumed).returns
    assert alone.benefit_usd is not None
    assert cents(alone.benefit_usd) == 10.0
    assert alone.percent == pytest.approx((float(alone.benefit_usd) - 0.41) / 0.41 * 100)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ((entry(),), "it cost nothing in this time"),
        ((entry(), cost(Item.VM, None)), "a part of what it cost is not known"),
        ((entry(gpu="RTX 3060"), cost(Item.VM, 1)), "a part of what was saved is not known"),
        ((entry(usd=9), cost(Item.VM, 1)), "nothing was saved that could pay for it"),
    ],
)
def test_a_return_that_cannot_be_computed_says_why(entries: tuple[Entry, ...], why: str):
    _, whole = report(*entries).returns
    assert whole.payback_days is None
    assert whole.why_not == why


# Recomputing


def test_an_empty_period_is_empty():
    found = report(spans=[])
    assert (found.net_usd, found.bound, found.lines) == (0, Bound.EXACT, ())
    assert [each.known for each in found.figures] == [None] * len(Part)


money = st.one_of(st.none(), st.floats(0, 50, allow_nan=False))


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[Entry], list[PhaseSpan], list[Receipt]]:
    """A few days of a few machines, whatever happens."""
    entries, spans, receipts = [], [], []
    for number in range(draw(st.integers(1, 3))):
        machine = f"m{number}"
        cursor = draw(st.floats(0, 20))
        for phase in draw(
            st.lists(
                st.sampled_from([P.RUNNING, P.ON_STANDBY, P.HIBERNATED, P.STUCK, None]), max_size=5
            )
        ):
            length = draw(st.floats(0.1, 30))
            spans.append(span(phase, cursor, cursor + length, machine))
            cursor += length
        for day in range(draw(st.integers(0, 3))):
            start = 24 * day + draw(st.floats(0, 12))
            hours = draw(st.floats(0.01, 11))
            entries.append(
                entry(
                    usd=draw(money), machine_id=machine, resource_id=draw(st.sampled_from("abc")),
                    day=DAY + timedelta(days=day), start=at(start), end=at(start + hours),
                    seconds=hours * 3600, gpu_count=draw(st.sampled_from([1, 2, 8, None])),
                    gpu=draw(st.sampled_from(["RTX 4090", "H100 SXM", "RTX 3060"])),
                    rental=draw(st.sampled_from(["spot", "on_demand", None])),
                    basis=draw(st.sampled_from(list(Basis))),
                )
            )  # fmt: skip
            item = draw(st.sampled_from(list(Item)))
            if item is not Item.GPU:
                entries.append(
                    cost(item, draw(money), machine_id=machine, day=DAY + timedelta(days=day))
                )
        receipts.append(failover(draw(st.floats(0, 80)), machine_id=machine, number=number + 1))
    return entries, spans, receipts


def of(life: tuple[list[Entry], list[PhaseSpan], list[Receipt]], worth: float | None = 42.0):
    entries, spans, receipts = life
    return report(
        *entries,
        spans=spans,
        receipts=tuple(receipts),
        until=DAY + timedelta(days=3),
        assumptions=Assumptions(usd_per_hour_of_work=worth),
    )


@settings(max_examples=80, deadline=None)
@given(lives(), st.randoms(use_true_random=False))
def test_the_order_of_what_comes_in_changes_nothing(life: Any, chance: random.Random):
    entries, spans, receipts = life
    mixed = entries[:], spans, receipts[:]
    chance.shuffle(mixed[0])
    chance.shuffle(mixed[2])
    assert of(mixed) == of(life)


@settings(max_examples=80, deadline=None)
@given(lives(), st.sampled_from([None, 42.0]))
def test_every_grouping_adds_up_and_every_line_can_be_computed_again(
    life: Any, worth: float | None
):
    found = of(life, worth)
    again = [recomputed(line) for line in found.lines]
    assert again == [line.usd for line in found.lines]
    assert found.net_usd == sum((usd for usd in again if usd is not None), Decimal(0))
    assert found.net_usd == sum(
        (each.usd for each in found.figures if each.usd is not None), Decimal(0)
    )
    groupings: tuple[By, ...] = ("machine", "day", "gpu")
    for by in groupings:
        rows = breakdown(found, by)
        assert sum((row.net_usd for row in rows), Decimal(0)) == found.net_usd, by
        assert sum(row.unknown for row in rows) == sum(each.unknown for each in found.figures)
        minutes = math.fsum(row.minutes for row in rows)
        assert minutes == pytest.approx(sum(each.minutes or 0 for each in found.figures))
        written = list(csv.DictReader(io.StringIO(rows_csv(found, by=by, names={}))))
        assert written[-1][by] == "total"
        assert sum(Decimal(row["net_usd"]) for row in written[:-1]) == found.net_usd


def test_a_name_is_no_formula_in_a_spreadsheet_and_a_loss_is_a_number():
    found = report(entry(usd=9.0, gpu="=1+1"), entry(usd=9.0))
    names = {M: "@SUM(A1)"}
    [row, _] = csv.DictReader(io.StringIO(rows_csv(found, by="machine", names=names)))
    assert row["name"] == "'@SUM(A1)"
    assert Decimal(row["net_usd"]) < 0
    lines = list(csv.DictReader(io.StringIO(lines_csv(found, names=names))))
    assert {line["machine"] for line in lines} == {"'@SUM(A1)"}
    assert "'=1+1" in {line["gpu"] for line in lines}


@settings(max_examples=60, deadline=None)
@given(lives())
def test_what_was_paid_is_the_ledger_s_to_the_cent(life: Any):
    within = [each for each in life[0] if each.day <= DAY + timedelta(days=3)]
    paid = math.fsum(each.usd for each in within if each.usd is not None)
    assert float(sum(each.usd for each in of(life).paid)) == pytest.approx(paid, abs=1e-6)
    assert sum(each.unknown for each in of(life).paid) == sum(e.usd is None for e in within)


# Reference prices


def test_every_dated_price_is_of_one_gpu_and_says_where_it_comes_from():
    for price in DATED:
        assert price.source
        assert price.as_of.year == 2026
        assert price.usd_per_gpu_hour < 15, "a node's price, or nobody buys it"
        assert default_reference(price.gpu, provider="gcp") is None, "never a list elsewhere"


def test_a_node_s_price_is_divided_and_says_so():
    node = ReferencePrice(
        gpu="A100 SXM4", kind=ReferenceKind.ELSEWHERE, provider="aws", usd_per_hour=40.96, gpus=8,
        as_of=DAY, source="a list",
    )  # fmt: skip
    assert node.usd_per_gpu_hour == pytest.approx(5.12)
    assert "$40.96/h for 8 GPUs" in node.label


def test_a_model_of_several_sizes_has_a_price_only_where_its_size_is_known():
    assert default_reference("A100 SXM4", provider="vast") is None
    assert default_reference("A100 SXM4", provider="vast", memory_gb=40) is None
    found = default_reference("A100 SXM4", provider="vast", memory_gb=79.3)
    assert found is not None
    assert found.usd_per_gpu_hour == 1.134


def offer(**changes: Any) -> Offer:
    whole = {
        "provider": "vast", "offer_id": "5", "host_id": None, "gpu": "RTX 4090", "gpu_count": 2,
        "rental": Rental.SPOT, "usd_per_hour": 0.85, "gpu_usd_per_hour": 0.8,
        "on_demand_usd_per_hour": 1.25,
    }  # fmt: skip
    return Offer.model_validate(whole | changes)


def test_what_the_market_asked_is_for_one_gpu_and_without_its_disk():
    asked = asked_at_rental(Rented(offer(), NOON))
    assert asked is not None
    assert asked.usd_per_gpu_hour == pytest.approx(0.6)
    assert asked.kind is ReferenceKind.AT_RENTAL
    assert asked.as_of == DAY
    assert asked_at_rental(Rented(offer(on_demand_usd_per_hour=None), NOON)) is None
