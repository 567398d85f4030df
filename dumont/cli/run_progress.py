"""A snapshot, restore or prune under way: watched until its end, and shown meanwhile.

The run is durable: it goes on whether or not anybody watches. On a terminal one picture is redrawn;
anywhere else there is a line for each step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

import typer
from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dumont.cli.exit_codes import ExitCode
from dumont.cli.output import notice, stderr_console
from dumont.cli.picture import Picture
from dumont.cli.snapshot_calls import SnapshotCalls
from dumont.cli.text import size, span
from dumont.domain.errors import BY_CODE, DependencyUnavailable, DumontError
from dumont.domain.snapshot_resources import RunStarted, RunView
from dumont.domain.snapshots import TransferProgress

POLL_S: Final = 0.5

PATIENCE_S: Final = 120.0
"""A server that does not answer for so long is given up; the run goes on without us."""

Kind = Literal["snapshot", "restore", "prune"]

_BAR = 40
"""Columns."""


def watch(
    calls: SnapshotCalls, started: RunStarted, *, title: str, goes_on: str, quiet: bool
) -> RunView:
    """Show a run until it is done.

    Args:
        calls: The server.
        started: The run.
        title: What it is, for people.
        goes_on: Said after Ctrl-C: what goes on, and where to look later.
        quiet: Show nothing.

    Raises:
        DumontError: The run failed: the error that it names.
        DependencyUnavailable: The server has been away for too long.
        typer.Exit: Ctrl-C.
    """
    console = Console(quiet=True) if quiet else stderr_console()
    try:
        with RunProgress(title=title, console=console) as progress:
            for view in views(calls, started):
                progress.saw(view=view)
    except KeyboardInterrupt:
        notice(f"\nStopped watching; {goes_on}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if view.state == "failed":
        raise failure_of(view)
    return view


def views(
    calls: SnapshotCalls,
    started: RunStarted,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[RunView]:
    """A run as it stands, again and again; the last one is its end.

    Raises:
        DependencyUnavailable: The server has been away for too long.
    """
    away_since: float | None = None
    while True:
        try:
            view = calls.run(ref=started.machine_id, run=started.run)
        except DependencyUnavailable as error:
            now = clock()
            away_since = now if away_since is None else away_since
            if now - away_since > PATIENCE_S:
                raise error
        else:
            away_since = None
            yield view
            if view.state != "running":
                return
        sleep(POLL_S)


def failure_of(view: RunView) -> DumontError:
    """Why a run failed, as the class of its code."""
    if view.error is None:
        return DumontError(f"the {view.kind} failed and does not say why")
    kind = BY_CODE.get(view.error.code, DumontError)
    return kind(view.error.message, hint=view.error.hint)


def no_result(view: RunView) -> DumontError:
    """The error of a run that is done and does not say what came of it."""
    return DumontError(
        f"the server says that the {view.kind} is done, and not what came of it",
        hint="update `dumont`: the server may be newer",
    )


def look_later(started: RunStarted) -> str:
    """Where to see how far a run is, when no command shows its end."""
    return f"`GET /api/v1/machines/{started.machine_id}/runs/{started.run}` tells how far it is."


class RunProgress(Picture):
    """Shows one run until the block is left."""

    def __init__(self, *, title: str, console: Console) -> None:
        self._title = title
        self._opened = time.monotonic()
        self._known = TransferProgress()
        self._kind: Kind = "snapshot"
        self._tries = 1
        self._said = ""
        super().__init__(console=console)

    def saw(self, *, view: RunView) -> None:
        """Take in how the run stands."""
        self._kind, self._tries = view.kind, view.tries
        if view.progress is not None:
            # Not known at one moment is no reason to go back to nothing.
            self._known = view.progress
        if self._live is None:
            self._print_new_step()

    def _print_new_step(self) -> None:
        step = self._step()
        if step and step != self._said:
            self._said = step
            since = f"{'+' + span(time.monotonic() - self._opened):>13}"
            line = Text(f"{since}  {step}")
            figures = figures_of(self._known, kind=self._kind)
            self._console.print(line.append(f"  {figures}" if figures else "", style="dim"))

    def _step(self) -> str:
        again = f" (try {self._tries}: it goes on where the last one ended)"
        return self._known.step + (again if self._tries > 1 else "")

    def _picture(self) -> Group:
        head = Text(self._title, style="bold")
        head.append(f"  {span(time.monotonic() - self._opened)}", style="dim")
        head.append(f"  {self._step()}", style="default")
        figures = figures_of(self._known, kind=self._kind)
        return Group(head, _bar(self._known), Text(figures, style="dim"))


def _bar(known: TransferProgress) -> Table:
    total = known.total_bytes or None
    bar = ProgressBar(
        total=total, completed=min(known.bytes, total or 0), width=_BAR, pulse=total is None
    )
    row = Table.grid(padding=(0, 1))
    share = f"{min(100, 100 * known.bytes // total)} %" if total else ""
    left = f"about {span(known.eta_s)} left" if known.eta_s is not None else ""
    row.add_row(bar, Text(share), Text(left, style="dim"))
    return row


def figures_of(known: TransferProgress, *, kind: Kind) -> str:
    """`1.2 GB of 4.0 GB, 1,200 of 5,000 files, new 120.0 MB, sent 40.0 MB`; without what is unknown."""
    if not known.files and not known.bytes and not known.total_bytes:
        return ""
    total_bytes = f" of {size(known.total_bytes)}" if known.total_bytes else ""
    total_files = f" of {known.total_files:,}" if known.total_files else ""
    parts = [f"{size(known.bytes)}{total_bytes}", f"{known.files:,}{total_files} files"]
    for word, count in (
        ("unchanged", known.unchanged_bytes),
        ("new", known.new_bytes),
        ("fetched" if kind == "restore" else "sent", known.sent_bytes),
    ):
        if count is not None:
            parts.append(f"{word} {size(count)}")
    return ", ".join(parts)
