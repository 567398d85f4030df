"""Whether people wrote on the standby since it took authority. Unknown is an answer.

Two traces: a connection to the standby's sshd, through the endpoint, that sent enough to have been a
login; and any entry of the workspace that changed after the mirror was stopped. Both depend on
counters and clocks that can break (HAProxy restarted, clock stepped, machine rebooted); then the
answer is None, and the authority is not given back quietly.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dumont.agent import manifest

if TYPE_CHECKING:
    from dumont.agent.endpoint import Look

LOGIN_BYTES = 1024
"""Less than a client sends for a key exchange, more than anything that only looks at the banner."""

_CLOCK_SLACK_S = 0.5
_PRODUCT = b".dumont"


def baseline(look: Look | None, *, certain: bool) -> dict[str, Any]:
    """The counters and clocks to compare with later.

    Args:
        look: What HAProxy showed when the standby began to be used, or before; None: not known.
        certain: Whether nobody can have come between that look and the redirect.
    """
    counted = look is not None and look.pid is not None
    return {
        "wall": time.time(),
        "uptime": _uptime(),
        "boot": _boot(),
        "haproxy": look.pid if look is not None else None,
        "bytes_in": look.standby.bytes_in if look is not None else None,
        "certain": certain and counted,
    }


def judge(base: dict[str, Any] | None, look: Look | None, workspace: Path) -> bool | None:
    """True: written or logged in to. False: certainly not. None: cannot be known."""
    if not isinstance(base, dict):
        return None
    logged_in = _logged_in(base, look)
    if logged_in:
        return True
    clocks = _clocks_agree(base)
    if not clocks:
        return None
    changed = changed_since(workspace, float(base["wall"]))
    if changed:
        return True
    return False if changed is False and logged_in is False else None


def changed_since(workspace: Path, wall: float) -> bool | None:
    """Whether any entry outside of the product's own folder changed later than `wall`."""
    try:
        if os.lstat(str(workspace)).st_ctime > wall:
            return True
        for name, entry in manifest.walk(workspace):
            if name.split(b"/", 1)[0] != _PRODUCT and entry.st_ctime > wall:
                return True
    except OSError:
        return None
    return False


def newest_change(workspace: Path) -> float | None:
    """When anything outside of the product's folder was last changed, seconds since 1970."""
    newest = None
    with contextlib.suppress(OSError):
        newest = os.lstat(str(workspace)).st_ctime
        for name, entry in manifest.walk(workspace):
            if name.split(b"/", 1)[0] != _PRODUCT:
                newest = max(newest, entry.st_ctime)
    return newest


def _logged_in(base: dict[str, Any], look: Look | None) -> bool | None:
    if look is None or look.pid is None or base.get("haproxy") != look.pid:
        return None
    grown = look.standby.bytes_in - int(base.get("bytes_in") or 0)
    if grown < 0:
        return None
    if grown < LOGIN_BYTES:
        return False
    return True if base.get("certain") else None


def _clocks_agree(base: dict[str, Any]) -> bool:
    uptime, began = _uptime(), base.get("uptime")
    if uptime is None or began is None or base.get("boot") != _boot():
        return False
    return abs((time.time() - float(base["wall"])) - (uptime - float(began))) < _CLOCK_SLACK_S


def _uptime() -> float | None:
    """Seconds since boot, suspended ones included; no step of the clock changes it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return None if clock is None else time.clock_gettime(clock)


def _boot() -> str | None:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None
