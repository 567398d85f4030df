"""A machine with two bodies, for each test its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.endpoint.world import World, loopback_world, namespace_world


@cache
def _missing() -> str:
    if os.geteuid() != 0:
        return "two sshds that log in root need root"
    programs = ("haproxy", "ssh", "ssh-keygen", "rsync")
    missing = [
        name for name in programs if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    if not Path("/usr/sbin/sshd").exists():
        missing.append("sshd")
    return f"not installed: {', '.join(missing)}" if missing else ""


@cache
def _no_namespaces() -> str:
    if _missing():
        return _missing()
    for name in ("ip", "nsenter", "iptables"):
        if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            return f"not installed: {name}"
    tried = subprocess.run(
        ["unshare", "--net", "iptables", "-w", "-S"], capture_output=True, text=True, check=False
    )
    return f"no network namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: sockets live below it."""
    with tempfile.TemporaryDirectory(prefix="dmt-ep-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def world(folder: Path) -> Iterator[World]:
    """On loopback addresses."""
    if _missing():
        pytest.skip(_missing())
    with loopback_world(folder) as made:
        yield made


@pytest.fixture
def cuttable(folder: Path) -> Iterator[World]:
    """In network namespaces, with a link that can be cut."""
    if _no_namespaces():
        pytest.skip(_no_namespaces())
    with namespace_world(folder) as made:
        yield made
