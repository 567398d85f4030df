"""Following one machine: what happens to it, and how it stands, as soon as the server knows.

The event stream brings the news. Where it breaks, falls silent or is not to be had, asking again
every so often takes its place until it is back: a watcher sees less promptly, never less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from pydantic import ValidationError

from dumont.cli.client import Api
from dumont.cli.sse import Message
from dumont.domain.errors import DependencyUnavailable
from dumont.domain.resources import EventView, MachineView

POLL_S = 1.5
"""Seconds between two looks while the stream is away."""

PATIENCE_S = 120.0
"""A server that does not answer for so long is given up; the machine goes on without us."""


class Watcher:
    """One machine under watch."""

    def __init__(
        self,
        *,
        api: Api,
        machine_id: str,
        after: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._machine_id = machine_id
        self._seq = after
        self._sleep = sleep
        self._clock = clock
        self.live = True
        """Whether news come by the stream (else: by asking)."""

    def updates(self) -> Generator[EventView | MachineView]:
        """Every event once, oldest first, and the machine each time it may have changed.

        It does not end by itself: stop reading when the machine is where you wanted it.

        Raises:
            NotFound: There is no such machine.
            DependencyUnavailable: The server has been away for too long.
        """
        away_since: float | None = None
        while True:
            try:
                for update in self._streamed():
                    away_since = None
                    yield update
            except DependencyUnavailable:
                pass
            self.live = False
            try:
                yield from self._missed()
                yield self._api.machine(ref=self._machine_id)
                away_since = None
            except DependencyUnavailable as error:
                now = self._clock()
                away_since = now if away_since is None else away_since
                if now - away_since > PATIENCE_S:
                    raise error
            self._sleep(POLL_S)

    def _streamed(self) -> Iterator[EventView | MachineView]:
        with closing(self._api.stream(after=self._seq, machine=self._machine_id)) as messages:
            for message in messages:
                self.live = True
                if message.ping:
                    # A moment to look around, in case something came without news.
                    yield from self._missed()
                update = parse(message)
                if isinstance(update, EventView):
                    if update.seq <= self._seq:
                        continue
                    self._seq = update.seq
                    yield update
                if isinstance(update, MachineView):
                    yield update
                else:
                    yield self._api.machine(ref=self._machine_id)

    def _missed(self) -> Iterator[EventView]:
        """The events since the last one seen, by asking."""
        unseen: list[EventView] = []
        for event in self._api.machine_events(ref=self._machine_id):
            if event.seq <= self._seq:
                break
            unseen.append(event)
        for event in reversed(unseen):
            self._seq = event.seq
            yield event


def parse(message: Message) -> EventView | MachineView | None:
    """What a message of the stream holds; None for pings and for kinds newer than this program."""
    kind = MachineView if message.event == "machine" else EventView
    if message.ping:
        return None
    try:
        return kind.model_validate_json(message.data)
    except ValidationError:
        return None
