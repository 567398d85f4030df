"""Who may write the workspace: the one state that everything on the standby follows.

    primary --redirect--> standby --fence--> standby, held --hand_back--> primary
       ^                     |
       +--------heal---------+      (never when held)

The functions are pure; `AuthorityFile` keeps their result. The file is replaced atomically and synced, so
that kill -9 or a power cut leaves either the old or the new state. A file that is missing although
there once was one, or that cannot be read, is *unknown*: nobody may write until the control plane
fences. A journal beside it tells "lost" from "first", and knows the highest epoch there ever was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dumont.agent import store
from dumont.agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Transition = Callable[["State"], "State"]

PRIMARY = "primary"
STANDBY = "standby"

UNKNOWN = "unknown_authority"
"""Code of the error when the state cannot be read."""

_JOURNAL_LINES = 2000


@dataclass(frozen=True)
class State:
    """Who has authority and why. Times are ISO 8601 in UTC."""

    authority: str
    epoch: int
    held: bool = False
    """Fenced: only `hand_back` ends it."""
    since: str = ""
    cause: str = ""
    forced: bool = False
    """Redirected on command: no link was lost, so none can come back."""
    waiting: bool = False
    """There has been no primary yet."""
    written: bool | None = None
    """Whether the standby was written to since it took authority; None: unknown."""
    redirects: int = 0
    false_alarms: int = 0
    handing: bool = False
    """Handed back, and not yet seen to work: a loss now leads back to where it came from, to held."""
    quiesced: bool = False
    lapsed: bool = False
    """A quiescing ended by itself: what was restored meanwhile may lack something."""
    host: str | None = None
    port: int | None = None
    """Where the primary is."""
    sync_public_key: str = ""
    """The only key that may speak to `receive`; empty: none."""
    baseline: dict[str, Any] | None = None
    """The clocks at the redirect, see `guard_written.py`."""
    redirect: dict[str, Any] | None = None
    """When the last redirect was detected and how long its steps took."""
    config: str = ""
    """Digest of the configuration that was last taken up."""


def may_write(state: State, epoch: int) -> bool:
    """Whether the primary of `epoch` may write the standby's copy."""
    return state.authority == PRIMARY and state.epoch == epoch


def may_read(state: State, epoch: int) -> bool:
    """Whether the primary of `epoch` may read it (a primary that is being restored may)."""
    return state.epoch == epoch


def first(
    *, epoch: int, host: str | None, port: int | None, sync_public_key: str, now: str
) -> State:
    """The state of a new standby. Without a primary it is waited for, and the standby serves."""
    there = host is not None
    return State(
        authority=PRIMARY if there else STANDBY,
        epoch=epoch,
        since=now,
        cause="" if there else "there is no primary yet",
        waiting=not there,
        host=host,
        port=port,
        sync_public_key=sync_public_key,
    )


def configure(
    state: State,
    *,
    epoch: int,
    host: str | None,
    port: int | None,
    sync_public_key: str,
    config: str = "",
) -> State:
    """What a new configuration changes: where the primary is and its key. Never the authority.

    Raises:
        AgentError: Code `fenced`: its epoch is over.
    """
    if epoch < state.epoch:
        raise _over(state, epoch)
    if host is None:
        # "No primary" while one is being restored says nothing new; the key of its fence stays.
        key = state.sync_public_key if epoch == state.epoch else ""
        return dataclasses.replace(state, epoch=epoch, sync_public_key=key, config=config)
    return dataclasses.replace(
        state, epoch=epoch, host=host, port=port, sync_public_key=sync_public_key, config=config
    )


def redirect(
    state: State, *, cause: str, now: str, baseline: dict[str, Any], forced: bool = False
) -> State:
    """The standby takes authority. Nothing changes when it has it already."""
    if state.authority == STANDBY:
        return state
    return dataclasses.replace(
        state,
        authority=STANDBY,
        held=state.handing,
        handing=False,
        since=now,
        cause=cause,
        forced=forced,
        waiting=False,
        written=None,
        redirects=state.redirects + 1,
        quiesced=False,
        lapsed=False,
        baseline=baseline,
        redirect=None,
    )


