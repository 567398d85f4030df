"""A failover, live: a line for each thing that happened, with the time since it began."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from dumont.cli.text import span
from dumont.domain.events import EventKind
from dumont.domain.resources import EventView, MachineView

_STYLES = {
    EventKind.DRILL: "bold",
    EventKind.ON_STANDBY: "yellow",
    EventKind.FAILOVER_STEP: "cyan",
    EventKind.OFFER_CHOSEN: "default",
    EventKind.RENTED: "default",
    EventKind.RUNG: "default",
    EventKind.ATTEMPT_FAILED: "yellow",
    EventKind.STANDBY_LOST: "red",
    EventKind.FALSE_ALARM: "green",
    EventKind.FAILED_BACK: "green",
    EventKind.RESCUED: "green",
    EventKind.STUCK: "red",
    EventKind.INSTANCE_LOST: "red",
    EventKind.ALERT: "red",
}
"""The events worth a line."""


class FailoverProgress:
    """Shows one machine's failover until the block is left."""

    def __init__(self, *, machine: MachineView, console: Console) -> None:
        self._console = console
        self._began: datetime | None = None
        self._status = console.status(f"{machine.name}: waiting for the drill to begin")

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._status.stop()

    def saw(self, *, update: EventView | MachineView) -> None:
        """Take in what a watcher reported."""
        if isinstance(update, MachineView):
            said = Text(f"{update.name}: {update.phase.value.replace('_', ' ')}")
            if update.reason:
                said.append(f", {update.reason}", style="dim")
            self._status.update(said)
            return
        style = _STYLES.get(update.kind)
        if style is None:
            return
        self._began = self._began or update.at
        since = span((update.at - self._began).total_seconds())
        line = Text(f"{'+' + since:>13}  ", style="dim")
        self._console.print(line.append(update.summary, style=style))
