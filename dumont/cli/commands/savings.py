"""`dumont savings` and `savings-scenario`: what was saved, by the records; and what would be, by inputs."""

from __future__ import annotations

from typing import Annotated

import typer

from dumont.cli.output import notice, print_json, say, show
from dumont.cli.session import JSON, session_of


def savings(
    ctx: typer.Context,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DAY", help="First day (UTC), as 2026-11-01.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DAY", help="Last day, included; today.")
    ] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="WHAT", help="Rows: machine, day or gpu.")
    ] = "machine",
    hour_value: Annotated[
        float | None,
        typer.Option(
            "--hour-value", metavar="USD", help="What an hour of people at a machine is worth."
        ),
    ] = None,
    minutes_without: Annotated[
        float | None,
        typer.Option(
            "--minutes-without",
            metavar="MIN",
            help="How long a lost machine would be away without a standby.",
        ),
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Every line of it, with --csv or --json.")
    ] = False,
    prices: Annotated[
        bool, typer.Option("--prices", help="The on-demand prices it is held against.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Say what your machines saved and what that cost, each figure with how it is known."""
    from dumont.cli.savings_views import (
        figures_table,
        has_estimates,
        references_table,
        return_line,
        rows_table,
    )
    from dumont.domain.errors import InvalidInput

    if csv and json:
        raise InvalidInput("give either --csv or --json", field="--csv")
    if csv and prices:
        raise InvalidInput("prices are printed as a table or with --json", field="--csv")
    if lines and not (csv or json):
        raise InvalidInput("lines are for programs", field="--lines", hint="add --csv or --json")
    calls = session_of(ctx).api().savings
    if prices:
        found = calls.reference_prices()
        if json:
            print_json(found)
            return
        show(what=references_table(found))
        notice(found.rule)
        return
    query: dict[str, str | float | bool | None] = {
        "from": _day(since, "--since"),
        "to": _day(until, "--until"),
        "by": _one_of(by),
        "hour_value": hour_value,
        "minutes_without": minutes_without,
        "lines": lines or None,
    }
    if csv:
        say(calls.table(**query).rstrip("\n"))
        return
    report = calls.report(**query)
    if json:
        print_json(report)
        return
    say(f"{report.since} to {report.until} (UTC), as of {report.as_of:%Y-%m-%d %H:%M} UTC")
    show(what=figures_table(report))
    if report.rows:
        show(what=rows_table(report))
    for each in report.returns:
        say(return_line(each))
    for words in report.left_out:
        say(f"not in it: {words}")
    if not report.rows:
        notice("The ledger has nothing of this time.")
    elif has_estimates(report):
        notice("Figures known as metered, listed or estimate are no bills: see docs/savings.md.")


def savings_scenario(
    ctx: typer.Context,
    machines: Annotated[int | None, typer.Option("--machines", metavar="N")] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", metavar="N", help="Of each machine.")
    ] = None,
    saved: Annotated[
        float | None,
        typer.Option("--saved-per-gpu-hour", metavar="USD", help="On demand minus spot."),
    ] = None,
    hours: Annotated[
        float | None, typer.Option("--hours", metavar="H", help="That GPUs run, a month.")
    ] = None,
    failovers: Annotated[
        float | None,
        typer.Option("--failovers", metavar="N", help="A month, of all machines."),
    ] = None,
    downtime_minutes: Annotated[
        float | None,
        typer.Option("--downtime-minutes", metavar="MIN", help="That a failover avoids."),
    ] = None,
    downtime_hour: Annotated[
        float | None, typer.Option("--downtime-hour", metavar="USD", help="What one costs.")
    ] = None,
    standby: Annotated[
        float | None, typer.Option("--standby", metavar="USD", help="$/h of one standby.")
    ] = None,
    standby_hours: Annotated[
        float | None, typer.Option("--standby-hours", metavar="H", help="That it runs, a month.")
    ] = None,
    standby_disk: Annotated[
        float | None, typer.Option("--standby-disk", metavar="USD", help="A month, of one.")
    ] = None,
    standby_address: Annotated[
        float | None, typer.Option("--standby-address", metavar="USD", help="$/h of one.")
    ] = None,
    egress_gb: Annotated[
        float | None, typer.Option("--egress-gb", metavar="GB", help="Paid, a month.")
    ] = None,
    egress_price: Annotated[
        float | None, typer.Option("--egress-price", metavar="USD", help="Of one paid GB.")
    ] = None,
    avoided_gb: Annotated[
        float | None, typer.Option("--avoided-gb", metavar="GB", help="Not paid, a month.")
    ] = None,
    avoided_price: Annotated[
        float | None, typer.Option("--avoided-price", metavar="USD", help="Of one avoided GB.")
    ] = None,
    storage: Annotated[
        float | None, typer.Option("--storage", metavar="USD", help="Snapshots, a month.")
    ] = None,
    unexplained: Annotated[
        float | None,
        typer.Option("--unexplained", metavar="USD", help="A benefit without a reason, a month."),
    ] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Calculate what would be saved if the inputs were true. Nothing of it is measured.

    Without inputs it is the claim of the product's first description, with what that leaves out.
    """
    from dumont.cli.savings_views import scenario_lines, scenario_table
    from dumont.domain.savings_resources import ScenarioOrder

    order = ScenarioOrder(
        machines=machines,
        gpus_per_machine=gpus,
        usd_saved_per_gpu_hour=saved,
        hours_per_month=hours,
        failovers_per_month=failovers,
        downtime_minutes=downtime_minutes,
        usd_per_downtime_hour=downtime_hour,
        egress_avoided_gb_per_month=avoided_gb,
        usd_per_avoided_gb=avoided_price,
        unexplained_usd_per_month=unexplained,
        standby_usd_per_hour=standby,
        standby_hours_per_month=standby_hours,
        standby_disk_usd_per_month=standby_disk,
        standby_address_usd_per_hour=standby_address,
        egress_paid_gb_per_month=egress_gb,
        usd_per_paid_gb=egress_price,
        storage_usd_per_month=storage,
    )
    found = session_of(ctx).api().savings.scenario(order=order)
    if json:
        print_json(found)
        return
    say(found.label[:1].upper() + found.label[1:])
    show(what=scenario_table(found))
    for line in scenario_lines(found):
        say(line)


def _day(text: str | None, field: str) -> str | None:
    from datetime import date

    from dumont.domain.errors import InvalidInput

    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise InvalidInput(f"{text!r} is not a day such as 2026-11-01", field=field) from None


def _one_of(by: str) -> str:
    from dumont.domain.errors import InvalidInput

    if by not in ("machine", "day", "gpu"):
        raise InvalidInput(f"{by!r} is not machine, day or gpu", field="--by")
    return by
