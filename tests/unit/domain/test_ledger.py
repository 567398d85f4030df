"""The ledger's arithmetic: every second once, days of UTC, bills first, unknown never zero."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.bills import Kept, bill_lines, storage_lines
from dumont.domain.instances import Charge, Instance, InstanceState
from dumont.domain.ledger import Basis, By, Entry, Item, audit, summarize, total
from dumont.domain.metering import (
    Prices,
    RentalRecord,
    Role,
    Seen,
    changes,
    lines,
    meter,
    midnight,
)

RUNNING, STOPPED, STARTING, OFFLINE = (
    InstanceState.RUNNING,
    InstanceState.STOPPED,
    InstanceState.STARTING,
    InstanceState.OFFLINE,
)
T0 = datetime(2026, 3, 28, 21, 0, tzinfo=UTC)
"""The evening before clocks change in Europe."""
DAY = timedelta(days=1)


def rental(role: Role = Role.GPU, **changed: Any) -> RentalRecord:
    given = {
        "provider": "vast",
        "resource_id": "24",
        "machine_id": "m000000000001",
        "owner_id": "u1",
        "label": "dmt-test-m000000000001-g1-a1",
        "role": role,
        "gpu": "RTX 4090",
        "gpu_count": 1,
        "created_at": T0,
        "first_seen_at": T0,
    }
    return RentalRecord.model_validate(given | changed)


def seen(
    at_s: float, state: InstanceState, usd: float | None = 0.4, disk: float | None = 0.01
) -> Seen:
    at = T0 + timedelta(seconds=at_s)
    return Seen(at=at, state=state, usd_per_hour=usd, disk_usd_per_hour=disk)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def by_item(entries: list[Entry], item: Item) -> list[Entry]:
    return sorted((e for e in entries if e.item is item), key=lambda e: e.day)


# Metering -------------------------------------------------------------------------------------


@dataclass
class Bill:
    """Vast.ai's rules, written down once more and second by second in another way: a running meter."""

    gpu_s: float = 0.0
    gpu_usd: float = 0.0
    disk_s: float = 0.0
    disk_usd: float = 0.0
    by_day: dict[date, float] = field(default_factory=dict)

    def run(self, state: InstanceState, gpu: float, disk: float, start: float, end: float) -> None:
        at = start
        while at < end:
            moment = after(at)
            tomorrow = (midnight(moment.date()) + DAY - T0).total_seconds()
            span = min(end, tomorrow) - at
            if state is RUNNING:
                self.gpu_s += span
                self.gpu_usd += span * gpu / 3600
                self.by_day[moment.date()] = self.by_day.get(moment.date(), 0.0) + span
            if state is not OFFLINE:
                self.disk_s += span
                self.disk_usd += span * disk / 3600
            at += span


STEPS = st.lists(
    st.tuples(
        st.floats(0.5, 40_000),
        st.sampled_from([RUNNING, STOPPED, STARTING, OFFLINE]),
        st.floats(0.05, 4.0),
        st.floats(0.001, 0.1),
    ),
    min_size=1,
    max_size=20,
)


@given(STEPS)
def test_paid_seconds_are_those_of_an_independent_bill(
    steps: list[tuple[float, InstanceState, float, float]],
):
    bill, timeline, at = Bill(), [], 0.0
    for span, state, gpu, disk in steps:
        usd = disk if state is STOPPED else gpu + disk
        timeline.append(seen(at, state, usd, disk))
        bill.run(state, gpu, disk, at, at + span)
        at += span
    found = meter(rental(ended_at=after(at)), timeline)
    gpu_lines, disk_lines = by_item(found, Item.GPU), by_item(found, Item.DISK)
    assert math.fsum(e.seconds for e in gpu_lines) == pytest.approx(bill.gpu_s, abs=1)
    assert math.fsum(e.seconds for e in disk_lines) == pytest.approx(bill.disk_s, abs=1)
    assert math.fsum(e.usd or 0 for e in gpu_lines) == pytest.approx(bill.gpu_usd, abs=0.001)
    assert math.fsum(e.usd or 0 for e in disk_lines) == pytest.approx(bill.disk_usd, abs=0.001)
    assert {e.day for e in gpu_lines} == set(bill.by_day)
    for line in gpu_lines:
        assert line.seconds == pytest.approx(bill.by_day[line.day], abs=0.001)
    assert all(e.seconds <= 86_400.001 for e in found), "no day is longer, whatever clocks do"
    assert len({e.key for e in found}) == len(found), "one line an item and day"


