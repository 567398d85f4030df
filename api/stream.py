"""Live news: one listener per process hears the database and hands each line to every open stream.

The database wakes the listener (NOTIFY); the lines themselves are read from the log, once, whatever
the number of streams. A stream that reads too slowly loses its queue, not its place: it starts over
from the last line that it was sent. While the database is away streams stay open and say nothing;
when it is back, everything in between is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import psycopg
import structlog
from sqlalchemy.engine import URL

from api.metrics import Metrics
from api.views import machine_view
from dumont.config import Settings
from dumont.db.engine import Database
from dumont.db.events import EVENTS_CHANNEL, MACHINES_CHANNEL, EventLog, LoggedEvent
from dumont.db.machines import Machines
from dumont.domain.errors import DependencyUnavailable

log = structlog.get_logger(__name__)

QUEUE: Final = 1_000
"""Lines a stream may be behind before it has to start over from the log."""

_BATCH: Final = 500
_RECONNECT_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_GATHER_S: Final = 0.05
"""Changes of machines are gathered this long, so that a burst of them is one query."""


class Frame(NamedTuple):
    """One message of a stream, as it is sent."""

    event: str
    """`machine`, `reset`, or the kind of an event of the log."""
    data: str
    seq: int | None
    owner_id: str | None
    machine_id: str


RESET: Final = Frame("reset", "{}", None, None, "")
"""Tells a client that it missed changes of machines: it should read them again."""


class Audience(NamedTuple):
    """What the reader of a stream may see and asked for."""

    owner_id: str
    sees_unowned: bool
    """Also events of machines that nobody owns, as administrators do."""
    machine_id: str | None = None
    """Only of this machine."""

    def wants(self, frame: Frame) -> bool:
        """Whether a frame is for this reader."""
        if frame.event == RESET.event:
            return True
        if self.machine_id is not None and frame.machine_id != self.machine_id:
            return False
        return self.owner_id == frame.owner_id or (self.sees_unowned and frame.owner_id is None)


@dataclass(eq=False)
class Stream:
    """One open stream, and what waits to be sent on it."""

    audience: Audience
    queue: asyncio.Queue[Frame] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    overflown: bool = False

    def offer(self, frame: Frame) -> None:
        """Queue a frame, unless the stream is to start over anyway."""
        if self.overflown or not self.audience.wants(frame):
            return
        try:
            self.queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.overflown = True


class Hub:
    """Hears the database once and feeds every stream of this process."""

    def __init__(
        self,
        *,
        database: Database,
        event_log: EventLog,
        machines: Machines,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._url = database.url
        self._event_log = event_log
        self._machines = machines
        self._settings = settings
        self._metrics = metrics
        self._streams: set[Stream] = set()
        self._seq: int | None = None
        """Of the last line handed out; None before the first look at the log."""
        self._changed: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._more_events = asyncio.Event()
        self._more_machines = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen; a database that is not there yet is waited for."""
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._for_ever(self._more_events, self._hand_out_events)),
            asyncio.create_task(self._for_ever(self._more_machines, self._hand_out_machines)),
        ]

    async def stop(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def follow(self, *, after: int, audience: Audience) -> AsyncGenerator[Frame]:
        """Every frame for an audience: first what the log has after a seq, then what happens.

        Raises:
            DependencyUnavailable: The log cannot be read; the reader has to come again.
        """
        with self._attached(Stream(audience)) as stream:
            last = after
            if last > (newest := await self._event_log.newest_seq()):
                # The reader knows a log that is not this one, as after a restore from a backup.
                last = newest
                yield RESET
            while True:
                async with aclosing(self._replay(last, audience)) as missed:
                    async for frame in missed:
                        last = frame.seq or last
                        yield frame
                while not stream.overflown or not stream.queue.empty():
                    frame = await stream.queue.get()
                    if frame.seq is None or frame.seq > last:
                        last = frame.seq or last
                        yield frame
                self._metrics.stream_resets.inc()
                stream.overflown = False
                yield RESET

    @contextmanager
    def _attached(self, stream: Stream) -> Iterator[Stream]:
        self._streams.add(stream)
        self._metrics.streams.inc()
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            self._metrics.streams.dec()

    async def _replay(self, last: int, audience: Audience) -> AsyncGenerator[Frame]:
        while True:
            batch = await self._event_log.after(
                last,
                limit=_BATCH,
                owner_id=audience.owner_id,
                with_unowned=audience.sees_unowned,
                machine_id=audience.machine_id,
            )
            for event in batch:
                last = event.view.seq
                yield _frame(event)
            if len(batch) < _BATCH:
                return

    async def _listen(self) -> None:
        """Hold one LISTEN connection, for ever; each time it is (back) there, look for news."""
        failures = 0
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    _libpq(self._url), autocommit=True, connect_timeout=5
                ) as connection:
                    await connection.execute(f"LISTEN {EVENTS_CHANNEL}")
                    await connection.execute(f"LISTEN {MACHINES_CHANNEL}")
                    if self._seq is None:
                        self._seq = await self._event_log.newest_seq()
                    elif failures:
                        for stream in self._streams:
                            stream.offer(RESET)
                    failures = 0
                    self._more_events.set()
                    async for notice in connection.notifies():
                        if notice.channel == EVENTS_CHANNEL:
                            self._more_events.set()
                        else:
                            self._changed.add(notice.payload)
                            self._more_machines.set()
            except (psycopg.Error, DependencyUnavailable) as error:
                wait = _RECONNECT_S[min(failures, len(_RECONNECT_S) - 1)]
                failures += 1
                log.warning("event_listener_lost", error=str(error).strip(), retry_in_s=wait)
                await asyncio.sleep(wait)

    async def _for_ever(self, wake: asyncio.Event, hand_out: Callable[[], Awaitable[None]]) -> None:
        while True:
            await wake.wait()
            wake.clear()
            try:
                await hand_out()
            except DependencyUnavailable as error:
                log.warning("events_not_read", error=error.message)
                await asyncio.sleep(1)
                wake.set()

    async def _hand_out_events(self) -> None:
        if self._seq is None:
            return
        while True:
            batch = await self._event_log.after(self._seq, limit=_BATCH)
            for event in batch:
                self._seq = event.view.seq
                self._offer(_frame(event))
            if len(batch) < _BATCH:
                return

    async def _hand_out_machines(self) -> None:
        await asyncio.sleep(_GATHER_S)
        if not self._streams:
            self._changed.clear()
            return
        changed = list(self._changed)[:_BATCH]
        # Taken out before the rows are read: what changes meanwhile is read again.
        self._changed.difference_update(changed)
        try:
            rows = await self._machines.by_ids(changed)
        except DependencyUnavailable:
            self._changed.update(changed)
            raise
        for row in rows:
            view = machine_view(row, settings=self._settings)
            self._offer(
                Frame("machine", view.model_dump_json(), None, view.owner_id, view.machine_id)
            )
        if self._changed:
            self._more_machines.set()

    def _offer(self, frame: Frame) -> None:
        for stream in self._streams:
            stream.offer(frame)


def _frame(event: LoggedEvent) -> Frame:
    view = event.view
    return Frame(view.kind.value, view.model_dump_json(), view.seq, event.owner_id, view.machine_id)


def _libpq(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
