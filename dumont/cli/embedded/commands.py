"""`dumont demo`, `dumont serve` and `dumont stack`.

Imports are deferred, as everywhere in the command line: `dumont --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dumont.domain.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from dumont.cli.embedded.state import StackStatus
    from dumont.config import Settings

_StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state", help="Directory for everything that survives a restart.", metavar="DIR"
    ),
]


def demo(
    state: _StateOption = None,
    boot_seconds: Annotated[
        str | None,
        typer.Option(help="How long the demo's instances take to load.", metavar="LO,HI"),
    ] = None,
) -> None:
    """Run the whole product on this machine, with a cloud in a box. Costs nothing."""
    from dumont.cli.embedded.run import run_stack
    from dumont.cli.embedded.stacks import DEMO_STATE

    run_stack(
        mode="demo",
        state_path=state or DEMO_STATE,
        settings=None,
        boot_seconds=boot_seconds,
    )


def serve(state: _StateOption = None) -> None:
    """Run the whole product on this machine, with your clouds (VAST_API_KEY ... in `.env`)."""
    from dumont.cli.embedded.run import run_stack
    from dumont.cli.embedded.stacks import SERVE_STATE

    settings = _settings()
    _check_serve(settings)
    chosen = settings.state_dir if "state_dir" in settings.model_fields_set else SERVE_STATE
    run_stack(mode="serve", state_path=state or chosen, settings=settings)


def _settings() -> Settings:
    from pydantic import ValidationError

    from dumont.cli.embedded.environment import describe
    from dumont.config import Settings

    try:
        return Settings()
    except ValidationError as error:
        text = describe(error)
        raise InvalidInput(
            text,
            field=text.partition(":")[0],
            hint="it comes from the environment or from .env; .env.example explains every variable",
        ) from None


def _check_serve(settings: Settings) -> None:
    from dumont.cli.embedded.environment import variable_names

    names = variable_names()
    for field in ("database_url", "temporal_address", "s3_url"):
        if field in settings.model_fields_set and getattr(settings, field):
            variable = names[field][0]
            raise InvalidInput(
                f"{variable} is set, but `dumont serve` brings a server of its own for that",
                field=variable,
                hint="remove it, or run the parts against your servers as docs/operations.md says",
            )
    if settings.vast_api_key is None:
        raise InvalidInput(
            "no cloud to rent from: VAST_API_KEY is not set",
            field="VAST_API_KEY",
            hint="put it into .env (see .env.example); `dumont demo` needs none",
        )


stack = typer.Typer(
    name="stack",
    help="The embedded stack that `dumont demo` or `dumont serve` runs here.",
    no_args_is_help=True,
)


@stack.command("status")
def stack_status(
    state: _StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which parts run, since when, and where."""
    from dumont.cli.embedded.stacks import find
    from dumont.cli.output import print_json, say

    path, status = find(state)
    alive = status.supervisor.is_alive()
    if as_json:
        data = {"state": str(path), "running": alive, **status.model_dump(mode="json")}
        print_json(data)
    elif not alive:
        say(f"dumont {status.mode} on {path} is not running")
    else:
        _print_status(path, status)
    if not alive:
        raise typer.Exit(1)


def _print_status(path: Path, status: StackStatus) -> None:
    from datetime import UTC, datetime

    from rich.table import Table
    from rich.text import Text

    from dumont.cli.output import say, show

    say(f"dumont {status.mode} on {path}, pid {status.supervisor.pid}")
    table = Table(box=None, pad_edge=False)
    for column in ("PART", "STATE", "PID", "FOR", "RESTARTS", ""):
        table.add_column(column)
    now = datetime.now(UTC)
    for name, part in status.parts.items():
        table.add_row(
            Text(name),
            Text(part.state),
            str(part.process.pid) if part.process else "-",
            _span((now - part.since).total_seconds()),
            str(part.restarts),
            Text(part.detail),
        )
    show(what=table)
    for name, url in status.urls.items():
        say(f"{name:<20}{url}")


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@stack.command("stop")
def stack_stop(state: _StateOption = None) -> None:
    """Stop the stack as Ctrl-C would, and wait until nothing of it runs."""
    import signal
    import time

    from dumont.cli.embedded.stacks import find
    from dumont.cli.output import say

    path, status = find(state)
    if not status.supervisor.send(signal.SIGTERM):
        raise Conflict(f"dumont {status.mode} on {path} is not running")
    while status.supervisor.is_alive():
        time.sleep(0.1)
    say(f"dumont {status.mode} on {path} has stopped")
