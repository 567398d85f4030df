"""The engine on a machine, run by whoever manages that machine: an order on stdin, JSON lines on stdout.

Nothing secret touches the machine's disk or its list of processes: what opens the repository and the
credentials, which expire, arrive on stdin and stay in this process. Newer credentials may follow. An empty
line on stdout now and then says that the run goes on, for one large file may take its time. When stdin
ends, nobody is there any more to hear the result, and the run ends as by Ctrl-C: what was sent is not sent
again by the next one.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from dumont.snapshots import command

_CREDENTIALS = "DUMONT_SNAP_CREDENTIALS_FILE"
_NOTE = Path("~/.dumont/workspace")
"""Where a machine's agent notes where the workspace is."""
_DEFAULT_WORKSPACE = "/workspace"
_GRACE_S = 15.0
_PULSE_S = 30.0
_NICE = 5
"""The user's own programs come first."""


def main() -> int:
    """Take one order and carry it out; returns `dumont-snap`'s exit status, or 2 for a bad order.

    The order is one line of JSON: `words`, the command and its options; `folder`, relative to the
    workspace, which is appended to them as the last argument when it is not null; `environment`, whatever
    `dumont-snap` reads from there; `credentials`, as in the file of a loan.
    """
    # Not `sys.stdin`: at its end Python waits for that one's lock, which the listening thread holds.
    stdin = io.FileIO(0, closefd=False)
    line = stdin.readline()
    try:
        order = json.loads(line)
        name, *words = [str(word) for word in order["words"]]
        folder = order.get("folder")
        os.environ.update({str(k): str(v) for k, v in order.get("environment", {}).items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _refuse(f"not an order: {error}")
    if order.get("credentials") is not None:
        purse = _Purse(order["credentials"])
        os.environ[_CREDENTIALS] = purse.path
    else:
        purse = None
    threading.Thread(target=_listen, args=(stdin, purse), daemon=True).start()
    threading.Thread(target=_pulse, daemon=True).start()
    os.nice(_NICE)
    state = Path("~/.dumont/snapshots").expanduser()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(state / "lock"):
        last = [os.path.join(workspace(), str(folder))] if folder is not None else []
        return command.main([name, "--json", "--state", str(state), *words, *last])


def workspace() -> str:
    """Where the machine's workspace is."""
    try:
        return _NOTE.expanduser().read_text().strip() or _DEFAULT_WORKSPACE
    except OSError:
        return _DEFAULT_WORKSPACE


class _Purse:
    """Credentials in memory, under a path like a file's; each change is seen whole or not at all."""

    def __init__(self, credentials: dict[str, Any]) -> None:
        self._descriptor = self._made(credentials)
        self.path = f"/proc/self/fd/{self._descriptor}"

    def put(self, credentials: dict[str, Any]) -> None:
        """Take the place of the present ones."""
        fresh = self._made(credentials)
        os.dup2(fresh, self._descriptor, inheritable=False)
        os.close(fresh)

    @staticmethod
    def _made(credentials: dict[str, Any]) -> int:
        descriptor = os.memfd_create("credentials")
        os.write(descriptor, json.dumps(credentials).encode())
        return descriptor


class _alone:  # noqa: N801 - reads as a sentence
    """One run at a time on a machine; waiting is told, for whoever started it listens for life."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def __enter__(self) -> None:
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say({"progress": {"waits": True}})
                time.sleep(1.0)
            else:
                return

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _listen(stdin: BinaryIO, purse: _Purse | None) -> None:
    """Take newer credentials; end the run when nobody is there."""
    for line in stdin:
        try:
            credentials = json.loads(line)["credentials"]
            if purse is not None:
                purse.put(credentials)
        except (ValueError, KeyError, TypeError):
            continue
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_GRACE_S)
    os._exit(130)


def _pulse() -> None:
    """Say that the run goes on. An empty line harms no other, wherever it comes between."""
    while True:
        time.sleep(_PULSE_S)
        sys.stdout.write("\n")
        sys.stdout.flush()


def _refuse(why: str) -> int:
    _say({"error": {"code": "bad_order", "message": why, "hint": ""}})
    return 2


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
