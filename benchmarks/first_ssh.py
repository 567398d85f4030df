"""From clone to the first SSH login, as a new user types it, with warm package caches.

Clones the committed tree into an empty directory and types the README's commands there, with a home
directory of its own: `make demo`, `dumont up`, `dumont ssh`, `dumont destroy`. Each phase is timed from
what the user sees. Nothing is waited for but what the commands themselves wait for.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import _harness
from benchmarks._harness import Report, Section, Target
from benchmarks._servers import ROOT, wait_until

_READY = "The command line is logged in"
_FIRST_PART = "✓"


class _Demo:
    """`make demo`, and when it printed what."""

    def __init__(self, *, clone: Path, env: dict[str, str], boot_seconds: str | None) -> None:
        options = f"--boot-seconds {boot_seconds}" if boot_seconds else ""
        self.lines: list[tuple[float, str]] = []
        self._process = subprocess.Popen(
            ["make", "demo", f"ARGS={options}"], cwd=clone, env=env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line.rstrip()))

    def when(self, text: str) -> float | None:
        """When a line with this text was printed first."""
        return next((at for at, line in self.lines if text in line), None)

    def is_ready(self) -> bool:
        """Whether it said that everything works.

        Raises:
            RuntimeError: It ended instead; has what it printed.
        """
        if self._process.poll() is not None:
            printed = "\n".join(line for _, line in self.lines[-40:])
            raise RuntimeError(f"make demo ended with {self._process.returncode}:\n{printed}")
        return self.when(_READY) is not None

    def stop(self) -> None:
        """Press Ctrl-C and wait."""
        if self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)


def _environment(home: Path) -> dict[str, str]:
    """A new user's environment, with the caches of packages that this machine has."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DUMONT_", "VIRTUAL_ENV"))}
    pip = [sys.executable, "-m", "pip", "cache", "dir"]
    pip_cache = subprocess.run(pip, capture_output=True, text=True, check=True).stdout.strip()
    npm_cache = Path(os.environ.get("HOME", "/")) / ".npm"
    return {
        **kept,
        "HOME": str(home),
        "PIP_CACHE_DIR": pip_cache,
        "npm_config_cache": str(npm_cache),
        "PYTHONUNBUFFERED": "1",
    }


def _type(clone: Path, env: dict[str, str], *command: str) -> tuple[float, str]:
    """Type a `dumont` command; returns seconds and what it printed.

    Raises:
        RuntimeError: It failed.
    """
    began = time.monotonic()
    done = subprocess.run(
        [clone / ".venv/bin/dumont", *command], cwd=clone, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"dumont {' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - began, done.stdout


def _clone(into: Path) -> None:
    subprocess.run(["git", "clone", "-q", "--no-local", ROOT, into], check=True)


def main() -> None:
    """Run it."""
    parser = _harness.parser(__doc__)
    parser.add_argument("--cold", action="store_true", help="do not fill the caches first")
    parser.add_argument("--boot-seconds", metavar="LO,HI", help="of the cloud in a box")
    given = parser.parse_args()
    report = Report(
        name="first-ssh", question="how long from clone to the first SSH login?", arguments=given
    )
    with ExitStack() as cleanup:
        place = Path(tempfile.mkdtemp(prefix="dmt-first-"))
        cleanup.callback(shutil.rmtree, place, ignore_errors=True)
        place.chmod(0o755)
        (place / "home").mkdir()
        env = _environment(place / "home")
        if not given.cold:
            _clone(place / "warm")
            subprocess.run(["scripts/setup.sh"], cwd=place / "warm", env=env, check=True)
            shutil.rmtree(place / "warm")
            report.say("caches are warm")
        began = time.monotonic()
        clone = place / "dumont"
        _clone(clone)
        cloned = time.monotonic()
        demo = _Demo(clone=clone, env=env, boot_seconds=given.boot_seconds)
        cleanup.callback(demo.stop)
        wait_until(demo.is_ready, what="make demo", seconds=1200)
        first_part, ready = demo.when(_FIRST_PART), demo.when(_READY)
        assert first_part is not None
        assert ready is not None
        report.say("make demo is ready")
        up, _ = _type(clone, env, "up", "my-box", "--gpu", "RTX 4090", "--max-price", "0.60")
        login, said = _type(clone, env, "ssh", "my-box", "--", "nvidia-smi", "-L")
        total = time.monotonic() - began
        report.say(f"logged in: {said.strip()}")
        again, _ = _type(clone, env, "ssh", "my-box", "--", "true")
        destroy, _ = _type(clone, env, "destroy", "my-box", "--yes")
    report.add(
        Section(
            title="Seconds until",
            columns=["phase", "seconds"],
            rows=[
                ["git clone", cloned - began],
                ["make demo: packages, dashboard, first part works", first_part - cloned],
                ["make demo: everything works", ready - first_part],
                ["dumont up: rented, booted, usable", up],
                ["dumont ssh: first command answered", login],
                ["sum", total],
                ["(a second ssh)", again],
                ["(dumont destroy)", destroy],
            ],
        )
    )
    report.add(
        Section(
            title="Beside it",
            columns=["who", "steps until a first machine", "source"],
            rows=[
                ["dstack", "2 commands to a server, then a provider account and its key", "its docs"],
                ["SkyPilot", "1 command to an API server, then a provider account and its key",
                 "its docs"],
            ],
            note="they have no cloud in a box: a first machine costs an account and money, so there "
            "is no time to put beside ours",
        )
    )  # fmt: skip
    report.targets.append(
        Target(name="clone to first SSH login", measured=total, target=180, unit="s", better="less")
    )
    report.finish()


if __name__ == "__main__":
    main()
