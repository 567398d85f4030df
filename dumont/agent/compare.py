"""Compares files with the standby's by hash, and sends what differs until nothing does.

A file that never stands still cannot be compared. Of such a file a forced transfer (whatever size and
time say) that began after the question has read all that was written before it, and rsync verified
what arrived; after two of those it is accepted and named as changing. A file that stands still and
differs is never accepted.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from dumont.agent import manifest
from dumont.agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dumont.agent.link import Conversation
    from dumont.agent.transfer import Transfers

_LOT_FILES = 400
_LOT_BYTES = 256 << 20
_SLOWEST_HASH = 20 << 20
"""Bytes a second of the slowest standby that we wait for."""
_FORCED_ENOUGH = 2
_ROUNDS = 10


class Comparison:
    """One comparison.

    Attributes:
        hashed: Files that were found equal.
        changing: Files that never stood still.
    """

    def __init__(
        self, *, workspace: Path, transfers: Transfers, conversation: Conversation,
        in_memory: set[bytes],
    ) -> None:  # fmt: skip
        self._workspace = workspace
        self._transfers = transfers
        self._conversation = conversation
        self._in_memory = in_memory
        self._seen: dict[bytes, tuple[int, ...] | None] = {}
        self._forced: dict[bytes, int] = {}
        self.hashed = 0
        self.changing: set[bytes] = set()

    def settle(self, suspects: list[tuple[bytes, int]], *, deadline: float) -> None:
        """Compare, send and compare again. Raises AgentError, Fenced, LinkDown."""
        for _ in range(_ROUNDS):
            different = self._differing(suspects)
            if not different:
                return
            if time.monotonic() > deadline:
                raise AgentError(f"{_some(different)} did not settle in time", code="timeout")
            outcome = self._transfers.send(different, forced=True)
            if not outcome.problem:
                for name in different:
                    self._forced[name] = self._forced.get(name, 0) + 1
            again = set(different)
            suspects = [pair for pair in suspects if pair[0] in again]
        raise AgentError(f"{_some(different)} differs on the standby", code="not_mirrored")

    def _differing(self, suspects: list[tuple[bytes, int]]) -> list[bytes]:
        different = []
        for lot in lots(suspects):
            answer = asked(self._conversation, lot)
            looks = {name: self._look(name) for name, _ in lot}
            theirs = answer()
            for name, _ in lot:
                ours, moved = looks[name]
                if ours["kind"] == "absent":
                    continue
                if same(like(ours, theirs.get(name), self._workspace, name), theirs.get(name)):
                    self.hashed += 1
                elif moved and self._forced.get(name, 0) >= _FORCED_ENOUGH:
                    self.changing.add(name)
                else:
                    different.append(name)
        return different

    def _look(self, name: bytes) -> tuple[dict[str, Any], bool]:
        """Our file, hashed, and whether it changed while we looked or since we last did."""
        before = self._stamp(name)
        entry = manifest.describe(self._workspace, name, hashed=True, algorithm=manifest.SHA256)
        after = self._stamp(name)
        moved = before != after or self._seen.get(name, before) != before
        self._seen[name] = after
        return entry, moved or name in self._in_memory

    def _stamp(self, name: bytes) -> tuple[int, ...] | None:
        try:
            state = os.lstat(os.path.join(os.fsencode(str(self._workspace)), name))
        except OSError:
            return None
        return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def asked(
    conversation: Conversation, lot: list[tuple[bytes, int]]
) -> Callable[[], dict[bytes, dict[str, Any]]]:
    """Have the standby hash while we do; returns what waits for its answer, and raises what it raised."""
    found: dict[bytes, dict[str, Any]] = {}
    trouble: list[BaseException] = []
    request = {
        "do": "describe",
        "paths": [manifest.to_text(name) for name, _ in lot],
        "hash": manifest.SHA256,
    }
    patience = 30 + sum(size for _, size in lot) / _SLOWEST_HASH

    def work() -> None:
        try:
            for entry in conversation.ask(request, timeout_s=patience)["entries"]:
                found[manifest.to_bytes(entry["path"])] = entry
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def answer() -> dict[bytes, dict[str, Any]]:
        thread.join()
        for error in trouble:
            raise error
        return found

    return answer


def like(
    ours: dict[str, Any], theirs: dict[str, Any] | None, workspace: Path, name: bytes
) -> dict[str, Any]:
    """Our entry, hashed as theirs is: the agent there may be older."""
    found = theirs.get("hash") if theirs is not None else None
    algorithm = manifest.algorithm_of(found)
    if found is None or algorithm == manifest.SHA256:
        return ours
    return manifest.describe(workspace, name, hashed=True, algorithm=algorithm)


def same(ours: dict[str, Any], theirs: dict[str, Any] | None) -> bool:
    """Whether two entries have the same kind and content."""
    if theirs is None or ours["kind"] != theirs["kind"]:
        return False
    if ours["kind"] == "file":
        return ours["hash"] is not None and ours["hash"] == theirs["hash"]
    return bool(ours.get("target") == theirs.get("target"))


def lots(suspects: list[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    """Names and sizes in portions that one question can carry."""
    lot: list[tuple[bytes, int]] = []
    weight = 0
    for pair in suspects:
        lot.append(pair)
        weight += pair[1]
        if len(lot) >= _LOT_FILES or weight >= _LOT_BYTES:
            yield lot
            lot, weight = [], 0
    if lot:
        yield lot


def _some(names: list[bytes]) -> str:
    first = manifest.shown(names[0])
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
