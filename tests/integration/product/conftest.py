"""The whole product as `make demo` runs it, and a newcomer's command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.one_start import one_start

ROOT = Path(__file__).resolve().parents[3]
DUMONT = Path(sys.executable).with_name("dumont")


@dataclass
class Product:
    """A running demo stack and the environment of the person in front of it."""

    state: Path
    home: Path
    env: dict[str, str]

    def dumont(
        self, *arguments: str, timeout: float = 120, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Type a command."""
        return subprocess.run(
            [str(DUMONT), *arguments],
            env=self.env, cwd=self.home, capture_output=True, text=True, timeout=timeout,
            check=False, input=stdin if stdin is not None else "",
        )  # fmt: skip

    def ok(self, *arguments: str, timeout: float = 120) -> str:
        """Type a command that has to succeed; returns what it printed."""
        done = self.dumont(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Type a command with --json."""
        return json.loads(self.ok(*arguments, "--json"))

    def status(self) -> Any:
        """What `dumont stack status` says."""
        return json.loads(self.ok("stack", "status", "--state", str(self.state), "--json"))


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    # Short, because Unix sockets have short names, and outside the home of whoever runs the tests.
    folder = Path(tempfile.mkdtemp(prefix="dmt-demo-"))
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TERM", "USER")}
    env = {
        **keep,
        "HOME": str(home),
        "DUMONT_CREDENTIALS": str(home / "dumont" / "credentials.json"),
        "COLUMNS": "200",
    }
    log = (folder / "demo.log").open("w+")
    made = Product(folder / "s", home, env)
    with one_start():
        demo = subprocess.Popen(
            [str(DUMONT), "demo", "--state", str(folder / "s"), "--boot-seconds", "0.5,1.5"],
            env=env, cwd=home, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_until_up(made, demo, folder / "demo.log")
        except BaseException:
            demo.kill()
            raise
    try:
        yield made
    finally:
        demo.send_signal(signal.SIGINT)
        try:
            demo.wait(60)
        finally:
            demo.kill()
            log.close()
            shutil.rmtree(folder, ignore_errors=True)


def _wait_until_up(product: Product, demo: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert demo.poll() is None, log.read_text()
        if "dumont ssh" in log.read_text() and product.dumont("whoami").returncode == 0:
            return
        time.sleep(0.5)
    raise AssertionError(f"the demo was not up within 120 s\n{log.read_text()}")
