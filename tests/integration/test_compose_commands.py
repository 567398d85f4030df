"""Each service of the compose file starts by its own command, outside containers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import tempfile
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.support import compose
from tests.support.compose_host import Host

pytestmark = pytest.mark.timeout(600)


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


def _s3(method: str, url: str, *, key: tuple[str, str], content: bytes = b"") -> httpx.Response:
    """One request with S3's first signature, which fits on a line."""
    date = formatdate(usegmt=True)
    text = f"{method}\n\n\n{date}\n{httpx.URL(url).path}"
    mac = hmac.digest(key[1].encode(), text.encode(), hashlib.sha1)
    authorization = f"AWS {key[0]}:{base64.b64encode(mac).decode()}"
    headers = {"Date": date, "Authorization": authorization}
    return httpx.request(method, url, headers=headers, content=content or None)