@given(STEPS, st.lists(st.floats(0, 800_000), max_size=4))
def test_it_does_not_matter_from_when_on_lines_are_made(
    steps: list[tuple[float, InstanceState, float, float]], cuts: list[float]
):
    timeline, at = [], 0.0
    for span, state, gpu, disk in steps:
        timeline.append(seen(at, state, gpu + disk, disk))
        at += span
    whole = {e.key: e for e in meter(rental(ended_at=after(at)), timeline)}
    for cut in cuts:
        since = midnight(after(cut).date())
        part = {e.key: e for e in meter(rental(ended_at=after(at)), timeline, since=since)}
        assert part == {key: e for key, e in whole.items() if e.day >= since.date()}


def test_a_night_with_another_clock_has_its_hours():
    """In Europe 29 March 2026 has 23 hours. A machine that ran from 22:00 to 04:00 UTC ran six."""
    found = meter(rental(created_at=after(3600), ended_at=after(7 * 3600)), [seen(3600, RUNNING)])
    assert [(e.day.day, e.seconds) for e in by_item(found, Item.GPU)] == [(28, 7200), (29, 14400)]


def test_loading_costs_the_disk_alone():
    timeline = [seen(60, STARTING), seen(360, RUNNING)]
    found = meter(rental(ended_at=after(3960)), timeline)
    assert [e.seconds for e in by_item(found, Item.GPU)] == [3600]
    assert by_item(found, Item.DISK)[0].start == T0, "from the provider's own beginning on"
    assert math.fsum(e.seconds for e in by_item(found, Item.DISK)) == 3960


def test_what_no_listing_shows_any_more_is_not_counted_until_it_is_known():
    timeline = [seen(0, RUNNING)]
    lost = rental(last_seen_at=after(600))
    assert [e.seconds for e in by_item(meter(lost, timeline), Item.GPU)] == [600]
    back = lost.model_copy(update={"last_seen_at": after(1200)})
    assert [e.seconds for e in by_item(meter(back, timeline), Item.GPU)] == [1200]


def test_a_price_that_is_not_known_is_not_zero():
    [gpu] = by_item(meter(rental(ended_at=after(600)), [seen(0, RUNNING, None, 0.01)]), Item.GPU)
    assert (gpu.seconds, gpu.usd) == (600, None)
    both = [seen(0, RUNNING, None, 0.01), seen(300, RUNNING, 0.5, 0.01)]
    [gpu] = by_item(meter(rental(ended_at=after(600)), both), Item.GPU)
    assert gpu.usd is None, "a part of it is unknown"
    assert gpu.known_usd == pytest.approx(300 * 0.49 / 3600), "and a part is not"
    [whole] = summarize([gpu], By.DAY)
    assert (whole.usd, whole.metered_usd) == pytest.approx((gpu.known_usd, gpu.known_usd))
    assert (whole.unknown_lines, whole.at_least) == (1, True)


def test_a_rental_that_nobody_saw_has_a_line_without_a_price():
    [line] = meter(rental(ended_at=after(20)), [])
    assert (line.item, line.seconds, line.usd) == (Item.DISK, 20, None)
    assert meter(rental(), []) == [], "nor is it known yet that it was more than intended"


def vm(**changed: Any) -> RentalRecord:
    return rental(Role.STANDBY, provider="gcp", gpu=None, gpu_count=None, disk_gb=20, **changed)


def vm_seen(at_s: float, state: InstanceState) -> Seen:
    return Seen(
        at=after(at_s), state=state, usd_per_hour=0.01, disk_usd_per_hour=0.0027,
        address_usd_per_hour=0.0025, source="a list",
    )  # fmt: skip


def test_a_vm_is_paid_for_a_minute_at_least_each_time_and_its_disk_always():
    timeline = [
        vm_seen(10, RUNNING),
        vm_seen(20, STOPPED),
        vm_seen(100, RUNNING),
        vm_seen(300, STOPPED),
    ]
    found = meter(vm(ended_at=after(1000)), timeline)
    assert [e.seconds for e in by_item(found, Item.VM)] == [60 + 200]
    assert [e.seconds for e in by_item(found, Item.ADDRESS)] == [10 + 200]
    assert [e.seconds for e in by_item(found, Item.VM_DISK)] == [1000]
    assert {e.basis for e in found} == {Basis.LISTED}
    assert {e.source for e in found} == {"a list"}


