"""OpenSSH servers of a test's own, that let the user's key in."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


class Box(NamedTuple):
    """An sshd that lets the user's key in."""

    host: str
    port: int
    host_key: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """Nothing listens there any more."""
        self.process.kill()
        self.process.wait(10)


def free_port(host: str = "127.9.8.7") -> int:
    """A port where nothing listens."""
    with socket.socket() as free:
        free.bind((host, 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def sshd(folder: Path, *, ssh_key: Path, host_key: Path, host: str = "127.9.8.7") -> Iterator[Box]:
    """A server with this host key until the block ends."""
    folder.mkdir()
    (folder / "authorized_keys").write_text(ssh_key.with_suffix(".pub").read_text())
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port(host)
    options = {
        "ListenAddress": host,
        "Port": port,
        "HostKey": host_key,
        "AuthorizedKeysFile": folder / "authorized_keys",
        "StrictModes": "no",
        "PidFile": "none",
        "UsePAM": "no",
    }
    arguments = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", "/dev/null", *arguments], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "listening on" in line:
            break
    public = host_key.with_name(host_key.name + ".pub").read_text().rsplit(" ", 1)[0]
    try:
        yield Box(host, port, public, process)
    finally:
        process.terminate()
        process.wait(10)
