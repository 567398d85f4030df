"""SeaweedFS for tests: a real S3 server that checks signatures."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._servers import free_port
from dumont.storage.errors import StoreError
from dumont.storage.s3 import Credentials, S3Store
from dumont.storage.signature import sign

KEY = Credentials("test-key", "test-secret-of-some-length")


@contextlib.contextmanager
def seaweed(
    folder: Path,
    *,
    identities: list[dict[str, object]] | None = None,
    signing_key: bytes | None = None,
) -> Iterator[str]:
    """Run one; yields its endpoint. It has a bucket `snapshots`.

    With a signing key (32 bytes) it lends temporary credentials: a token service at the same address.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "name": "test",
        "credentials": [{"accessKey": KEY.access_key_id, "secretKey": KEY.secret_access_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [own, *(identities or [])]}))
    lends = []
    if signing_key is not None:
        lends = [f"-s3.iam.config={folder / 'iam.json'}"]
        (folder / "iam.json").write_text(json.dumps(_token_service(signing_key)))
    (folder / "data").mkdir(exist_ok=True)
    ports = {
        name: free_port()
        for name in (
            "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
            "filer.port.grpc", "s3.port", "s3.port.grpc",
        )
    }  # fmt: skip
    command = [
        str(Path(sys.executable).parent / "weed"), "-logtostderr=true", "server",
        f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        *(f"-{name}={port}" for name, port in ports.items()),
        "-filer", "-s3", f"-s3.config={config}", "-s3.iam=false", *lends, "-s3.port.iceberg=0",
        "-s3.port.lance=0", "-master.telemetry=false", "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=1024", "-volume.max=0", "-volume.index=leveldb",
        "-volume.preStopSeconds=0",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    try:
        _until_ready(endpoint, process, folder / "log")
        yield endpoint
    finally:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _token_service(signing_key: bytes) -> dict[str, object]:
    return {
        "sts": {
            "tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "tests",
            "signingKey": base64.b64encode(signing_key).decode(),
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
    }  # fmt: skip


def _until_ready(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            create_bucket(endpoint, "snapshots")
            store_at(endpoint, prefix="probe").put("probe", b"x")
        except (OSError, StoreError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text("utf-8", "replace")[-2000:]) from None
            time.sleep(0.2)
        else:
            return


def create_bucket(endpoint: str, name: str) -> None:
    """Make a bucket. Raises OSError while the server does not answer."""
    import urllib.request

    url = f"{endpoint}/{name}"
    headers = sign(
        method="PUT", url=url, access_key_id=KEY.access_key_id,
        secret_access_key=KEY.secret_access_key,
    )  # fmt: skip
    urllib.request.urlopen(
        urllib.request.Request(url, method="PUT", headers=headers), timeout=5
    ).close()


def store_at(endpoint: str, *, prefix: str, credentials: Credentials = KEY) -> S3Store:
    """A store in its bucket."""
    return S3Store(
        endpoint=endpoint, bucket="snapshots", prefix=prefix, credentials=credentials,
        pause=lambda seconds: time.sleep(min(seconds, 0.1)),
    )  # fmt: skip
