"""Keeping a long activity's heartbeat while its body awaits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from temporalio import activity

_BEATS_PER_TIMEOUT = 3


@asynccontextmanager
async def heartbeating(progress: Callable[[], Any] | None = None) -> AsyncIterator[None]:
    """Beat three times per heartbeat time-out until the block ends.

    Cancellation reaches an activity only through its heartbeats: without them a cancelled wait
    would go on renting.

    Args:
        progress: Says how far it is; whoever describes the workflow sees the last word. Asked once a
            second.
    """
    timeout = activity.info().heartbeat_timeout or timedelta(seconds=30)
    every = timeout.total_seconds() / _BEATS_PER_TIMEOUT
    beat = asyncio.create_task(_beat(every if progress is None else min(every, 1.0), progress))
    try:
        yield
    finally:
        beat.cancel()
        with suppress(asyncio.CancelledError):
            await beat


async def _beat(every_s: float, progress: Callable[[], Any] | None) -> None:
    while True:
        activity.heartbeat(*([] if progress is None else [progress()]))
        await asyncio.sleep(every_s)
