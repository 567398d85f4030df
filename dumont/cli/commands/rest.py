"""`dumont hibernate` and `wake`: a machine that nobody needs costs nothing, and comes back."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.completion import machine_names
from dumont.cli.exit_codes import ExitCode
from dumont.cli.output import notice, print_json, say, stderr_console
from dumont.cli.session import JSON, session_of

if TYPE_CHECKING:
    from dumont.cli.client import Api
    from dumont.domain.machine import MachinePhase
    from dumont.domain.protection import Asleep
    from dumont.domain.resources import MachineView, WakeQuoteView

NAME = typer.Argument(metavar="NAME", help="Its name or id.", autocompletion=machine_names)
NO_WAIT = typer.Option("--no-wait", help="Return as soon as it is accepted.")


def hibernate(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    standby: Annotated[
        str | None,
        typer.Option(
            "--standby",
            metavar="keep|end",
            help="Keep its standby as a shell with every file, or give it back as well.",
        ),
    ] = None,
    no_wait: Annotated[bool, NO_WAIT] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Keep the workspace in the object store, verified, and give back everything that is rented.

    Programs on the machine end. `dumont wake` brings it back with every file. If anything cannot be
    kept, the machine stays up and says why. With `--standby keep` the machine's address leads to its
    standby meanwhile: a shell with every file, for the price of a small VM; `dumont-wake` there, or
    `dumont wake`, rents a GPU again.
    """
    from dumont.cli.commands.connect import link
    from dumont.domain.machine import MachinePhase
    from dumont.domain.resources import HibernateOrder

    api = session_of(ctx).api()
    before = api.machine(ref=name)
    seen = _newest(api, before)
    machine = api.hibernate(ref=before.machine_id, order=HibernateOrder(standby=_asleep(standby)))
    if not no_wait:
        machine = _until(
            api, machine, seen, goal=MachinePhase.HIBERNATED, refused=MachinePhase.RUNNING
        )
    link(api, machine, touch=False)
    if json:
        print_json(machine)
    elif machine.phase is MachinePhase.HIBERNATED:
        say(f"{machine.name} hibernates: {machine.reason}.")
        say(f"  bring it back  dumont wake {machine.name}")
        if machine.standby is not None:
            say(f"  work without a GPU  dumont ssh {machine.name}")
    else:
        say(f"{machine.name} goes to sleep. `dumont show {machine.name}` tells how it stands.")


def wake(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    quote: Annotated[
        bool, typer.Option("--quote", help="Only say what it would cost and take now.")
    ] = False,
    no_wait: Annotated[bool, NO_WAIT] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Rent a GPU for a hibernated machine and bring its workspace back, verified.

    Says first what that costs at the market of this moment, and about how long it takes.
    """
    from dumont.cli.commands.connect import link
    from dumont.cli.text import gpus, money
    from dumont.domain.machine import MachinePhase

    api = session_of(ctx).api()
    if quote:
        told = api.wake_quote(ref=name)
        print_json(told) if json else say(_in_words(told))
        return
    before = api.machine(ref=name)
    if before.phase is MachinePhase.HIBERNATED and not no_wait:
        _say_quote(api, before)
    seen = _newest(api, before)
    machine = api.wake(ref=before.machine_id)
    if not no_wait:
        machine = _until(api, machine, seen, goal=MachinePhase.RUNNING, refused=MachinePhase.STUCK)
    link(api, machine, touch=False)
    if json:
        print_json(machine)
    elif machine.phase is MachinePhase.RUNNING and machine.instance is not None:
        live = machine.instance
        what = gpus(count=live.gpu_count, model=live.gpu)
        say(f"{machine.name} is awake: {what} at {money(live.usd_per_hour)}; {machine.reason}.")
        say(f"  connect  dumont ssh {machine.name}")
    else:
        say(f"{machine.name} wakes. `dumont show {machine.name}` tells how it stands.")


def _asleep(word: str | None) -> Asleep | None:
    from dumont.domain.errors import InvalidInput
    from dumont.domain.protection import Asleep

    if word is None:
        return None
    try:
        return Asleep(word)
    except ValueError:
        raise InvalidInput(
            f"not {word!r}: say keep or end", field="--standby", hint="--standby keep"
        ) from None


def _say_quote(api: Api, machine: MachineView) -> None:
    """A market that cannot be asked keeps nobody from waking a machine."""
    from dumont.domain.errors import DumontError

    try:
        notice(_in_words(api.wake_quote(ref=machine.machine_id)))
    except DumontError as error:
        notice(f"What it costs cannot be said now: {error.message}")


def _in_words(quote: WakeQuoteView) -> str:
    from dumont.cli.text import gpus, money, span

    what = gpus(count=quote.gpu_count, model=quote.gpu)
    if quote.usd_per_hour is None:
        price = f"no offer of {what} fits now; it is tried again until one does"
    else:
        where = f" in {quote.region}" if quote.region else ""
        others = f", the best of {quote.fitting} offers" if quote.fitting > 1 else ""
        price = f"{what}{where} at {money(quote.usd_per_hour)}{others}"
    time = "time unknown" if quote.seconds is None else f"about {span(quote.seconds)}"
    return f"{quote.name}: {price}; {time} ({quote.basis})"


def _newest(api: Api, machine: MachineView) -> int:
    return next((event.seq for event in api.machine_events(ref=machine.machine_id, limit=1)), 0)


def _until(
    api: Api, machine: MachineView, seen: int, *, goal: MachinePhase, refused: MachinePhase
) -> MachineView:
    """Watch until the goal.

    Raises:
        Conflict: The machine is in the other phase instead, for the reason that is named.
        typer.Exit: Ctrl-C.
    """
    from dumont.cli.watch import Watcher
    from dumont.domain.errors import Conflict
    from dumont.domain.resources import EventView

    watcher = Watcher(api=api, machine_id=machine.machine_id, after=seen)
    console = stderr_console()
    begun = machine.phase not in (goal, refused)
    try:
        with (
            console.status(f"{machine.name}: {machine.reason}") as status,
            closing(watcher.updates()) as updates,
        ):
            for update in updates:
                if isinstance(update, EventView):
                    console.print(update.summary, markup=False)
                    begun = True
                    continue
                status.update(f"{update.name}: {update.reason}")
                if update.phase is goal and begun:
                    return update
                if update.phase.final or (update.phase is refused and begun):
                    raise Conflict(
                        f"{update.name} is {update.phase.value}: {update.reason}",
                        hint=f"`dumont events {update.name}` tells what happened",
                    )
                begun = begun or update.phase not in (goal, refused)
    except KeyboardInterrupt:
        notice(f"\nStopped watching; it goes on. `dumont show {machine.name}` tells how it stands.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise AssertionError("a watcher never ends by itself")
