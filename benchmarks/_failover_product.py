"""The GPU dies in the whole product, as a user runs it: `dumont demo`, `dumont up`, and a kill.

Measured until a GPU is rented, has every file back, verified, and the address again; beside it a bare
parallel copy of the same bytes between the same two computers, in the same run.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks._failover_probes import Probes
from benchmarks._failover_report import spread
from benchmarks._servers import wait_until

BOX = "bench"
STREAMS = 10
"""Of the bare copy."""
_LIMIT_S = 300.0
_DUMONT = Path(sys.executable).with_name("dumont")

Figures = dict[str, Any]


class Product:
    """A demo stack of its own, and the person in front of it."""

    def __init__(self, *, folder: Path, boot_seconds: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TERM", "USER")}
        self._env = {
            **kept,
            "HOME": str(self.home),
            "DUMONT_CREDENTIALS": str(self.home / "dumont/credentials.json"),
            "COLUMNS": "200",
        }
        with (folder / "demo.log").open("wb") as log:
            self._demo = subprocess.Popen(
                [_DUMONT, "demo", "--state", folder / "s", "--boot-seconds", boot_seconds],
                env=self._env, cwd=self.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Until it works. Raises RuntimeError, TimeoutError."""
        log = self.folder / "demo.log"

        def ready() -> bool:
            if self._demo.poll() is not None:
                raise RuntimeError(f"dumont demo ended:\n{log.read_text()[-3000:]}")
            return "dumont ssh" in log.read_text() and self._type("whoami")[0] == 0

        wait_until(ready, what="dumont demo", seconds=180, every=0.5)
        status = json.loads(self.type("stack", "status", "--state", str(self.folder / "s")))
        self._control = next(url for name, url in status["urls"].items() if "control" in name)

    def stop(self) -> None:
        """Press Ctrl-C and wait."""
        if self._demo.poll() is None:
            self._demo.send_signal(signal.SIGINT)
            try:
                self._demo.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self._demo.pid, signal.SIGKILL)
                self._demo.wait()

    def type(self, *words: str, seconds: float = 180) -> str:
        """Type a command with --json; returns what it printed. Raises RuntimeError."""
        code, out, err = self._type(*words, "--json", seconds=seconds)
        if code != 0:
            raise RuntimeError(f"dumont {' '.join(words)}: {code}: {out[-500:]}{err[-1000:]}")
        return out

    def show(self) -> dict[str, Any]:
        """The machine."""
        shown: dict[str, Any] = json.loads(self.type("show", BOX))
        return shown

    def receipts(self) -> list[dict[str, Any]]:
        """Its receipts, newest first."""
        return [each["receipt"] for each in json.loads(self.type("receipts", BOX))["items"]]

    def login(self, command: str) -> list[str]:
        """The command line of a login through the stable address."""
        config = str(self.home / ".ssh/config")
        words = ["-oBatchMode=yes", "-oConnectTimeout=2", "-oLogLevel=ERROR", f"dumont-{BOX}"]
        return ["env", f"HOME={self.home}", "ssh", "-F", config, *words, command]

    def key(self) -> Path:
        """The private key that the command line uses."""
        done = subprocess.run(
            ["ssh", "-F", str(self.home / ".ssh/config"), "-G", f"dumont-{BOX}"],
            capture_output=True, text=True, check=True, env=self._env,
        )  # fmt: skip
        line = next(x for x in done.stdout.splitlines() if x.startswith("identityfile "))
        return Path(line.partition(" ")[2].replace("~", str(self.home), 1))

    def kill(self, instance: str) -> None:
        """SIGKILL an instance's whole process group."""
        url = f"{self._control.rstrip('/')}/vast/instances/{instance}/kill"
        httpx.post(url, json={}, timeout=30, trust_env=False).raise_for_status()

    def disk(self, instance: str) -> Path:
        """An instance's directory on this computer."""
        return self.folder / "s/simcloud/state/machines" / f"vast-{instance}"

    def wait_protected(self) -> dict[str, Any]:
        """Until the machine runs and is protected; returns it."""
        shown: dict[str, Any] = {}

        def protected() -> bool:
            nonlocal shown
            shown = self.show()
            state = (shown["phase"], shown["protection"]["status"])
            return state == ("running", "protected")

        try:
            wait_until(protected, what="protection", seconds=_LIMIT_S, every=0.5)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {shown['phase']}, {shown['protection']}") from None
        return shown

    def _type(self, *words: str, seconds: float = 180) -> tuple[int, str, str]:
        try:
            done = subprocess.run(
                [_DUMONT, *words], env=self._env, cwd=self.home, input="", text=True,
                capture_output=True, timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return -1, "", f"took over {seconds:g} s"
        return done.returncode, done.stdout, done.stderr


@contextmanager
def _product(boot_seconds: str) -> Iterator[Product]:
    with ExitStack() as cleanup:
        folder = Path(tempfile.mkdtemp(prefix="dmt-fp-"))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        product = Product(folder=folder, boot_seconds=boot_seconds)
        cleanup.callback(product.stop)
        product.wait()
        yield product


def measure(
    *, count: int, megabytes: int, boot_seconds: str, say: Callable[[str], None]
) -> Figures:
    """Kill the GPU `count` times, each time after it has fully come back."""
    rounds: list[Figures] = []
    failed: list[str] = []
    with _product(boot_seconds) as product:
        say("the product is up")
        product.type(
            *("up", BOX, "--gpu", "RTX 4090", "--max-price", "0.80", "--failback", "at_once"),
            seconds=_LIMIT_S,
        )
        shown = product.wait_protected()
        _fill(product.disk(shown["instance"]["instance_id"]) / "workspace", megabytes)
        for number in range(count):
            try:
                rounds.append(_round(product))
                say(f"replacement {number + 1}: {rounds[-1]}")
            except (RuntimeError, TimeoutError, httpx.HTTPError) as error:
                failed.append(f"{number}: {error}")
                say(f"replacement {number + 1}: {error}")
                break
    keys = sorted({key for each in rounds for key in each})
    return {
        **{
            key: spread([each[key] for each in rounds if each.get(key) is not None]) for key in keys
        },
        "rounds": rounds,
        "failed": failed,
    }


def _round(product: Product) -> Figures:
    before = product.wait_protected()
    product.type("flush", BOX)
    former = before["instance"]["instance_id"]
    expected = _digests(product.disk(former) / "workspace")
    receipts = len(product.receipts())
    hostname = subprocess.run(
        product.login("hostname"), capture_output=True, text=True, timeout=60, check=False
    ).stdout.strip()
    if not hostname:
        raise RuntimeError("no login through the stable address before the kill")
    dead_at: list[float] = []
    endpoint = before["ssh"]
    probes = Probes(
        address=(endpoint["host"], endpoint["port"]), login=product.login("hostname"),
        is_new=lambda opened, _: bool(dead_at) and opened >= dead_at[0], former=hostname,
        seconds=30,
    )  # fmt: skip
    killed_at, killed = datetime.now(UTC), time.monotonic()
    probes.start()
    try:
        product.kill(former)
    finally:
        dead_at.append(time.monotonic())
        probes.wait()
    wait_until(
        lambda: len(product.receipts()) > receipts, what="the receipt", seconds=_LIMIT_S, every=1.0
    )
    found = {
        "redirect_s": probes.banner_at and probes.banner_at - killed,
        "access_s": probes.login_at and probes.login_at - killed,
        **_phases(product.receipts()[0], killed_at),
    }
    after = product.wait_protected()
    adopted = after["instance"]["instance_id"]
    found["lost_files"] = _missing(expected, _digests(product.disk(adopted) / "workspace"))
    reached = {rung["rung"]: rung["reached_at"] for rung in after["ladder"]}
    found["boot_s"] = _seconds(reached["rented"], reached["running"])
    found["bare_copy_s"] = _bare_copy(product, endpoint["host"], adopted)
    found["ours_s"] = found["back_s"] - found["boot_s"]
    found["ratio"] = found["ours_s"] / found["bare_copy_s"]
    found["restore_ratio"] = found["restore_s"] / found["bare_copy_s"]
    return {key: value if value is None else round(value, 3) for key, value in found.items()}


def _phases(receipt: dict[str, Any], killed: datetime) -> Figures:
    """Seconds of each phase; a phase that a receipt lacks is None."""
    at = {each["phase"]: each["at"] for each in receipt["timeline"]}
    steps = (
        ("reported_s", "redirected", "reported"), ("fence_s", "reported", "fenced"),
        ("provision_s", "fenced", "provisioned"), ("restore_s", "provisioned", "restored"),
        ("hand_back_s", "restored", "failed_back"),
    )  # fmt: skip
    found: Figures = {
        name: _seconds(at[first], at[then]) if first in at and then in at else None
        for name, first, then in steps
    }
    if receipt["outcome"] != "replaced" or "failed_back" not in at:
        raise RuntimeError(f"not replaced: {receipt['outcome']}, {receipt['timeline']}")
    found["back_s"] = (datetime.fromisoformat(at["failed_back"]) - killed).total_seconds()
    return found


def _seconds(first: str, then: str) -> float:
    return (datetime.fromisoformat(then) - datetime.fromisoformat(first)).total_seconds()


def _fill(workspace: Path, megabytes: int) -> None:
    """Three quarters in big files, a quarter in a thousand small ones."""
    noise = random.Random(3)
    folder = workspace / "data"
    folder.mkdir()
    for number in range(12):
        (folder / f"big{number}").write_bytes(noise.randbytes((megabytes << 20) // 16))
    for number in range(1000):
        place = folder / f"d{number % 30}"
        place.mkdir(exist_ok=True)
        (place / f"{number}").write_bytes(noise.randbytes((megabytes << 20) // 4000))


def _digests(workspace: Path) -> dict[str, str]:
    return {
        str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (workspace / "data").rglob("*")
        if path.is_file()
    }


def _missing(expected: dict[str, str], found: dict[str, str]) -> int:
    return sum(found.get(name) != digest for name, digest in expected.items())


def _bare_copy(product: Product, standby: str, instance: str) -> float:
    """The workspace from the standby's sshd to the new GPU's disk by parallel rsync; seconds."""
    target = product.disk(instance) / "home/bare"
    source = product.disk(instance) / "workspace"
    files = sorted(
        (p for p in source.rglob("*") if p.is_file() and ".dumont" not in p.parts),
        key=lambda path: -path.stat().st_size,
    )
    lots = [
        "\n".join(str(path.relative_to(source)) for path in files[number::STREAMS])
        for number in range(STREAMS)
    ]
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    rsh = f"ssh -F none -i {product.key()} -o LogLevel=ERROR {options}"

    def copy(lot: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["rsync", "-a", "--files-from=-", "-e", rsh, f"root@{standby}:/workspace/", f"{target}/"],
            input=lot, capture_output=True, text=True, timeout=_LIMIT_S, check=False,
        )  # fmt: skip

    target.mkdir()
    try:
        began = time.monotonic()
        with ThreadPoolExecutor(STREAMS) as pool:
            done = list(pool.map(copy, lots))
        seconds = time.monotonic() - began
    finally:
        shutil.rmtree(target, ignore_errors=True)
    wrong = next((each for each in done if each.returncode != 0), None)
    if wrong is not None:
        raise RuntimeError(f"the bare copy failed: {wrong.stderr[-500:]}")
    return seconds
