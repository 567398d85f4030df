"""How long an activity may still wait, whatever the clocks of server and worker say."""

from __future__ import annotations

import time

from temporalio import activity


class Deadline:
    """A limit counted from when the activity was first scheduled, its earlier tries included.

    The server's two timestamps give what the earlier tries took, the worker's monotonic clock what
    this one takes: no two clocks are compared.

    Args:
        within_s: Seconds from the first scheduling.
    """

    def __init__(self, within_s: float) -> None:
        info = activity.info()
        earlier = info.current_attempt_scheduled_time - info.scheduled_time
        self._ends = time.monotonic() + within_s - earlier.total_seconds()

    def passed(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._ends
