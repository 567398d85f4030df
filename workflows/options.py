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

PATIENT: Final = Options(
    start_to_close_timeout=_seconds(180),
    schedule_to_close_timeout=_seconds(900),
    heartbeat_timeout=_seconds(10),
    retry_policy=RetryPolicy(initial_interval=_seconds(1), maximum_interval=_seconds(10)),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)
"""A command to an agent that must come through: a quarter of an hour of trying."""

URGENT: Final = Options(
    start_to_close_timeout=_seconds(90),
    heartbeat_timeout=_seconds(10),
    retry_policy=RetryPolicy(
        initial_interval=_seconds(0.5), maximum_interval=_seconds(5), maximum_attempts=5
    ),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
    priority=Priority(priority_key=1),
)
"""A step of a failover: tried again at once, before everybody else's work; then looked at anew."""

ONCE: Final = Options(
    start_to_close_timeout=_seconds(900),
    heartbeat_timeout=_seconds(10),
    retry_policy=RetryPolicy(maximum_attempts=1),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
    priority=Priority(priority_key=1),
)
"""One try; the workflow looks at the world anew before the next one."""

TRANSFER: Final = Options(
    start_to_close_timeout=_seconds(12 * 3_600),
    heartbeat_timeout=_seconds(20),
    retry_policy=RetryPolicy(
        initial_interval=_seconds(2), maximum_interval=_seconds(10), maximum_attempts=3
    ),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)
"""Moving a workspace: hours, resumed where it was cut off. Three tries, then the workflow looks at the
world anew: one of both bodies may have moved."""

BILL: Final = Options(
    start_to_close_timeout=_seconds(180),
    heartbeat_timeout=_seconds(10),
    retry_policy=RetryPolicy(maximum_attempts=1),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)
"""Reading a bill day by day. One try: the next round comes in a minute, and asks again itself."""

SWEPT: Final = Options(
    start_to_close_timeout=_seconds(60),
    schedule_to_close_timeout=_seconds(75),
    heartbeat_timeout=_seconds(10),
    retry_policy=RetryPolicy(initial_interval=_seconds(1), maximum_attempts=2),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)
"""One of many that a sweep ends: a short try, for the others wait and the next sweep tries again."""

MUST: Final = Options(
    start_to_close_timeout=_seconds(120),
    heartbeat_timeout=_seconds(10),
    retry_policy=RetryPolicy(initial_interval=_seconds(1), maximum_interval=_seconds(60)),
    priority=Priority(priority_key=1),
)
"""What has to happen however long it takes: ending what costs money."""

STORE: Final = Options(
    start_to_close_timeout=_seconds(3_600),
    schedule_to_close_timeout=_seconds(3 * 3_600),
    heartbeat_timeout=_seconds(20),
    retry_policy=RetryPolicy(initial_interval=_seconds(2), maximum_interval=_seconds(60)),
    cancellation_type=ActivityCancellationType.TRY_CANCEL,
)
"""Work on a repository in the object store, which may be away for a while."""

ASK_STORE: Final = Options(
    start_to_close_timeout=_seconds(50),
    schedule_to_close_timeout=_seconds(55),
    retry_policy=RetryPolicy(initial_interval=_seconds(0.5), maximum_attempts=2),
)
"""A look into a repository while a person waits."""

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