def test_a_new_price_is_not_a_new_run():
    timeline = [vm_seen(0, RUNNING), vm_seen(10, RUNNING).model_copy(update={"usd_per_hour": 0.02})]
    [line] = by_item(meter(vm(ended_at=after(40)), timeline), Item.VM)
    assert line.seconds == 60
    assert line.usd == pytest.approx((10 * 0.01 + 50 * 0.02) / 3600)


# What a listing changes -----------------------------------------------------------------------


def instance(state: InstanceState = RUNNING, **changed: Any) -> Instance:
    given = {"provider": "vast", "instance_id": "24", "label": "l", "state": state}
    return Instance.model_validate(given | changed)


PRICES = Prices(0.4, 0.01)


def test_only_changes_are_kept():
    [first] = changes(None, instance(), at=T0, prices=PRICES)
    assert changes(first, instance(), at=after(60), prices=PRICES) == ()
    [dearer] = changes(first, instance(), at=after(60), prices=Prices(0.5, 0.01))
    assert (dearer.at, dearer.state, dearer.usd_per_hour) == (after(60), RUNNING, 0.5)
    [stopped] = changes(dearer, instance(STOPPED), at=after(120), prices=Prices(0.01, 0.01))
    assert stopped.state is STOPPED


def test_a_state_that_says_nothing_changes_nothing():
    assert changes(None, instance(InstanceState.UNKNOWN), at=T0, prices=PRICES) == ()
    [first] = changes(None, instance(), at=T0, prices=PRICES)
    unknown = instance(InstanceState.UNKNOWN)
    assert changes(first, unknown, at=after(60), prices=PRICES) == ()


def test_a_providers_own_times_win_over_those_of_listings():
    timeline: list[Seen] = []

    def look(
        at_s: float, state: InstanceState, started: float | None, stopped: float | None
    ) -> None:
        shown = instance(
            state,
            started_at=None if started is None else after(started),
            stopped_at=None if stopped is None else after(stopped),
        )
        last = timeline[-1] if timeline else None
        timeline.extend(changes(last, shown, at=after(at_s), prices=PRICES))

    look(5, STARTING, None, None)
    look(60, RUNNING, 12, None)
    look(120, STOPPED, 12, None)  # it is being stopped
    look(180, STOPPED, 12, 125)
    look(240, RUNNING, 200, 125)
    look(300, RUNNING, 290, 250)  # it went and came between two listings
    look(360, STOPPED, 340, 350)  # and again, the other way round
    shown = [((s.at - T0).total_seconds(), s.state) for s in timeline]
    assert shown == [
        (5, STARTING), (12, RUNNING), (125, STOPPED), (200, RUNNING), (250, STOPPED), (290, RUNNING),
        (350, STOPPED),
    ]  # fmt: skip
    again = changes(timeline[-1], instance(STOPPED, started_at=after(340), stopped_at=after(350)),
                    at=after(420), prices=PRICES)  # fmt: skip
    assert again == ()


def test_a_run_that_was_missed_altogether_is_not_lost():
    last = Seen(at=after(10), state=STOPPED, usd_per_hour=1, disk_usd_per_hour=1)
    shown = instance(STOPPED, started_at=after(20), stopped_at=after(40))
    found = changes(last, shown, at=after(60), prices=PRICES)
    assert [(s.at, s.state) for s in found] == [(after(20), RUNNING), (after(40), STOPPED)]


# Bills ----------------------------------------------------------------------------------------


def charge(
    kind: str = "gpu", usd: float | None = 1.0, *, start: float, end: float, **more: Any
) -> Charge:
    given = {
        "instance_id": "24",
        "kind": kind,
        "usd": usd,
        "start": after(start),
        "end": after(end),
    }
    return Charge.model_validate(given | more)


def billed(charges: list[Charge], day: date = T0.date(), read_s: float = 0.0) -> list[Entry]:
    return bill_lines(
        charges, provider="vast", day=day, read_at=after(read_s), ours={"24": rental()}
    )


