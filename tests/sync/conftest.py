"""Real sshd, real rsync, real lsyncd, two folders as two homes."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sync.bodies import Bodies

NEEDED = ("/usr/sbin/sshd", "rsync", "lsyncd")


def _need_everything() -> None:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root (logs in as root) and {', '.join(missing) or 'nothing else'}")


def _pair(folder: Path, number: int, **options: Any) -> Bodies:
    address = f"127.{os.getpid() % 200 + 20}.{number}.9"
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    return Bodies(folder / f"pair{number}", address, port, **options)


@pytest.fixture
def make_bodies(tmp_path: Path) -> Iterator[Callable[..., Bodies]]:
    """Makes a pair of bodies, not started."""
    _need_everything()
    made: list[Bodies] = []

    def make(**options: Any) -> Bodies:
        made.append(_pair(tmp_path, len(made) + 1, **options))
        return made[-1]

    yield make
    for bodies in made:
        bodies.close()


@pytest.fixture(scope="module")
def _lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bodies]:
    _need_everything()
    pair = _pair(tmp_path_factory.mktemp("bodies"), 0)
    yield pair
    pair.close()


@pytest.fixture
def bodies(_lasting: Bodies) -> Bodies:
    """A pair with its standby up and an empty workspace protected."""
    _lasting.reset()
    return _lasting
