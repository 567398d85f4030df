"""`dumont budget`: what may be spent, how it stands, and what was done to keep to it."""

from __future__ import annotations

from typing import Annotated

import typer

from dumont.cli.completion import machine_names
from dumont.cli.output import print_json, say, show
from dumont.cli.session import JSON, session_of

app = typer.Typer(help="What may be spent, and what is done to keep to it.")

MACHINE = typer.Option(
    "--machine",
    metavar="NAME",
    help="Of this machine; else of all your machines.",
    autocompletion=machine_names,
)
TOTAL = typer.Option("--total", help="Of the whole deployment; administrators only.")

_OPTIONS = {
    "machine": "--machine",
    "total": "--total",
    "usd_per_hour": "--hour",
    "usd_per_day": "--day",
    "usd_per_month": "--month",
    "warn_at": "--warn-at",
    "actions": "--act",
}


@app.callback(invoke_without_command=True)
def budget(ctx: typer.Context, json: Annotated[bool, JSON] = False) -> None:
    """Show what is spent beside your budgets, as `dumont budget status` does."""
    if ctx.invoked_subcommand is None:
        _show(ctx, json=json)


@app.command("status")
def status(ctx: typer.Context, json: Annotated[bool, JSON] = False) -> None:
    """Show what is spent now, today and this month, what it comes to, and how your budgets stand."""
    _show(ctx, json=json)


def _show(ctx: typer.Context, *, json: bool) -> None:
    from dumont.cli.budget_views import spending_lines, standing_table

    seen = session_of(ctx).api().budgets.status()
    if json:
        print_json(seen)
        return
    for line in spending_lines(seen.mine, whose="You"):
        say(line)
    if seen.total is not None:
        for line in spending_lines(seen.total, whose="The whole deployment"):
            say(line)
    if seen.budgets:
        say("")
        show(what=standing_table(seen.budgets))
    else:
        say("No budget is set. Set one: dumont budget set --hour 1.5 --day 20")


@app.command("set")
def set_(
    ctx: typer.Context,
    machine: Annotated[str | None, MACHINE] = None,
    total: Annotated[bool, TOTAL] = False,
    hour: Annotated[
        float | None, typer.Option("--hour", metavar="USD", help="At most so much per hour.")
    ] = None,
    day: Annotated[
        float | None, typer.Option("--day", metavar="USD", help="At most so much a day (UTC).")
    ] = None,
    month: Annotated[
        float | None, typer.Option("--month", metavar="USD", help="At most so much a month.")
    ] = None,
    warn_at: Annotated[
        float, typer.Option("--warn-at", metavar="SHARE", help="Told from this share of a cap.")
    ] = 0.8,
    act: Annotated[
        str,
        typer.Option(
            "--act", metavar="STEP", help="How far it may go: notify, cheaper or hibernate."
        ),
    ] = "hibernate",
    json: Annotated[bool, JSON] = False,
) -> None:
    """Set a budget, in place of the one that was set for the same.

    Nothing more is rented that it has no room for. What runs is looked at every minute: you are told,
    something cheaper is looked for, and at last machines are put to sleep, the fewest that do.
    """
    from dumont.cli.budget_views import caps, whose
    from dumont.cli.orders import order
    from dumont.domain.budget_resources import BudgetOrder
    from dumont.domain.budgets import LADDER, Step
    from dumont.domain.errors import InvalidInput

    steps = [step.value for step in LADDER]
    if act not in steps:
        raise InvalidInput(f"{act!r} is none of {', '.join(steps)}", field="--act")
    said = {
        "machine": machine,
        "total": total,
        "usd_per_hour": hour,
        "usd_per_day": day,
        "usd_per_month": month,
        "warn_at": warn_at,
        "actions": list(LADDER[: steps.index(Step(act)) + 1]),
    }
    view = session_of(ctx).api().budgets.put(order=order(BudgetOrder, said, options=_OPTIONS))
    if json:
        print_json(view)
    else:
        say(f"The budget of {whose(view)} is {caps(view)}; told from {view.warn_at:.0%} of it.")


@app.command("clear")
def clear(
    ctx: typer.Context,
    machine: Annotated[str | None, MACHINE] = None,
    total: Annotated[bool, TOTAL] = False,
) -> None:
    """Take a budget away."""
    from dumont.domain.errors import InvalidInput

    if machine is not None and total:
        raise InvalidInput("give --machine or --total, not both", field="--total")
    session_of(ctx).api().budgets.delete(machine=machine, total=total)
    say("It is taken away.")


@app.command("acts")
def acts(
    ctx: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=200, help="At most so many.")
    ] = 20,
    json: Annotated[bool, JSON] = False,
) -> None:
    """List the receipts of what was done to keep budgets, newest first."""
    from dumont.cli.budget_views import acts_table

    found = session_of(ctx).api().budgets.acts(limit=limit)
    if json:
        print_json(found)
    elif found.items:
        show(what=acts_table(found.items))
    else:
        say("Nothing had to be done for a budget.")