def test_a_bill_becomes_one_line_an_item_and_day_and_nothing_of_strangers():
    found = billed(
        [
            charge(start=0, end=3600, hours=1.0),
            charge("bwu", 0.2, start=0, end=3600, quantity=2.0),
            charge("bwd", 0.1, start=0, end=3600, quantity=5.0),
            charge("mystery", 0.05, start=10, end=10),
            charge(start=0, end=3600, hours=1.0, instance_id="99"),
        ]
    )
    told = {(e.item, e.seconds, e.quantity, round(e.usd or 0, 6)) for e in found}
    assert told == {
        (Item.GPU, 3600, None, 1.0),
        (Item.TRAFFIC, 0, 7.0, 0.3),
        (Item.OTHER, 0, None, 0.05),
    }
    assert {e.basis for e in found} == {Basis.BILLED}


@given(st.floats(0, 200_000), st.floats(1, 300_000), st.floats(0, 50))
def test_a_bill_over_days_is_shared_out_without_losing_a_cent(
    start: float, span: float, usd: float
):
    whole = [charge(usd=usd, start=start, end=start + span, hours=span / 3600)]
    found = []
    for number in range(8):
        found += billed(whole, day=(T0 + number * DAY).date())
    assert math.fsum(e.usd or 0 for e in found) == pytest.approx(usd, abs=1e-6)
    assert math.fsum(e.seconds for e in found) == pytest.approx(span, abs=0.01)
    assert all(e.seconds <= 86_400.01 for e in found)


def test_an_amount_that_cannot_be_read_is_unknown():
    [line] = billed([charge(usd=None, start=0, end=10)])
    assert (line.usd, line.basis) == (None, Basis.BILLED)


def test_bills_go_first_and_what_we_saw_goes_on_from_there():
    timeline = [seen(0, RUNNING, 3.61, 0.01)]
    record = rental(last_seen_at=after(3600))
    [bill] = billed([charge(usd=1.7, start=0, end=1800, hours=0.5)], read_s=1800)
    found = lines(record, timeline, {(Item.GPU, T0.date()): bill})
    [gpu] = by_item(found, Item.GPU)
    assert (gpu.basis, gpu.seconds) == (Basis.METERED, 3600)
    assert gpu.usd == pytest.approx(1.7 + 1.8)
    assert (gpu.billed_usd, gpu.billed_seconds) == (1.7, 1800)
    [whole] = summarize([gpu], By.DAY)
    assert (whole.billed_usd, whole.metered_usd) == (1.7, pytest.approx(1.8))
    [disk] = by_item(found, Item.DISK)
    assert (disk.basis, disk.billed_usd) == (Basis.METERED, None)


def test_a_price_that_is_not_known_hides_nothing_of_the_bill():
    timeline = [seen(0, RUNNING, 3.61, 0.01), seen(2700, RUNNING, None, 0.01)]
    record = rental(last_seen_at=after(3600))
    [bill] = billed([charge(usd=1.7, start=0, end=1800, hours=0.5)], read_s=1800)
    for _ in range(2):  # the second time from the line that the first one wrote
        found = lines(record, timeline, {(Item.GPU, T0.date()): bill})
        [bill] = by_item(found, Item.GPU)
        assert (bill.usd, bill.billed_usd) == (None, 1.7)
        assert bill.known_usd == pytest.approx(1.7 + 0.9)
        [whole] = summarize([bill], By.DAY)
        assert (whole.usd, whole.billed_usd, whole.metered_usd) == pytest.approx((2.6, 1.7, 0.9))
        assert whole.at_least
    later = bill.model_copy(update={"billed_at": after(2 * 86_400)})
    [gpu] = by_item(lines(record, timeline, {(Item.GPU, T0.date()): later}), Item.GPU)
    assert (gpu.usd, gpu.known_usd) == (1.7, None)


def test_of_an_ended_rental_the_bill_has_all_though_we_saw_its_end_late():
    record = rental(ended_at=after(1840))
    [bill] = billed([charge(usd=1.7, start=0, end=1800, hours=0.5)], read_s=1900)
    found = lines(record, [seen(0, RUNNING)], {(Item.GPU, T0.date()): bill})
    [gpu] = by_item(found, Item.GPU)
    assert (gpu.basis, gpu.seconds, gpu.usd) == (Basis.BILLED, 1800, 1.7)
    assert gpu.metered_seconds == 1840
    [difference] = audit([gpu])
    assert difference.seconds == -40


