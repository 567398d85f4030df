"""Pulls the standby's workspace into this one, and proves that it is the same.

    restore            everything, in parallel streams; may be repeated, goes on where it stopped
    restore --final    what changed meanwhile; small, for the moment of handing back

Until a restore has ended well nothing is mirrored from here (`restored.py`): a half-filled workspace
must never be taken for one whose files were deleted.

A returning primary may hold edits that never reached the standby. The standby's version wins, and the
edit is moved to `.dumont/conflicts/<epoch>/`, which no restore touches and the mirror sends on.

Proof is by hash: all files after a full restore. After a final one those that the standby changed since
the full one began; its dirty pages are written back then, so that every later store shows in a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import time
from typing import TYPE_CHECKING, Any

from dumont.agent import divergence, manifest, marks, restored, store
from dumont.agent.compare import asked, like, lots, same
from dumont.agent.errors import AgentError
from dumont.agent.link import Conversation, Fenced, LinkDown

if TYPE_CHECKING:
    from dumont.agent.context import Context
    from dumont.agent.control import Say
    from dumont.agent.mirror import Mirror

_NAMED = 200

_KEPT = ("/.dumont/conflicts/", "/.dumont/conflicts/**")
_MARGIN_S = 2.0
_ROUNDS = 5
_CONNECT_S = 15.0
_TELL_EVERY_S = 1.0


class Restore:
    """Serves `restore`."""

    def __init__(self, context: Context, mirror: Mirror) -> None:
        self._context = context
        self._mirror = mirror
        self._paths = context.paths
        self._workspace = context.paths.workspace

    def handle(self, arguments: dict[str, Any], say: Say) -> dict[str, Any]:
        """The command `restore`. Raises AgentError."""
        streams = arguments.get("streams")
        if streams is None and self._context.config.mirror is not None:
            streams = self._context.config.mirror.streams
        if isinstance(streams, bool) or not isinstance(streams, int) or not 1 <= streams <= 64:
            raise AgentError("streams must be from 1 to 64", code="invalid")
        if not self._mirror.copying.acquire(timeout=_CONNECT_S):
            raise AgentError("another transfer is under way", code="timeout")
        try:
            return self._restore(streams, bool(arguments.get("final")), say)
        except Fenced as refusal:
            raise AgentError(f"the standby refuses: {refusal}", code="fenced") from None
        except LinkDown as trouble:
            raise AgentError(f"the standby cannot be reached: {trouble}") from None
        finally:
            self._mirror.copying.release()

    def _restore(self, streams: int, final: bool, say: Say) -> dict[str, Any]:
        began = time.monotonic()
        if not self._mirror.link.wait_up(_CONNECT_S):
            raise LinkDown(self._mirror.link.trouble or "no connection")
        conversation = Conversation(self._mirror.link, writing=False)
        try:
            answer = conversation.ask({"do": "sync"}, timeout_s=300)
            if answer.get("write") and self._mirror.is_complete() and not self._mirror.restoring:
                message = "this body has authority and is mirrored: there is nothing to restore"
                raise AgentError(message, code="invalid")
            # Before anything is pulled: the standby's mark comes with it.
            own_epoch = self._own_epoch()
            state = restored.read(self._paths)
            if final and (not state or state.get("epoch") != self._context.config.epoch):
                raise AgentError("a full restore has to come first", code="invalid")
            if final and state:
                changed = self._final(conversation, state, say)
            else:
                self._mirror.restoring = True
                state = {"epoch": self._context.config.epoch, "at": answer["at"]}
                restored.write(self._paths, {**state, "complete": False})
                changed = self._full(streams, own_epoch, say)
            verified = self._verify(conversation, changed, say)
            restored.write(self._paths, {**state, "complete": True})
            self._mirror.marks.take_over()
            self._mirror.restoring = False
        finally:
            conversation.close()
        files, size = self._weigh()
        return {
            "files": files,
            "bytes": size,
            "verified": verified,
            "conflicts": self._conflicts(own_epoch),
            "final": final,
            "seconds": round(time.monotonic() - began, 3),
        }

    def _full(self, streams: int, own_epoch: int, say: Say) -> list[tuple[bytes, int]]:
        """Pull everything; returns what has to be verified."""
        theirs = self._manifest()
        files = {
            name: int(entry.get("size", 0)) for name, entry in theirs.items() if _is_data(entry)
        }
        self._keep_own(theirs, own_epoch, say)
        last = 0.0

        def progress(left_files: int, left_bytes: int) -> None:
            nonlocal last
            if time.monotonic() - last > _TELL_EVERY_S or not left_files:
                last = time.monotonic()
                total = sum(files.values())
                say(
                    f"restored {len(files) - left_files} of {len(files)} files, "
                    f"{total - left_bytes} of {total} bytes"
                )

        self._check(self._mirror.transfers.fetch(files, streams, progress))
        self._check(self._mirror.transfers.fetch_pass(keep=_KEPT))
        return list(files.items())

    def _final(
        self, conversation: Conversation, state: dict[str, Any], say: Say
    ) -> list[tuple[bytes, int]]:
        """Pull what changed; returns what has to be verified."""
        self._check(self._mirror.transfers.fetch_pass(keep=_KEPT))
        request = {"do": "changed", "since": float(state["at"]) - _MARGIN_S}
        names = [
            manifest.to_bytes(name) for name in conversation.ask(request, timeout_s=300)["paths"]
        ]
        say(f"{len(names)} files changed since the full restore")
        found = []
        for name in names:
            if not divergence.is_product(name):
                found.append((name, self._size(name)))
        return found

    def _verify(self, conversation: Conversation, files: list[tuple[bytes, int]], say: Say) -> int:
        """Compare by hash, and pull again what differs; returns how many are equal."""
        equal = 0
        wanted = [pair for pair in files if not divergence.is_product(pair[0])]
        for _ in range(_ROUNDS):
            different = []
            for lot in lots(wanted):
                answer = asked(conversation, lot)
                names = [name for name, _ in lot]
                ours = manifest.describe_all(self._workspace, names, algorithm=manifest.SHA256)
                theirs = answer()
                for name, own in zip(names, ours):
                    entry = theirs[name]
                    own = like(own, entry, self._workspace, name)
                    if same(own, entry) or entry["kind"] not in ("file", "link"):
                        equal += 1
                    else:
                        different.append((name, int(entry.get("size", 0))))
            if not different:
                say(f"verified {equal} files")
                return equal
            say(f"{len(different)} files changed meanwhile or differ; pulling them again")
            names = [name for name, _ in different]
            self._check(self._mirror.transfers.fetch_some(names, forced=True))
            wanted = different
        first = manifest.shown(wanted[0][0])
        raise AgentError(f"{len(wanted)} files still differ from the standby, e.g. {first}")

    def _keep_own(self, theirs: dict[bytes, dict[str, Any]], own_epoch: int, say: Say) -> None:
        """Move aside what was changed here, never reached the standby, and is not as it is there."""
        folder = os.path.join(
            os.fsencode(str(self._workspace)), b".dumont/conflicts", str(own_epoch).encode()
        )
        kept = 0
        for name, _ in list(divergence.changed(self._paths)):
            if name.startswith(b".dumont/") or self._is_as_there(name, theirs.get(name)):
                continue
            source = os.path.join(os.fsencode(str(self._workspace)), name)
            target, number = os.path.join(folder, name), 0
            while os.path.lexists(target):
                number += 1
                target = os.path.join(folder, name) + f".{number}".encode()
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.rename(source, target)
                kept += 1
        if kept:
            say(
                f"{kept} files changed here and never reached the standby; kept in {folder.decode()}"
            )

    def _is_as_there(self, name: bytes, entry: dict[str, Any] | None) -> bool:
        if entry is None:
            return False
        ours = manifest.describe(self._workspace, name, hashed=False)
        keys = ("kind", "size", "mtime_ns", "target")
        return all(ours.get(key) == entry.get(key) for key in keys)

    def _own_epoch(self) -> int:
        """The epoch in which the edits here were made: that of the newest mark written here."""
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
            mark = json.loads(store.read_text(self._paths.product / "mark") or "")
            if marks.read(json.dumps(mark), epoch=None) is not None:
                return int(mark["epoch"])
        return self._context.config.epoch

    def _manifest(self) -> dict[bytes, dict[str, Any]]:
        """The standby's tree."""
        done = subprocess.run(
            self._mirror.link.command("manifest"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise LinkDown(said or f"manifest ended with status {done.returncode}")
        entries = [json.loads(line) for line in done.stdout.splitlines()]
        return {manifest.to_bytes(entry["path"]): entry for entry in entries}

    def _check(self, outcome: Any) -> None:
        if outcome.problem:
            raise AgentError(outcome.problem)

    def _weigh(self) -> tuple[int, int]:
        files = size = 0
        for name, state in manifest.walk(self._workspace):
            if stat.S_ISREG(state.st_mode) and not divergence.is_product(name):
                files, size = files + 1, size + state.st_size
        return files, size

    def _conflicts(self, own_epoch: int) -> list[str]:
        """Edits of this epoch that are kept beside the workspace, by path; at most so many as a receipt
        names. Those of earlier epochs stand in earlier receipts."""
        folder = self._paths.product / "conflicts" / str(own_epoch)
        names = [name for name, state in manifest.walk(folder) if not stat.S_ISDIR(state.st_mode)]
        top = f".dumont/conflicts/{own_epoch}/".encode()
        return [manifest.shown(top + name) for name in sorted(names)[:_NAMED]]

    def _size(self, name: bytes) -> int:
        try:
            return os.lstat(os.path.join(os.fsencode(str(self._workspace)), name)).st_size
        except OSError:
            return 0


def _is_data(entry: dict[str, Any]) -> bool:
    return entry["kind"] in ("file", "link")
