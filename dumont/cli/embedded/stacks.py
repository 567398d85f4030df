"""Where the stacks of this directory are, and which of them runs."""

from __future__ import annotations

from pathlib import Path

from dumont.cli.embedded.state import StackStatus, read_status
from dumont.domain.errors import NotFound

DEMO_STATE = Path(".dumont/demo")
SERVE_STATE = Path(".dumont/serve")


def find(state: Path | None) -> tuple[Path, StackStatus]:
    """The named stack; without a name, the one that runs here or ran last.

    Raises:
        NotFound: No stack was ever started there.
    """
    candidates = [state] if state else [DEMO_STATE, SERVE_STATE]
    found = [(path, status) for path in candidates if (status := read_status(path))]
    if not found:
        raise NotFound(
            f"no stack was ever started on {' or '.join(map(str, candidates))}",
            field="state",
            hint="name its directory with --state DIR",
        )
    running = [entry for entry in found if entry[1].supervisor.is_alive()]
    return (running or found)[0]


def running_state() -> Path | None:
    """The state directory of the stack that runs here, if one does."""
    try:
        path, status = find(None)
    except NotFound:
        return None
    return path if status.supervisor.is_alive() else None