def test_a_bill_that_lags_far_behind_does_not_hide_what_ran():
    record = rental(ended_at=after(7200))
    [bill] = billed([charge(usd=1.7, start=0, end=1800, hours=0.5)], read_s=7300)
    [gpu] = by_item(lines(record, [seen(0, RUNNING)], {(Item.GPU, T0.date()): bill}), Item.GPU)
    assert (gpu.basis, gpu.seconds) == (Basis.METERED, 7200)
    later = bill.model_copy(update={"billed_at": after(2 * 86_400)})
    [gpu] = by_item(lines(record, [seen(0, RUNNING)], {(Item.GPU, T0.date()): later}), Item.GPU)
    assert (gpu.basis, gpu.seconds) == (Basis.BILLED, 1800), "a day later there will be no more"


# Sums -----------------------------------------------------------------------------------------


def line(**changed: Any) -> Entry:
    given = {
        "provider": "vast", "resource_id": "24", "item": "gpu", "day": "2026-03-28",
        "machine_id": "m000000000001", "owner_id": "u1", "basis": "metered", "start": T0, "end": T0,
        "seconds": 3600.0, "usd": 0.1, "gpu": "RTX 4090", "source": "s",
    }  # fmt: skip
    return Entry.model_validate(given | changed)


def test_sums_keep_apart_how_they_are_known_and_an_unknown_price_makes_them_at_least():
    entries = [
        line(usd=0.1),
        line(usd=0.2, basis="billed", billed_usd=0.2),
        line(usd=0.4, basis="listed", item="vm", gpu=None),
        line(usd=None, item="disk", seconds=60.0),
    ]
    found = total(entries)
    assert found.usd == pytest.approx(0.7)
    assert (found.metered_usd, found.billed_usd, found.listed_usd) == (0.1, 0.2, 0.4)
    assert (found.unknown_lines, found.unknown_seconds, found.at_least) == (1, 60, True)
    assert found.gpu_seconds == 7200
    assert not total(entries[:3]).at_least
    assert [s.key for s in summarize(entries, By.ITEM)] == ["disk", "gpu", "vm"]
    assert [s.key for s in summarize(entries, By.GPU)] == ["RTX 4090", None]


@given(st.lists(st.floats(0, 1e6), max_size=200))
def test_sums_by_anything_are_the_sum_of_all(amounts: list[float]):
    entries = [
        line(usd=amount, machine_id=f"m{number % 3}", day=date(2026, 3, 1 + number % 7))
        for number, amount in enumerate(amounts)
    ]
    for by in By:
        parts = [s.usd for s in summarize(entries, by)]
        assert math.fsum(parts) == pytest.approx(math.fsum(amounts), abs=1e-6)


def test_a_tenth_ten_times_is_one():
    assert total([line(usd=0.1)] * 10).usd == 1.0


# Storage --------------------------------------------------------------------------------------


def test_storing_is_paid_from_being_made_to_being_deleted():
    first = midnight(T0.date())
    kept = [
        Kept(730_000_000_000, first + timedelta(hours=12), None),
        Kept(10_000_000_000, first - DAY, first + timedelta(hours=6)),
    ]
    found = storage_lines(
        "u1", kept, since=first, until=first + 1.5 * DAY, usd_per_gb_month=0.01, source="as said"
    )
    assert [e.day for e in found] == [first.date(), (first + DAY).date()]
    # 730 GB for 12 h, 10 GB for 6 h; a month has 730 hours.
    assert found[0].usd == pytest.approx((730 * 12 + 10 * 6) / 730 * 0.01)
    assert found[1].usd == pytest.approx(730 * 12 / 730 * 0.01)
    assert found[1].quantity == pytest.approx(730)
    assert {(e.basis, e.machine_id) for e in found} == {(Basis.LISTED, None)}


def test_without_a_price_storing_costs_an_unknown_amount():
    first = midnight(T0.date())
    [found] = storage_lines(
        "u1", [Kept(5, first, None)], since=first, until=first + timedelta(hours=1),
        usd_per_gb_month=None, source="none configured",
    )  # fmt: skip
    assert found.usd is None
    assert total([found]).at_least
