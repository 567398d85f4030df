"""Keeping a long activity's heartbeat while its body awaits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from temporalio import activity

_BEATS_PER_TIMEOUT = 3


@asynccontextmanager
async def heartbeating() -> AsyncIterator[None]:
    """Beat three times per heartbeat time-out until the block ends.

    Cancellation reaches an activity only through its heartbeats: without them a cancelled wait
    would go on renting.
    """
    timeout = activity.info().heartbeat_timeout or timedelta(seconds=30)
    beat = asyncio.create_task(_beat(timeout / _BEATS_PER_TIMEOUT))
    try:
        yield
    finally:
        beat.cancel()
        with suppress(asyncio.CancelledError):
            await beat


async def _beat(every: timedelta) -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(every.total_seconds())
