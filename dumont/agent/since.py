"""Since when files may have changed that no barrier has compared: a moment by the file system's clock.

Kept across restarts of the worker, for one standby in one epoch. A clock that was set makes change
times meaningless: then the moment is unknown, and everything is compared.
"""

from __future__ import annotations

import time
from typing import Any

from dumont.agent.hello import boot_id

_STEP_S = 0.5


def moment() -> dict[str, Any]:
    """Now, in a form that tells later whether the clock was set in between."""
    now = time.time()
    return {"at": now, "offset": now - time.clock_gettime(time.CLOCK_BOOTTIME), "boot": boot_id()}


def seconds(noted: Any) -> float | None:
    """The noted moment in seconds since 1970; None when it cannot be relied on."""
    now = moment()
    try:
        same = noted["boot"] == now["boot"] and abs(noted["offset"] - now["offset"]) < _STEP_S
        return float(noted["at"]) if same else None
    except (KeyError, TypeError, ValueError):
        return None
