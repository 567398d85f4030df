"""Real sshd, real rsync, real lsyncd, two folders as two homes."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sync.bodies import Bodies

NEEDED = ("/usr/sbin/sshd", "rsync", "lsyncd")


@pytest.fixture
def make_bodies(tmp_path: Path) -> Iterator[Callable[..., Bodies]]:
    """Makes a pair of bodies, not started."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root (logs in as root) and {', '.join(missing) or 'nothing else'}")
    made: list[Bodies] = []

    def make(**options: object) -> Bodies:
        address = f"127.{os.getpid() % 200 + 20}.{len(made)}.9"
        with socket.socket() as probe:
            probe.bind((address, 0))
            port = probe.getsockname()[1]
        bodies = Bodies(tmp_path / f"pair{len(made)}", address, port, **options)  # type: ignore[arg-type]
        made.append(bodies)
        return bodies

    yield make
    for bodies in made:
        bodies.close()


@pytest.fixture
def bodies(make_bodies: Callable[..., Bodies]) -> Bodies:
    """A pair with its standby up and its workspace protected."""
    pair = make_bodies()
    pair.start_sshd()
    pair.apply()
    pair.wait_protected()
    return pair