def observe_written(state: State, written: bool | None) -> State:
    """Note what was found out. Once written stays written."""
    if state.authority != STANDBY or state.written is True:
        return state
    return dataclasses.replace(state, written=written)


def may_heal(state: State) -> bool:
    """Whether giving back quietly is allowed at all: a link was lost, and nothing was written."""
    return (
        state.authority == STANDBY
        and not state.held
        and not state.forced
        and not state.waiting
        and not state.quiesced
        and state.written is False
        and state.host is not None
    )


def heal(state: State, *, now: str) -> State:
    """The link came back and nothing was written: a false alarm.

    Raises:
        AgentError: Code `fenced`: `may_heal` says no.
    """
    if not may_heal(state):
        raise AgentError("the standby keeps the authority", code="fenced")
    return dataclasses.replace(
        state,
        authority=PRIMARY,
        since=now,
        cause="the link came back",
        written=None,
        false_alarms=state.false_alarms + 1,
        baseline=None,
    )


def fence(state: State, *, epoch: int, sync_public_key: str, now: str, baseline: Any) -> State:
    """The standby takes authority and holds it under a new epoch.

    Raises:
        AgentError: Code `fenced`: the epoch is over, or its primary has been handed the authority.
    """
    if epoch < state.epoch:
        raise _over(state, epoch)
    if epoch == state.epoch:
        if state.held:
            return dataclasses.replace(state, sync_public_key=sync_public_key)
        raise AgentError(
            f"epoch {epoch} has begun already, with authority at the {state.authority}",
            code="fenced",
        )
    taken = state.authority == PRIMARY
    return dataclasses.replace(
        state,
        authority=STANDBY,
        epoch=epoch,
        held=True,
        handing=False,
        since=now if taken else state.since,
        cause="fenced by the control plane" if taken else state.cause,
        waiting=False,
        forced=False,
        written=None if taken else state.written,
        redirects=state.redirects + (1 if taken else 0),
        baseline=baseline if taken else state.baseline,
        redirect=None if taken else state.redirect,
        quiesced=False,
        lapsed=False,
        sync_public_key=sync_public_key,
    )


def recover(*, epoch: int, floor: int | None, sync_public_key: str, now: str) -> State:
    """Fence out of the unknown. `floor` is the highest epoch that the journal knows.

    Raises:
        AgentError: Code `fenced`: the epoch is not new.
    """
    if floor is not None and epoch <= floor:
        raise AgentError(f"epoch {epoch} is over: {floor} was seen", code="fenced")
    return State(
        authority=STANDBY,
        epoch=epoch,
        held=True,
        since=now,
        cause="fenced by the control plane; what was before is unknown",
        sync_public_key=sync_public_key,
    )


def quiesce(state: State) -> State:
    """No new logins, for the moment of handing back.

    Raises:
        AgentError: Code `fenced`: the primary has authority.
    """
    if state.authority == PRIMARY:
        raise AgentError("the primary has the authority: nothing to quiesce", code="fenced")
    return dataclasses.replace(state, quiesced=True, lapsed=False)


def unquiesce(state: State, *, lapsed: bool = False) -> State:
    """Logins again."""
    if not state.quiesced:
        return state
    return dataclasses.replace(state, quiesced=False, lapsed=lapsed)


def check_hand_back(state: State, *, epoch: int) -> None:
    """Whether the authority may go to the primary of `epoch`.

    Raises:
        AgentError: Code `fenced` (another epoch), `not_fenced` (a link was lost and nobody has
            fenced: the primary may lack what was written here), or `quiesce_lapsed`.
    """
    if epoch < state.epoch:
        raise _over(state, epoch)
    if epoch > state.epoch:
        raise AgentError(f"epoch {epoch} has not begun here: fence first", code="fenced")
    if state.authority == STANDBY and not state.held and not state.waiting:
        raise AgentError("authority is not held: fence under a new epoch first", code="not_fenced")
    if state.lapsed:
        raise AgentError(
            "the quiescing had ended by itself: quiesce and restore again", code="quiesce_lapsed"
        )
    if not state.sync_public_key:
        raise AgentError("no sync key is known for this epoch", code="invalid")


