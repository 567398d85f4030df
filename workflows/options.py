"""Time-outs and retries, by what kind of thing is done. Each activity call names one of these.

Which errors are final is not listed here: an error knows it itself (`DumontError.retryable`), and the
worker's interceptor tells Temporal.

Heartbeat time-outs are short because they are what a worker's death costs: an activity that was
running on it is tried elsewhere ten seconds later.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, TypedDict

from temporalio.common import Priority, RetryPolicy
from temporalio.workflow import ActivityCancellationType


class Options(TypedDict, total=False):
    """Keyword arguments of `workflow.execute_activity_method`."""

    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType
    priority: Priority


def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


READ: Final = Options(
    start_to_close_timeout=_seconds(60),
    heartbeat_timeout=_seconds(10),
    schedule_to_close_timeout=_seconds(120),
    retry_policy=RetryPolicy(initial_interval=_seconds(1), maximum_interval=_seconds(15)),
)
"""A look at the outside: search, list. Two minutes of trying, then the caller decides."""

LOOKUP: Final = Options(
    start_to_close_timeout=_seconds(20),
    schedule_to_close_timeout=_seconds(25),
    retry_policy=RetryPolicy(initial_interval=_seconds(0.5), maximum_attempts=2),
)
"""A look while a person waits: soon, or a clear error."""

ENSURE: Final = Options(
    start_to_close_timeout=_seconds(90),
    schedule_to_close_timeout=_seconds(240),
    heartbeat_timeout=_seconds(10),
    retry_policy=RetryPolicy(initial_interval=_seconds(2), maximum_interval=_seconds(20)),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""Renting. A cancel waits for the call under way: its result may be an instance."""

WAIT: Final = Options(
    start_to_close_timeout=_seconds(3_600),
    heartbeat_timeout=_seconds(10),
    retry_policy=RetryPolicy(initial_interval=_seconds(1), maximum_interval=_seconds(5)),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)
"""Waiting inside an activity for a state of the world; the activity knows its own deadline."""

MUST: Final = Options(
    start_to_close_timeout=_seconds(120),
    heartbeat_timeout=_seconds(10),
    retry_policy=RetryPolicy(initial_interval=_seconds(1), maximum_interval=_seconds(60)),
    priority=Priority(priority_key=1),
)
"""What has to happen however long it takes: ending what costs money."""

RECORD: Final = Options(
    start_to_close_timeout=_seconds(10),
    retry_policy=RetryPolicy(initial_interval=_seconds(0.5), maximum_interval=_seconds(30)),
)
"""Writing down. Unlimited: a record waits for its database."""

WATCH: Final = Options(
    start_to_close_timeout=_seconds(25 * 3_600),
    heartbeat_timeout=_seconds(10),
    retry_policy=RetryPolicy(initial_interval=_seconds(1), maximum_interval=_seconds(15)),
)
"""A watch of a day, renewed by its workflow."""
