"""`dumont offers`, `logs` and `events`: looking without changing anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.completion import gpu_names, machine_names
from dumont.cli.output import notice, print_json, say, stdout_console
from dumont.cli.session import JSON, session_of

if TYPE_CHECKING:
    from dumont.cli.client import Api
    from dumont.domain.resources import EventView

RECONNECT_S = 2.0
"""Seconds before a broken event stream is taken up again."""


def offers(
    ctx: typer.Context,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="GPU model.", autocompletion=gpu_names)
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", metavar="N", help="How many GPUs.")] = None,
    on_demand: Annotated[
        bool | None, typer.Option("--on-demand/--spot", help="Fixed price, or bids (the default).")
    ] = None,
    max_price: Annotated[
        float | None, typer.Option("--max-price", metavar="USD", help="At most this per hour.")
    ] = None,
    disk: Annotated[
        float | None, typer.Option("--disk", metavar="GB", help="Price and fit for this much disk.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.")] = 20,
    json: Annotated[bool, JSON] = False,
) -> None:
    """List what the market rents now, cheapest first."""
    from dumont.cli.tables import offer_table
    from dumont.cli.text import clock
    from dumont.domain.gpus import canonical_gpu

    rental = None if on_demand is None else "on_demand" if on_demand else "spot"
    found = (
        session_of(ctx)
        .api()
        .offers(
            gpu=canonical_gpu(gpu) if gpu else None,
            gpu_count=gpus,
            rental=rental,
            max_usd_per_hour=max_price,
            disk_gb=disk,
            limit=limit,
        )
    )
    if json:
        print_json(found)
    elif found.items:
        console = stdout_console()
        console.print(offer_table(offers=found.items, width=console.width))
        notice(f"As the market answered at {clock(found.seen_at)}.")
    else:
        notice("The market has no such offer now. Ask for less: another GPU, a higher price.")


def logs(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name or id.", autocompletion=machine_names)
    ],
    json: Annotated[bool, JSON] = False,
) -> None:
    """Print what the provider has of a machine's output."""
    text = session_of(ctx).api().logs(ref=name)
    if json:
        print_json(text)
    elif text.text:
        say(text.text.rstrip("\n"))
    else:
        notice(f"The provider has no output of {name}.")


def events(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Only this machine's; all machines' with --follow.",
            autocompletion=machine_names,
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=0, help="At most so many past ones.")
    ] = 50,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Print what happened, oldest first. With --json each event is one line."""
    from dumont.domain.errors import InvalidInput

    if name is None and not follow:
        raise InvalidInput(
            "which machine?",
            field="NAME",
            hint="name one, or say --follow for whatever happens to any of them",
        )
    api = session_of(ctx).api()
    machine_id = api.machine(ref=name).machine_id if name else None
    last: int | None = None
    if machine_id is not None:
        past = list(api.machine_events(ref=machine_id, limit=limit or 1))
        # With no past event the stream starts at the beginning: nothing falls in between.
        last = past[0].seq if past else 0
        for event in reversed(past[:limit]):
            _print(event, json)
    if follow:
        _follow(api, machine_id, after=last, json=json)


def _follow(api: Api, machine_id: str | None, *, after: int | None, json: bool) -> None:
    from dumont.cli.watch import parse
    from dumont.domain.errors import DependencyUnavailable
    from dumont.domain.resources import EventView

    connected = True
    while True:
        try:
            for message in api.stream(after=after, machine=machine_id):
                if not connected:
                    notice("The event stream is back.")
                    connected = True
                if message.id is not None and message.id.isdigit():
                    after = int(message.id)
                event = parse(message)
                if isinstance(event, EventView):
                    _print(event, json)
        except DependencyUnavailable as error:
            if connected:
                notice(f"The event stream broke ({error.message}); trying again.")
            connected = False
        time.sleep(RECONNECT_S)


def _print(event: EventView, json: bool) -> None:
    if json:
        print_json(event, line=True)
        return
    from dumont.cli.tables import event_line

    stdout_console().print(event_line(event=event))