def hand_back(state: State, *, epoch: int, host: str, port: int, now: str) -> State:
    """The primary at `host` gets the authority. Raises AgentError as `check_hand_back`."""
    check_hand_back(state, epoch=epoch)
    if state.authority == PRIMARY:
        return dataclasses.replace(state, host=host, port=port)
    return dataclasses.replace(
        state,
        authority=PRIMARY,
        held=False,
        handing=True,
        since=now,
        cause="handed back",
        waiting=False,
        forced=False,
        written=None,
        quiesced=False,
        baseline=None,
        host=host,
        port=port,
    )


def confirm(state: State) -> State:
    """The primary that was handed the authority serves."""
    return dataclasses.replace(state, handing=False)


def _over(state: State, epoch: int) -> AgentError:
    return AgentError(f"epoch {epoch} is over; this standby is in {state.epoch}", code="fenced")


class AuthorityFile:
    """The state on the disk. Every change is made under a lock, by whichever process.

    Args:
        path: `~/.dumont/authority.json`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal = path.with_name("authority.journal")
        self._lock_path = path.with_name("authority.lock")
        self._lock = threading.RLock()

    def read(self) -> State:
        """The state now. Raises AgentError with code `unknown_authority`."""
        try:
            document = store.read_json(self._path)
        except (OSError, ValueError) as error:
            raise AgentError(f"the authority is unknown: {error}", code=UNKNOWN) from None
        if document is None:
            raise AgentError("the authority is unknown: its file is missing", code=UNKNOWN)
        return _parse(document)

    def is_new(self) -> bool:
        """Whether there has never been a state here."""
        return not self._path.exists() and not self._journal.exists()

    def floor(self) -> int | None:
        """The highest epoch that the journal knows."""
        highest = None
        for line in (store.read_text(self._journal) or "").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                epoch = int(json.loads(line)["epoch"])
                highest = epoch if highest is None else max(highest, epoch)
        return highest

    def change(self, transition: Callable[[State], State]) -> State:
        """Apply a transition to the state on the disk; what it raises changes nothing."""
        with self._exclusive():
            before = self.read()
            after = transition(before)
            if after != before:
                self._write(after)
            return after

    def create(self, state: State) -> State:
        """Write the first state, or the one that ends the unknown."""
        with self._exclusive():
            self._write(state)
            return state

    def _write(self, state: State) -> None:
        document = dataclasses.asdict(state)
        # First the journal: a state that was never noted cannot be told from a first one.
        self._note(state)
        store.write_json(self._path, document, mode=0o600)

    def _note(self, state: State) -> None:
        with self._journal.open("a+") as file:
            file.seek(0)
            lines = file.read().splitlines()
            if len(lines) >= 2 * _JOURNAL_LINES:
                text = "\n".join(lines[-_JOURNAL_LINES:]) + "\n"
                store.write_text(self._journal, text, mode=0o600)
        short = {
            name: getattr(state, name)
            for name in ("since", "authority", "epoch", "held", "cause", "written", "quiesced")
        }
        with self._journal.open("a") as file:
            # A line that a power cut left half-written must not swallow this one.
            file.write("\n" + json.dumps(short) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock, self._lock_path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _parse(document: Any) -> State:
    """Check what was read: half a state is none."""
    if not isinstance(document, dict) or not _is_whole(document):
        raise AgentError("the authority is unknown: its file is not a state", code=UNKNOWN)
    known = {field.name for field in dataclasses.fields(State)}
    return State(**{name: value for name, value in document.items() if name in known})


def _is_whole(document: dict[str, Any]) -> bool:
    epoch, held = document.get("epoch"), document.get("held")
    authority, key = document.get("authority"), document.get("sync_public_key")
    return (
        authority in (PRIMARY, STANDBY)
        and isinstance(epoch, int)
        and not isinstance(epoch, bool)
        and isinstance(held, bool)
        and not (held and authority == PRIMARY)
        and isinstance(key, str)
        and (document.get("host") is None) == (document.get("port") is None)
    )
