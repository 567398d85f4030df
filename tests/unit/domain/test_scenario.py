"""The calculator: the first description's figures come out of their inputs, and nothing else does."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from dumont.domain.savings_resources import ScenarioOrder
from dumont.domain.scenario import CLAIM_LABEL, CLAIMED, OWN_LABEL, ScenarioInputs, scenario


def test_the_claim_comes_out_to_the_dollar():
    found = scenario()
    assert found.benefit_usd_per_month == pytest.approx(2_520.50)
    assert round(found.benefit_usd_per_year, 2) == 30_246.00
    assert found.cost_usd_per_month == pytest.approx(144)
    assert found.roi_percent == pytest.approx(1650.35, abs=0.01)
    assert found.payback_days is not None
    assert 1.7 < found.payback_days < 3
    assert found.label == CLAIM_LABEL
    assert "nothing of it is measured" in found.label


def test_the_sum_that_nothing_explains_is_a_line_of_its_own():
    [unexplained] = [line for line in scenario().lines if line.name == "unexplained"]
    assert unexplained.usd_per_month == 297
    assert any("$297" in each and "no input explains" in each for each in scenario().leaves_out)


def test_what_it_leaves_out_is_said_with_the_figures_that_follow():
    """The sentences beside the claim hold figures: they must be the calculator's own."""
    without = scenario(ScenarioInputs())
    assert round(without.benefit_usd_per_year) == 26_682
    assert without.roi_percent == pytest.approx(1444, abs=0.5)
    cheap = scenario(CLAIMED.model_copy(update={"standby_usd_per_hour": 0.01}))
    assert cheap.roi_percent == pytest.approx(3401, abs=0.5)
    whole = {"standby_disk_usd_per_month": 4, "standby_address_usd_per_hour": 0.0025}
    assert scenario(CLAIMED.model_copy(update=whole)).cost_usd_per_month == pytest.approx(202)
    said = " ".join(scenario().leaves_out)
    for figure in ("$26,682", "1,444 %", "3,401 %", "$202", "$0.02", "$30,246"):
        assert figure in said
    assert scenario().net_usd_per_year == pytest.approx(30_246 - 12 * 144)


def test_other_inputs_are_no_claim_and_have_nothing_unexplained():
    found = scenario(ScenarioOrder(machines=3).inputs())
    assert found.label == OWN_LABEL
    assert not any(line.name == "unexplained" for line in found.lines)
    assert not any("297" in each for each in found.leaves_out)
    assert found.benefit_usd_per_month == pytest.approx(3 * 0.3 * 720 + 62.5 + 1)
    asked = scenario(ScenarioOrder(machines=3, unexplained_usd_per_month=10).inputs())
    assert asked.benefit_usd_per_month == pytest.approx(found.benefit_usd_per_month + 10)


def test_no_order_is_the_claim():
    assert ScenarioOrder().inputs() == CLAIMED


def test_each_line_is_in_the_sums():
    found = scenario(
        ScenarioInputs(
            standby_disk_usd_per_month=4,
            standby_address_usd_per_hour=0.0025,
            egress_paid_gb_per_month=100,
            storage_usd_per_month=3,
            gpus_per_machine=2,
        )
    )
    gains = sum(line.usd_per_month for line in found.lines if line.usd_per_month > 0)
    costs = -sum(line.usd_per_month for line in found.lines if line.usd_per_month < 0)
    assert found.benefit_usd_per_month == pytest.approx(gains)
    assert found.cost_usd_per_month == pytest.approx(costs) == pytest.approx(144 + 40 + 18 + 12 + 3)


def test_nothing_is_divided_by_nothing():
    free = scenario(ScenarioInputs(standby_usd_per_hour=0))
    assert free.roi_percent is None
    idle = ScenarioInputs(hours_per_month=0, failovers_per_month=0, egress_avoided_gb_per_month=0)
    assert scenario(idle).payback_days is None


@pytest.mark.parametrize(
    "wrong", [{"machines": -1}, {"hours_per_month": 745}, {"usd_per_downtime_hour": float("nan")}]
)
def test_impossible_inputs_are_refused(wrong: dict[str, float]):
    with pytest.raises(ValidationError):
        ScenarioInputs.model_validate(wrong)
