"""Numbers and times as people read them. Unknown is a dash, never a zero."""

from __future__ import annotations

from datetime import UTC, datetime

UNKNOWN = "-"


def money(usd_per_hour: float | None) -> str:
    """`$0.412/h`; four decimals below ten cents, where the third one is a fifth of the price."""
    if usd_per_hour is None:
        return UNKNOWN
    return f"${usd_per_hour:.4f}/h" if usd_per_hour < 0.1 else f"${usd_per_hour:.3f}/h"


def usd(amount: float | None) -> str:
    """`$0.0137`: an amount, with what matters of small ones."""
    if amount is None:
        return UNKNOWN
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.4f}"


def size(count: int | None) -> str:
    """`12 B`, `4.1 MB`, `2.0 GB`."""
    if count is None:
        return UNKNOWN
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def span(seconds: float) -> str:
    """`8.4 s`, `2 min 05 s`, `3 h 20 min`, `4 d 2 h`."""
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def age(moment: datetime | None) -> str:
    """How long ago, as a span."""
    if moment is None:
        return UNKNOWN
    return span((datetime.now(UTC) - moment).total_seconds())


def clock(moment: datetime | None) -> str:
    """The moment in the user's own time zone."""
    return UNKNOWN if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def number(value: float | None, *, unit: str = "", digits: int = 0) -> str:
    """A figure with its unit."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}{unit}"


def gpus(*, count: int, model: str) -> str:
    """`RTX 4090` or `4x RTX 4090`."""
    return model if count == 1 else f"{count}x {model}"
