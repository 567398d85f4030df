"""What each instance is doing at the moment: one task each, and timers for what comes later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Transitions:
    """The running transitions; a new one of an instance replaces its previous one."""

    def __init__(self) -> None:
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._timers: set[asyncio.Task[None]] = set()

    def begin(self, instance_id: int, work: Coroutine[Any, Any, None]) -> None:
        """Let an instance do this instead of what it is doing."""
        previous = self._tasks.get(instance_id)

        async def after_previous() -> None:
            try:
                if previous is not None and not previous.done():
                    previous.cancel()
                    await asyncio.wait([previous])
                await work
            except asyncio.CancelledError:
                work.close()
                raise
            except Exception:
                log.exception("instance %s: transition failed", instance_id)

        self._tasks[instance_id] = asyncio.create_task(after_previous())

    async def still(self, instance_id: int) -> None:
        """End what an instance is doing."""
        task = self._tasks.pop(instance_id, None)
        if task is not None and task is not asyncio.current_task() and not task.done():
            task.cancel()
            await asyncio.wait([task])

    def later(self, seconds: float, action: Callable[[], Any]) -> None:
        """Call `action` after real seconds, and await what it returns if that can be awaited."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            result = action()
            if asyncio.iscoroutine(result):
                await result

        task = asyncio.create_task(wait())
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)

    async def close(self) -> None:
        """End everything that is under way or planned."""
        pending = [*self._tasks.values(), *self._timers]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
