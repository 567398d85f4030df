"""The state directory of an embedded stack: lock, ports, secrets, what runs, logs.

    lock               held by the one supervisor of this directory
    stack.json         demo or serve, ports, so that a restart keeps every address
    secrets.json       passwords of the parts among each other
    owner-password     how the owner logs in
    status.json        which processes run, how they are; what the next start reaps
    server.json        the configuration the parts got, for `dumont doctor`
    keys.json          the product's encryption keys: back this up
    logs/              one bounded log a part
    postgres/ temporal/ s3/ simcloud/    the parts' data

It knows nothing of what the parts are.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import secrets
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from dumont.cli.embedded.processes import ProcessId
from dumont.cli.files import PRIVATE, replace_file
from dumont.domain.errors import Conflict, InvalidInput

Mode = Literal["demo", "serve"]
PartState = Literal["waiting", "starting", "running", "unhealthy", "restarting", "done", "stopped"]

# Below the range from which Linux takes the ports of outgoing connections (32768), so that a
# remembered port is still free at the next start.
_PORT_RANGE = range(20_000, 32_000)


class PartStatus(BaseModel):
    """How one part is."""

    state: PartState = "waiting"
    detail: str = ""
    process: ProcessId | None = None
    stop_signal: int = 15
    grace_s: float = 5
    restarts: int = 0
    since: datetime


class StackStatus(BaseModel):
    """What the supervisor last wrote down."""

    mode: Mode
    supervisor: ProcessId
    urls: dict[str, str] = Field(default_factory=dict)
    parts: dict[str, PartStatus] = Field(default_factory=dict)


class _Stack(BaseModel):
    mode: Mode
    ports: dict[str, int] = Field(default_factory=dict)


class StateDir:
    """The directory, locked for this process.

    Args:
        path: Where; made (0700) when missing.
        mode: What it is used for. A directory serves one mode for its whole life: the machines of a
            demo do not exist in a real cloud, and a real machine's records must not meet a demo.

    Raises:
        Conflict: Another supervisor runs on it.
        InvalidInput: It was made for the other mode, or is not writable.
    """

    def __init__(self, path: Path, *, mode: Mode) -> None:
        self.path = path.absolute()
        self.mode = mode
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.logs.mkdir(exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InvalidInput(
                f"the state directory {self.path} cannot be used: {error.strerror}",
                field="state",
                hint="choose another one with --state DIR",
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode().strip()
            os.close(self._lock)
            raise Conflict(
                f"another stack (pid {holder or 'unknown'}) is running on {self.path}",
                field="state",
                hint="press Ctrl-C where it runs, or type `dumont stack stop`, "
                "or give this one a directory of its own with --state DIR",
            ) from None
        os.ftruncate(self._lock, 0)
        with contextlib.suppress(OSError):  # a full disk; only the message to a second one suffers
            os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        try:
            self._stack = self._load_stack()
        except InvalidInput:
            self.close()
            raise

    def _load_stack(self) -> _Stack:
        try:
            stack = _Stack.model_validate_json((self.path / "stack.json").read_text())
        except FileNotFoundError:
            return _Stack(mode=self.mode)
        except ValidationError as error:
            raise InvalidInput(
                f"{self.path / 'stack.json'} is damaged: {error.errors()[0]['msg']}",
                hint="delete that file: addresses change, no machine is lost",
            ) from None
        if stack.mode != self.mode:
            raise InvalidInput(
                f"{self.path} holds the state of `dumont {stack.mode}`, not of `{self.mode}`",
                field="state",
                hint="give this one a directory of its own with --state DIR",
            )
        return stack

    def close(self) -> None:
        """Let the next supervisor in."""
        os.close(self._lock)

    @property
    def logs(self) -> Path:
        """Where the parts' logs are."""
        return self.path / "logs"

    def folder(self, name: str) -> Path:
        """A part's own directory, made when missing."""
        path = self.path / name
        path.mkdir(exist_ok=True, mode=0o700)
        return path

    def ports(self, preferred: Mapping[str, int | None]) -> dict[str, int]:
        """A free loopback port for each name: last time's, else the preferred one, else any.

        The choice is remembered.
        """
        chosen: dict[str, int] = {}
        for name, wish in preferred.items():
            candidates = [self._stack.ports.get(name), wish]
            candidates += random.sample(_PORT_RANGE, 50)  # not secret, just not the same for two
            chosen[name] = next(
                port
                for port in candidates
                if port and port not in chosen.values() and _is_free(port)
            )
        self._stack = _Stack(mode=self.mode, ports={**self._stack.ports, **chosen})
        self.write("stack.json", self._stack.model_dump_json(indent=1))
        return chosen

    def secret(self, name: str) -> str:
        """A random password, made at the first call and the same ever after."""
        path = self.path / "secrets.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            self.write(path.name, json.dumps(known, indent=1))
        return str(known[name])

    def owner_password(self) -> str:
        """The owner's first password, kept where the owner can read it."""
        path = self.path / "owner-password"
        if not path.exists():
            self.write(path.name, secrets.token_urlsafe(12) + "\n")
        return path.read_text().strip()

    def write(self, name: str, text: str) -> None:
        """Replace a file of the directory, readable by its owner alone."""
        replace_file(path=self.path / name, content=text.encode(), mode=PRIVATE)

    def write_status(self, status: StackStatus) -> None:
        """Record what runs, for `dumont stack status` and for the next start."""
        self.write("status.json", status.model_dump_json(indent=1))


def read_status(path: Path) -> StackStatus | None:
    """What a supervisor last wrote about a state directory; None when it never did."""
    try:
        return StackStatus.model_validate_json((path / "status.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError:
        # Written by another version of the product, or damaged: it proves nothing.
        return None


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
