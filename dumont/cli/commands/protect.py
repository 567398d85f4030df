"""`dumont drill`, `flush`, `failback` and `receipts`: what protects the work, tried and proved."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.completion import machine_names
from dumont.cli.exit_codes import ExitCode
from dumont.cli.output import notice, print_json, say, stderr_console
from dumont.cli.output import show as display
from dumont.cli.session import JSON, session_of

if TYPE_CHECKING:
    from dumont.cli.client import Api
    from dumont.domain.resources import MachineView, ReceiptView

NAME = typer.Argument(metavar="NAME", help="Its name or id.", autocompletion=machine_names)


def drill(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    redirect_only: Annotated[
        bool,
        typer.Option("--redirect-only", help="Keep the GPU: the address moves and comes back."),
    ] = False,
    no_flush: Annotated[
        bool,
        typer.Option("--no-flush", help="As a real death would: do not wait for the last writes."),
    ] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Fail over on purpose, watch it, and get the receipt.

    Ctrl-C stops watching, not the drill.
    """
    from dumont.cli.receipt import receipt_card
    from dumont.domain.resources import DrillOrder

    api = session_of(ctx).api()
    machine = api.machine(ref=name)
    if not yes:
        _confirm(machine, redirect_only=redirect_only)
    seen = next((event.seq for event in api.machine_events(ref=machine.machine_id, limit=1)), 0)
    order = DrillOrder(flush=not no_flush, redirect_only=redirect_only)
    api.drill(ref=machine.machine_id, order=order)
    receipt = _watch(api, machine, number=machine.failovers + 1, after=seen, quiet=json)
    if json:
        print_json(receipt)
    else:
        display(what=receipt_card(view=receipt))


def flush(
    ctx: typer.Context, name: Annotated[str, NAME], json: Annotated[bool, JSON] = False
) -> None:
    """Wait until everything written so far is on the standby, compared by hash.

    When it ends with 0, nothing written before it can be lost with the GPU.
    """
    from dumont.cli.text import clock, size, span

    api = session_of(ctx).api()
    with stderr_console().status(f"waiting until {name}'s standby has everything"):
        barrier = api.flush(ref=name)
    if json:
        print_json(barrier)
        return
    say(f"Everything written on {name} before {clock(barrier.replicated_at)} is on its standby.")
    say(
        f"  {barrier.files:,} files ({size(barrier.bytes)}) passed, {barrier.hashed:,} compared by "
        f"hash, in {span(barrier.seconds)}"
    )


def failback(
    ctx: typer.Context, name: Annotated[str, NAME], json: Annotated[bool, JSON] = False
) -> None:
    """Let a machine return to its GPU as soon as that has everything, whoever works on the standby."""
    machine = session_of(ctx).api().fail_back(ref=name)
    if json:
        print_json(machine)
        return
    say(f"{machine.name} returns to a GPU as soon as that has every file.")
    say("  Sessions on the standby end at that moment; log in again at the same address.")
    say(f"  follow it  dumont events {machine.name} --follow")


def receipts(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    number: Annotated[
        int | None, typer.Argument(metavar="[N]", min=1, help="Only this one, in full.")
    ] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """What each failover of a machine did: cause, times, what was kept and what was not, cost."""
    from dumont.cli.receipt import receipt_card, receipt_table

    api = session_of(ctx).api()
    if number is not None:
        one = api.receipt(ref=name, number=number)
        if json:
            print_json(one)
        else:
            display(what=receipt_card(view=one))
        return
    found = api.receipts(ref=name)
    if json:
        print_json(found.items)
    elif found.items:
        display(what=receipt_table(views=found.items))
    else:
        notice(f"{name} never had to fail over. `dumont drill {name}` tries it.")


def _confirm(machine: MachineView, *, redirect_only: bool) -> None:
    from dumont.cli.confirm import confirm

    confirm(
        what=f"a drill cuts the sessions on {machine.name} and",
        hint=f"run it in a terminal, or say `dumont drill {machine.name} --yes`",
        warning=f"The sessions on {machine.name} are cut; its address leads to the standby and then "
        "back to the same GPU."
        if redirect_only
        else f"The GPU of {machine.name} is given back and another one is rented; meanwhile its "
        "address leads to the standby. Programs that run on the GPU end.",
    )


def _watch(api: Api, machine: MachineView, *, number: int, after: int, quiet: bool) -> ReceiptView:
    """Watch until the drill's receipt is filed.

    Raises:
        DumontError: The drill did not begin, or the machine cannot go on now.
        typer.Exit: Ctrl-C.
    """
    from rich.console import Console

    from dumont.cli.failover_progress import FailoverProgress
    from dumont.cli.watch import Watcher
    from dumont.domain.errors import Conflict, InstanceDead, NotFound
    from dumont.domain.machine import MachinePhase
    from dumont.domain.resources import EventView

    console = Console(quiet=True) if quiet else stderr_console()
    watcher = Watcher(api=api, machine_id=machine.machine_id, after=after)
    last = ""
    try:
        with (
            FailoverProgress(machine=machine, console=console) as progress,
            closing(watcher.updates()) as updates,
        ):
            for update in updates:
                progress.saw(update=update)
                if isinstance(update, EventView):
                    last = update.summary
                elif update.phase is MachinePhase.STUCK:
                    raise InstanceDead(
                        f"{update.name} is stuck: {update.reason}",
                        hint=f"`dumont show {update.name}` tells what happens next",
                    )
                elif update.phase in (MachinePhase.DESTROYING, MachinePhase.DESTROYED):
                    raise InstanceDead(f"{update.name} is being destroyed: {update.reason}")
                elif update.failovers >= number and update.phase is MachinePhase.RUNNING:
                    try:
                        return api.receipt(ref=update.machine_id, number=number)
                    except NotFound:
                        raise Conflict(
                            f"no receipt was filed: {last or update.reason}",
                            hint=f"`dumont events {update.name}` tells what happened",
                        ) from None
    except KeyboardInterrupt:
        notice(
            f"\nStopped watching; the drill goes on. `dumont receipts {machine.name} {number}` "
            "shows its receipt afterwards."
        )
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise AssertionError("a watcher never ends by itself")
