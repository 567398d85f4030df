"""Each service of the compose file starts by its own command, outside containers."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import shutil
import tempfile
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import psycopg
import pytest

from tests.support import compose
from tests.support.compose_host import Host, wait_until

pytestmark = pytest.mark.timeout(600)


WORKERS = ("worker-control", "worker-provider-vast", "worker-provider-gcp")
PASSWORD = "a password for this test"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    directory = Path(tempfile.mkdtemp(prefix="dmt-compose-"))
    host = Host(model=compose.load(), directory=directory)
    try:
        host.start_temporal()
        host.start_postgres()
        yield host
    finally:
        host.close()
        shutil.rmtree(directory, ignore_errors=True)


def _database(host: Host, *, user: str, database: str) -> str:
    password = compose.REQUIRED[f"{user.upper()}_DB_PASSWORD"]
    return f"postgresql://{user}:{password}@{host.addresses['postgres:5432']}/{database}"


@pytest.mark.parametrize(
    ("user", "database"),
    [("temporal", "temporal"), ("temporal", "temporal_visibility"), ("dumont", "dumont")],
)
def test_each_role_owns_its_database_and_enters_no_other(
    host: Host, user: str, database: str
) -> None:
    with psycopg.connect(_database(host, user=user, database=database)) as connection:
        connection.execute("CREATE TABLE mine (n int)")
        connection.execute("DROP TABLE mine")
    other = "temporal" if user == "dumont" else "dumont"
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(_database(host, user=user, database=other))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(_database(host, user=user, database=database).replace("-role", "-wrong"))


def test_the_namespace_job_makes_the_namespace_once(host: Host) -> None:
    job = host.services["temporal-namespace"]["environment"]
    job["TEMPORAL_NAMESPACE"] = "fresh"
    assert "successfully registered" in host.run_script("temporal-namespace")
    assert host.run_script("temporal-namespace") == "namespace fresh exists\n"


def test_the_store_takes_our_key_and_nobody_else(host: Host) -> None:
    host.start_s3()
    url = f"http://{host.addresses['s3:8333']}/dumont"
    key = (compose.REQUIRED["AWS_ACCESS_KEY_ID"], compose.REQUIRED["AWS_SECRET_ACCESS_KEY"])
    assert httpx.put(url).status_code == 403
    assert _s3("PUT", url, key=(key[0], "wrong")).status_code == 403
    assert _s3("PUT", url, key=key).status_code == 200
    assert _s3("PUT", f"{url}/a", key=key, content=b"hello").status_code == 200
    assert httpx.get(f"{url}/a").status_code == 403
    assert _s3("GET", f"{url}/a", key=key).content == b"hello"


def test_our_services_start_rent_and_stop(host: Host) -> None:
    """Everything by its own command: migration, workers, API; one machine lives and dies on them."""
    host.build_image()
    host.run_script("temporal-namespace")
    host.start("migrate")
    assert host.finish("migrate") == 0, host.log("migrate")
    cloud = host.start_cloud()
    key = {"VAST_URL": cloud["vast_url"], "VAST_API_KEY": cloud["vast_api_key"]}
    host.start("worker-control")
    host.start("worker-provider-vast", key)
    project = {
        "GCP_CREDENTIALS": Path(cloud["gcp_credentials"]).read_text(),
        "GCP_URL": cloud["gcp_url"],
    }
    host.start("worker-provider-gcp", project)
    host.start("api", {"DUMONT_OWNER_PASSWORD": PASSWORD})
    for name in (*WORKERS, "api"):
        wait_until(functools.partial(host.is_healthy, name), what=f"{name} is healthy")

    with httpx.Client(base_url=f"http://{host.addresses['127.0.0.1:8766']}/api/v1") as http:
        http.headers["Authorization"] = f"Bearer {_log_in(http)}"
        public = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        wanted: dict[str, Any] = {
            "name": "my-box",
            "requirement": {"gpu": "RTX 4090", "max_usd_per_hour": 2.0},
            "ssh_keys": [public],
        }
        assert http.post("/machines", json=wanted).status_code == 201
        _wait_for_phase(http, "running")
        assert http.delete("/machines/my-box").status_code == 202
        _wait_for_phase(http, "destroyed")

    for name in ("api", *WORKERS):
        assert host.stop(name) == 0, host.log(name)


def _log_in(http: httpx.Client) -> str:
    login = {"email": compose.REQUIRED["DUMONT_OWNER_EMAIL"], "password": PASSWORD}
    answer = http.post("/auth/login", json=login)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def _wait_for_phase(http: httpx.Client, phase: str) -> None:
    seen: list[str] = []

    def there() -> bool:
        machine = http.get("/machines/my-box").raise_for_status().json()
        if f"{machine['phase']}: {machine['reason']}" not in seen:
            seen.append(f"{machine['phase']}: {machine['reason']}")
        return bool(machine["phase"] == phase)

    wait_until(there, what=f"the machine is {phase}", seconds=180, seen=seen)


def _s3(method: str, url: str, *, key: tuple[str, str], content: bytes = b"") -> httpx.Response:
    """One request with S3's first signature, which fits on a line."""
    date = formatdate(usegmt=True)
    text = f"{method}\n\n\n{date}\n{httpx.URL(url).path}"
    mac = hmac.digest(key[1].encode(), text.encode(), hashlib.sha1)
    authorization = f"AWS {key[0]}:{base64.b64encode(mac).decode()}"
    headers = {"Date": date, "Authorization": authorization}
    return httpx.request(method, url, headers=headers, content=content or None)
