"""What `ssh`'s proxy needs beside it: its own program, and a file of addresses for each machine."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dumont.cli.credentials import config_dir, credentials_path
from dumont.cli.files import make_private_dir, replace_file
from dumont.domain.errors import InvalidInput

if TYPE_CHECKING:
    from dumont.cli.ssh_hosts import Host


def proxy_path() -> Path:
    """The proxy's program, as it was when the command line last wrote its files."""
    return config_dir() / "proxy.py"


def addresses_path(*, machine_id: str) -> Path:
    """Where the proxy finds a machine's addresses."""
    return config_dir() / "addresses" / f"{machine_id}.json"


def proxy_command(*, machine_id: str) -> str:
    """The proxy as OpenSSH's configuration takes it: words for the user's shell, its own escapes.

    Raises:
        InvalidInput: A path would not survive that.
    """
    # -I -S -E: nothing of the user's Python setup is read, which is what makes it start at once.
    words = [sys.executable, "-I", "-S", "-E", proxy_path(), addresses_path(machine_id=machine_id)]
    command = shlex.join(str(word) for word in words)
    if "\n" in command:
        raise InvalidInput("OpenSSH cannot take a path of two lines", field="DUMONT_CREDENTIALS")
    return command.replace("%", "%%")


def write_addresses(*, hosts: Iterable[Host]) -> None:
    """Write the files of these machines and remove those of all others.

    Raises:
        OSError: A file cannot be written.
    """
    program = Path(__file__).with_name("proxy.py").read_bytes()
    wanted = {proxy_path(): program}
    for host in hosts:
        path = addresses_path(machine_id=host.machine_id)
        wanted[path] = json.dumps(_book(host, path), indent=2).encode() + b"\n"
    folder = config_dir() / "addresses"
    make_private_dir(path=folder)
    for path, content in wanted.items():
        if not _holds(path, content):
            replace_file(path=path, content=content)
    for path in folder.glob("*.json"):
        if path not in wanted:
            path.unlink(missing_ok=True)


def mark_fresh(*, machine_ids: Iterable[str]) -> None:
    """Note that the server has just confirmed the addresses of these machines."""
    for machine_id in machine_ids:
        with contextlib.suppress(OSError):
            os.utime(addresses_path(machine_id=machine_id))


def _book(host: Host, path: Path) -> dict[str, object]:
    where = [(host.address, "its address" if host.direct is None else "its stable address")]
    if host.direct is not None:
        where.append((host.direct, "its GPU directly"))
    refresh = [
        sys.executable, "-m", "dumont.cli.ssh_refresh", host.server, host.machine_id, str(path),
    ]  # fmt: skip
    return {
        "version": 1,
        "name": host.name,
        "server": host.server,
        "candidates": [{"host": a.host, "port": a.port, "what": what} for a, what in where],
        "refresh": {
            "command": refresh,
            "environment": {"DUMONT_CREDENTIALS": str(credentials_path())},
        },
    }


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
