"""Whether a clock is right, judged by another's `Date` header."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from dumont.cli.checks.finding import Answer

_TOLERATED_S = 30.0
"""The header has whole seconds, and the answer took a while. Tokens tolerate a minute or so; stores
refuse signatures that are 15 minutes off."""


def judge_clock(*, date: str, whose: str, now: datetime | None = None) -> Answer:
    """Compare the local clock with an HTTP date.

    Args:
        date: The `Date` header.
        whose: Of whom it is, for the sentence: `the server's`.
        now: The local time; the clock's when None.
    """
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return Answer(status="warn", detail=f"{whose} date makes no sense: {date!r}")
    off = ((now or datetime.now(UTC)) - theirs.replace(tzinfo=UTC)).total_seconds()
    if abs(off) <= _TOLERATED_S:
        return Answer(detail=f"agrees with {whose}")
    return Answer(
        status="fail",
        detail=f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} {whose}",
        hint="set the clock (for example: timedatectl set-ntp true); logins and signed requests "
        "fail otherwise",
    )
