"""The official `vastai` command line, unmodified, in a virtual environment of its own.

Its pinned dependencies would fight the product's, so it never enters the product's environment.
The environment is built once, at the project root, by whichever test asks first.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VERSION = "1.9.1"
_VENV = ROOT / ".venv-vastai"


def ensure_vastai() -> Path:
    """Return the environment's `bin`, with vastai and gpuhunt installed."""
    wanted = f"vastai=={VERSION}"
    marker = _VENV / "installed"
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache/vastai.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists() or marker.read_text() != wanted:
            subprocess.run([sys.executable, "-m", "venv", str(_VENV)], check=True)
            subprocess.run(
                [str(_VENV / "bin/pip"), "install", "--quiet", wanted, "gpuhunt==0.1.34"],
                check=True,
                timeout=600,
            )
            marker.write_text(wanted)
    return _VENV / "bin"


class VastaiClient:
    """Runs `vastai` against a server, with a home of its own."""

    def __init__(self, *, url: str, key: str, home: Path) -> None:
        self._bin = ensure_vastai()
        home.mkdir(parents=True, exist_ok=True)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "VAST_URL": url,
            "VAST_API_KEY": key,
            "VASTAI_NO_UPDATE_CHECK": "1",
            "LANG": "C.UTF-8",
            "COLUMNS": "250",
        }

    def run(self, *arguments: str) -> str:
        """Run a command and return what it printed; its exit code says nothing about errors."""
        done = subprocess.run(
            [str(self._bin / "vastai"), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0, done.stderr + done.stdout
        self.errors = done.stderr
        return done.stdout

    def raw(self, *arguments: str) -> Any:
        """Run a command with `--raw` and return its JSON."""
        text = self.run(*arguments, "--raw")
        try:
            return json.loads(text)
        except ValueError as error:
            raise AssertionError(f"not JSON: {text}\n{self.errors}") from error

    def python(self, code: str) -> str:
        """Run Python code in the client's environment and return what it printed."""
        done = subprocess.run(
            [str(self._bin / "python"), "-c", code],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
