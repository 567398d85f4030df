"""A calculator of scenarios: what would be saved if the inputs were true. Nothing here is measured. Pure.

The first description of this product claims $30,246 a year, a return of 1,650 % and a payback within three
days for ten machines. `CLAIMED` are the inputs that give these figures, one of them a sum that nothing
explains. They are shown as this scenario, with what it leaves out, and nowhere else.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from dumont.domain.instances import Model

MONTHS: Final = 12
MONTH_DAYS: Final = 30


class ScenarioInputs(Model):
    """What the calculator multiplies. Dollars are US dollars."""

    machines: int = Field(default=10, ge=0, le=100_000, description="Each with a standby.")
    gpus_per_machine: int = Field(default=1, ge=1, le=16)
    usd_saved_per_gpu_hour: float = Field(
        default=0.30, ge=-1_000, le=1_000, description="On demand minus spot, for one GPU."
    )
    hours_per_month: float = Field(default=720, ge=0, le=744, description="That the GPUs run.")
    failovers_per_month: float = Field(default=5, ge=0, le=1e6, description="Of all machines.")
    downtime_minutes: float = Field(
        default=15, ge=0, le=1e6, description="That one failover avoids."
    )
    usd_per_downtime_hour: float = Field(default=50, ge=0, le=1e6)
    egress_avoided_gb_per_month: float = Field(default=100, ge=0, le=1e9)
    usd_per_avoided_gb: float = Field(default=0.01, ge=0, le=100)
    unexplained_usd_per_month: float = Field(
        default=0,
        ge=0,
        le=1e9,
        description="A benefit that no other input gives; 297 in the claim, without a reason.",
    )
    standby_usd_per_hour: float = Field(default=0.02, ge=0, le=1_000, description="Of one.")
    standby_hours_per_month: float = Field(default=720, ge=0, le=744)
    standby_disk_usd_per_month: float = Field(default=0, ge=0, le=1e6, description="Of one.")
    standby_address_usd_per_hour: float = Field(default=0, ge=0, le=1_000, description="Of one.")
    egress_paid_gb_per_month: float = Field(default=0, ge=0, le=1e9, description="Of all standbys.")
    usd_per_paid_gb: float = Field(default=0.12, ge=0, le=100)
    storage_usd_per_month: float = Field(default=0, ge=0, le=1e9, description="Of all snapshots.")


CLAIMED: Final = ScenarioInputs(unexplained_usd_per_month=297)
"""The inputs that give the first description's figures."""


class ScenarioLine(Model):
    """One product of the calculation."""

    name: str
    usd_per_month: float
    """A cost is negative."""
    formula: str
    """With the numbers in it."""


class Scenario(Model):
    """What follows from the inputs."""

    label: str
    """To be shown beside every figure of it."""
    inputs: ScenarioInputs
    lines: tuple[ScenarioLine, ...]
    benefit_usd_per_month: float
    cost_usd_per_month: float
    benefit_usd_per_year: float
    """Before what it costs: so the claim counts."""
    net_usd_per_year: float
    """After what it costs."""
    roi_percent: float | None
    """(benefit - cost) / cost; None: it costs nothing."""
    payback_days: float | None
    """A month's cost over a thirtieth of a month's benefit; None: there is no benefit."""
    leaves_out: tuple[str, ...]


CLAIM_LABEL: Final = "the first description's claim, as a scenario: nothing of it is measured"
OWN_LABEL: Final = "a scenario of the inputs given: nothing of it is measured"

ALWAYS_LEFT_OUT: Final[tuple[str, ...]] = (
    "whether anybody would have paid the on-demand price: where the same GPU is cheaper next door, less is"
    " saved",
    "hours that GPUs sleep: hibernation saves more than any spot price, and is not in here",
    "GPU time that is paid and of no use: booting, restoring after an interruption, work done twice",
    "spot prices are saved without a standby too: a return on the standby that counts them credits it with"
    " what it does not do",
    "a standby is rented by the hour and nothing is bought in advance: its payback is a month's cost over a"
    " day's benefit, no more",
)

