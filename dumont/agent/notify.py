"""Tells people on the machine itself: at login, in a file, and on their terminals.

Nothing is ever printed where a program reads: the line at login is for interactive login shells on a
terminal only (scp, rsync and VS Code see none of it), and a notice goes to the terminals of sessions.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from dumont.agent import store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dumont.agent.paths import Paths

_BEGIN = "# >>> dumont: what this machine is doing, for people who log in"
_END = "# <<< dumont"


def install_login_line(paths: Paths) -> None:
    """Have login shells show the status. Repeating it changes nothing."""
    status = shlex.quote(str(paths.status_text))
    snippet = f"case $- in *i*) [ -t 1 ] && [ -r {status} ] && cat {status} ;; esac; :\n"
    if paths.is_system_account:
        places = [Path("/etc/profile.d/dumont.sh")]
        if Path("/etc/zsh").is_dir():
            places.append(Path("/etc/zsh/zprofile"))
    else:
        # Bash reads the first of its files that exists.
        own = [".bash_profile", ".bash_login", ".profile"]
        first = next((name for name in own if (paths.home / name).exists()), ".profile")
        places = [paths.home / first, paths.home / ".zprofile"]
    for place in places:
        with contextlib.suppress(OSError):
            _put(place, snippet)


def announce(ttys: Iterable[str], *, title: str, text: str) -> int:
    """Print a line on terminals and set their titles; returns on how many.

    Args:
        ttys: Names below /dev.
        title: Of the window.
        text: One line.
    """
    line = f"\r\n\a*** {_plain(text)} ***\r\n"
    message = f"\033]0;{_plain(title)}\007{line}".encode()
    reached = 0
    for tty in ttys:
        try:
            # A terminal that nobody reads must not hold us up.
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            descriptor = os.open("/dev/" + tty, flags)
        except OSError:
            continue
        with contextlib.suppress(OSError):
            if os.isatty(descriptor):
                os.write(descriptor, message)
                reached += 1
        os.close(descriptor)
    return reached


def _put(place: Path, snippet: str) -> None:
    """Put a marked block into a file; an older one is replaced, all else stays."""
    before = store.read_text(place) or ""
    head, begin, rest = before.partition(_BEGIN)
    _, _, tail = rest.partition(_END + "\n") if begin else ("", "", "")
    if head and not head.endswith("\n"):
        head += "\n"
    after = f"{head}{_BEGIN}\n{snippet}{_END}\n{tail}"
    if after != before:
        mode = place.stat().st_mode & 0o777 if place.exists() else 0o644
        store.write_text(place, after, mode=mode)


def _plain(text: str) -> str:
    """No control characters: what is printed may come from outside."""
    return "".join(character if character.isprintable() else " " for character in text)
