"""A machine on its way up, live: what was chosen, how far it climbed, what failed and why.

On a terminal it redraws one picture; anywhere else it prints a line for each thing once.
"""

from __future__ import annotations

import time
from datetime import datetime

from rich.console import Console, Group
from rich.spinner import Spinner
from rich.text import Text

from dumont.cli.picture import Picture
from dumont.cli.text import span
from dumont.domain.events import EventKind
from dumont.domain.ladder import Rung
from dumont.domain.machine import MachinePhase
from dumont.domain.resources import EventView, MachineView

_NOTES = {
    EventKind.OFFER_CHOSEN: "cyan",
    EventKind.ATTEMPT_FAILED: "yellow",
    EventKind.STUCK: "red",
    EventKind.INSTANCE_LOST: "red",
    EventKind.ALERT: "red",
}
"""The events worth a line of their own above the ladder; the ladder shows the rest."""

_KEPT_NOTES = 8


class Progress(Picture):
    """Shows one machine until the block is left."""

    def __init__(self, *, machine: MachineView, console: Console) -> None:
        self._machine = machine
        self._since = machine.created_at
        self._opened = time.monotonic()
        self._notes: list[Text] = []
        self._printed: set[Rung] = set()
        self._spinner = Spinner("dots")
        self._live_source = True
        super().__init__(console=console)

    def saw(self, *, update: EventView | MachineView, live: bool) -> None:
        """Take in what a watcher reported.

        Args:
            update: An event, or the machine as it stands now.
            live: Whether news come by the stream; if not, the picture says so.
        """
        self._live_source = live
        if isinstance(update, EventView):
            self._note(update)
            return
        self._machine = update
        if self._live is None:
            self._print_new_rungs()

    def _note(self, event: EventView) -> None:
        if event.kind is EventKind.PROVISIONING:
            # A new generation climbs from the ground, and its time counts from here.
            self._since = event.at
            self._printed.clear()
        style = _NOTES.get(event.kind)
        if style is None:
            return
        line = Text(f"{self._at(event.at)}  ", style="dim").append(event.summary, style=style)
        self._notes.append(line)
        if self._live is None:
            self._console.print(line)

    def _print_new_rungs(self) -> None:
        for rung in self._machine.ladder:
            if rung.reached_at is not None and rung.rung not in self._printed:
                self._printed.add(rung.rung)
                self._console.print(f"{self._at(rung.reached_at)}  {rung.sentence}")

    def _at(self, moment: datetime) -> str:
        """Time since the climb began, by the server's own clock."""
        return f"{'+' + span((moment - self._since).total_seconds()):>13}"

    def _picture(self) -> Group:
        machine = self._machine
        head = Text(machine.name, style="bold")
        head.append(f"  {machine.phase.value}", style="magenta")
        head.append(f"  {span(time.monotonic() - self._opened)}", style="dim")
        if not self._live_source:
            head.append("  event stream away, asking instead", style="yellow")
        lines: list[Text | Spinner] = [head, *self._notes[-_KEPT_NOTES:]]
        climbing = machine.phase in (
            MachinePhase.REQUESTED, MachinePhase.PROVISIONING, MachinePhase.WAKING,
        )  # fmt: skip
        for rung in machine.ladder:
            if rung.reached_at is not None:
                line = Text(f"{self._at(rung.reached_at)}  ", style="dim")
                lines.append(line.append(rung.sentence, style="green"))
            elif climbing:
                self._spinner.update(text=Text(rung.sentence))
                lines.append(self._spinner)
                climbing = False
            else:
                lines.append(Text(f"{'':>13}  {rung.sentence}", style="dim"))
        if not machine.ladder and climbing:
            self._spinner.update(text=Text(machine.reason or "waiting for its turn"))
            lines.append(self._spinner)
        return Group(*lines)
