"""What this body remembers of its workspace's past: whether it is whole, and how far it was mirrored.

Two small files in `~/.dumont`: `restore.json` while and after a workspace is pulled from the standby,
`replicated.json` with the moment up to which everything here has reached the standby.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dumont.agent import since, store

if TYPE_CHECKING:
    from dumont.agent.paths import Paths

_UNSURE_S = 25 * 3600.0
"""A clock may be wrong by hours after a boot; rather name a file too many than lose one."""
_MARGIN_S = 2.0


def is_pending(paths: Paths) -> bool:
    """Whether a restore began and has not ended well."""
    state = read(paths)
    return state is not None and not state.get("complete")


def read(paths: Paths) -> dict[str, Any] | None:
    """What is known of the newest restore."""
    try:
        state = store.read_json(paths.base / "restore.json")
    except ValueError:
        return {}
    return state if isinstance(state, dict) or state is None else {}


def write(paths: Paths, state: dict[str, Any]) -> None:
    """Remember how a restore stands, before anything is done that depends on it."""
    store.write_json(paths.base / "restore.json", state)


def note_replicated(paths: Paths, replicated_at: float) -> None:
    """Everything here that is older than this is on the standby."""
    moment = {**since.moment(), "replicated_at": replicated_at}
    store.write_json(paths.base / "replicated.json", moment, sync=False)


def changed_after(paths: Paths) -> float | None:
    """Files whose change time is below this have certainly been mirrored; None: nothing is certain."""
    try:
        noted = store.read_json(paths.base / "replicated.json")
        replicated_at = float(noted["replicated_at"])
    except (ValueError, KeyError, TypeError):
        return None
    sure = since.seconds(noted) is not None
    return replicated_at - (_MARGIN_S if sure else _UNSURE_S)


def replicated_at(paths: Paths) -> float | None:
    """The noted moment itself."""
    try:
        return float(store.read_json(paths.base / "replicated.json")["replicated_at"])
    except (ValueError, KeyError, TypeError):
        return None