CLAIM_LEAVES_OUT: Final[tuple[str, ...]] = (
    "$297.00 of benefit a month that no input explains: without it the same inputs give $26,682 a year and"
    " 1,444 %",
    "the claim's table has the standby at $0.01 an hour, its return needs $0.02: at $0.01 the same benefit"
    " would be 3,401 %",
    "the standby's disk (about $4 a month for 100 GB) and address (about $1.80): with them $144 a month for"
    " ten is at least $202",
    "what leaves the standby's cloud when a GPU gets its files back: $12 for 100 GB at list price",
    "snapshots in the object store",
    "$30,246 is the benefit alone: what the standbys cost is not taken off it",
    "$0.30 saved per GPU and hour, 5 failovers, 15 minutes and $50 an hour are constants of its program: no"
    " record stands behind any of them",
)


def scenario(inputs: ScenarioInputs = CLAIMED) -> Scenario:
    """Multiply it out.

    Args:
        inputs: The claim's when nothing is given.
    """
    benefits, costs = _benefits(inputs), _costs(inputs)
    benefit = sum(line.usd_per_month for line in benefits)
    cost = -sum(line.usd_per_month for line in costs)
    claimed = inputs == CLAIMED
    return Scenario(
        label=CLAIM_LABEL if claimed else OWN_LABEL,
        inputs=inputs,
        lines=(*benefits, *costs),
        benefit_usd_per_month=benefit,
        cost_usd_per_month=cost,
        benefit_usd_per_year=benefit * MONTHS,
        net_usd_per_year=(benefit - cost) * MONTHS,
        roi_percent=(benefit - cost) / cost * 100 if cost > 0 else None,
        payback_days=cost / (benefit / MONTH_DAYS) if benefit > 0 else None,
        leaves_out=(*(CLAIM_LEAVES_OUT if claimed else ()), *ALWAYS_LEFT_OUT),
    )


def _benefits(given: ScenarioInputs) -> list[ScenarioLine]:
    gpus = given.machines * given.gpus_per_machine
    lines = [
        _line(
            "spot instead of on demand",
            gpus * given.usd_saved_per_gpu_hour * given.hours_per_month,
            f"{gpus} GPUs x ${given.usd_saved_per_gpu_hour:g}/h x {given.hours_per_month:g} h",
        ),
        _line(
            "downtime avoided",
            given.failovers_per_month * given.downtime_minutes / 60 * given.usd_per_downtime_hour,
            f"{given.failovers_per_month:g} failovers x {given.downtime_minutes:g} min x"
            f" ${given.usd_per_downtime_hour:g}/h",
        ),
        _line(
            "egress avoided",
            given.egress_avoided_gb_per_month * given.usd_per_avoided_gb,
            f"{given.egress_avoided_gb_per_month:g} GB x ${given.usd_per_avoided_gb:g}/GB",
        ),
    ]
    if given.unexplained_usd_per_month:
        lines.append(
            _line("unexplained", given.unexplained_usd_per_month, "no input gives this sum")
        )
    return lines


def _costs(given: ScenarioInputs) -> list[ScenarioLine]:
    count, hours = given.machines, given.standby_hours_per_month
    lines = [
        _line(
            "standbys",
            -count * given.standby_usd_per_hour * hours,
            f"{count} x ${given.standby_usd_per_hour:g}/h x {hours:g} h",
        ),
        _line(
            "their disks",
            -count * given.standby_disk_usd_per_month,
            f"{count} x ${given.standby_disk_usd_per_month:g}/month",
        ),
        _line(
            "their addresses",
            -count * given.standby_address_usd_per_hour * hours,
            f"{count} x ${given.standby_address_usd_per_hour:g}/h x {hours:g} h",
        ),
        _line(
            "egress paid",
            -given.egress_paid_gb_per_month * given.usd_per_paid_gb,
            f"{given.egress_paid_gb_per_month:g} GB x ${given.usd_per_paid_gb:g}/GB",
        ),
        _line("snapshots", -given.storage_usd_per_month, "as given"),
    ]
    return [line for line in lines if line.usd_per_month or line.name == "standbys"]


def _line(name: str, usd_per_month: float, formula: str) -> ScenarioLine:
    return ScenarioLine(name=name, usd_per_month=usd_per_month + 0.0, formula=formula)
