"""`dumont ls`, `show` and `destroy`."""

from __future__ import annotations

import sys
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
    from dumont.domain.resources import MachineView

NAME = typer.Argument(metavar="NAME", help="Its name or id.", autocompletion=machine_names)


def ls(
    ctx: typer.Context,
    all: Annotated[bool, typer.Option("--all", "-a", help="Destroyed ones too.")] = False,
    phase: Annotated[
        str | None,
        typer.Option("--phase", help="Only those in this state, for example stuck."),
    ] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """List your machines."""
    from dumont.cli.commands.connect import link_all
    from dumont.cli.tables import machine_table
    from dumont.domain.errors import InvalidInput
    from dumont.domain.machine import MachinePhase

    if phase is not None and phase not in list(MachinePhase):
        raise InvalidInput(
            f"there is no state {phase!r}",
            field="--phase",
            hint="it is one of " + ", ".join(MachinePhase),
        )
    if phase is not None and all:
        raise InvalidInput("--all and --phase exclude each other", field="--all")
    api = session_of(ctx).api()
    phases = list(MachinePhase) if all else [] if phase is None else [phase]
    machines = list(api.machines(phases=phases))
    if phase is None:
        link_all(api, machines)
    if json:
        print_json(machines)
    elif machines:
        display(what=machine_table(machines=machines))
    else:
        notice('No machines. `dumont up my-box --gpu "RTX 4090" --max-price 0.60` rents one.')


def show(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    json: Annotated[bool, JSON] = False,
) -> None:
    """Show one machine: state, price, address, readiness."""
    from dumont.cli.commands.connect import link
    from dumont.cli.tables import machine_card

    api = session_of(ctx).api()
    machine = api.machine(ref=name)
    link(api, machine, touch=False)
    if json:
        print_json(machine)
    else:
        display(what=machine_card(machine=machine))


def destroy(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return as soon as the end is accepted.")
    ] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Destroy a machine and everything on it, and wait until nothing is rented any more."""
    from dumont.cli.commands.connect import link

    api = session_of(ctx).api()
    machine = api.machine(ref=name)
    if not machine.phase.final:
        if not yes:
            _confirm(machine)
        seen = next((event.seq for event in api.machine_events(ref=machine.machine_id, limit=1)), 0)
        machine = api.destroy_machine(ref=machine.machine_id)
        if not no_wait:
            machine = _wait(api, machine, after=seen)
    link(api, machine, touch=False)
    if json:
        print_json(machine)
    elif machine.phase.final:
        say(f"{machine.name} is destroyed: nothing is rented for it any more.")
    else:
        say(f"{machine.name} is being destroyed.")


def _confirm(machine: MachineView) -> None:
    from dumont.domain.errors import InvalidInput

    if not sys.stdin.isatty():
        raise InvalidInput(
            f"destroying {machine.name} deletes everything on it and needs your word",
            field="--yes",
            hint=f"run it in a terminal, or say `dumont destroy {machine.name} --yes`",
        )
    notice(f"Destroying {machine.name} deletes everything on it. There is no way back.")
    typed = typer.prompt("Type its name to go on", default="", show_default=False, err=True)
    if typed.strip() != machine.name:
        notice("That is not its name; nothing was done.")
        raise typer.Exit(ExitCode.FAILURE)


def _wait(api: Api, machine: MachineView, *, after: int) -> MachineView:
    from dumont.cli.watch import Watcher
    from dumont.domain.events import EventKind
    from dumont.domain.resources import EventView

    watcher = Watcher(api=api, machine_id=machine.machine_id, after=after)
    console = stderr_console()
    try:
        with (
            console.status(
                f"ending what {machine.name} rents, until the provider has confirmed it"
            ),
            closing(watcher.updates()) as updates,
        ):
            for update in updates:
                if isinstance(update, EventView):
                    if update.kind is EventKind.INSTANCE_ENDED:
                        console.print(update.summary, markup=False)
                elif update.phase.final:
                    return update
    except KeyboardInterrupt:
        notice(
            f"\nStopped watching; {machine.name} goes on being destroyed. "
            f"`dumont show {machine.name}` tells how it stands."
        )
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    return machine
