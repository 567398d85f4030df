"""A store by its address: `s3://bucket/prefix?endpoint=https://...` or `file:///folder`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from dumont.storage.credentials import CredentialsFile
from dumont.storage.directory import DirectoryStore
from dumont.storage.errors import StoreError
from dumont.storage.s3 import Credentials, S3Store
from dumont.storage.store import Store

_KEY, _SECRET, _TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
_FILE = "DUMONT_SNAP_CREDENTIALS_FILE"
_ENDPOINT, _REGION, _CA = "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_CA_BUNDLE"
_OPTIONS = frozenset({"endpoint", "region", "style"})


def from_url(url: str, environment: Mapping[str, str]) -> Store:
    """The store that an address means.

    Args:
        url: `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&style=path|host`, or `file:///FOLDER`. What is not
            said is taken from the environment, as Amazon's own tools do.
        environment: Holds the credentials: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, where they are
            temporary, `AWS_SESSION_TOKEN`; or `DUMONT_SNAP_CREDENTIALS_FILE`, a file that may be replaced
            meanwhile.

    Raises:
        StoreError: It means none; says what to write instead.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return DirectoryStore(Path(unquote(parts.path)))
    if parts.scheme != "s3" or not parts.netloc:
        raise StoreError(
            f"not the address of a store: {url}", retryable=False,
            hint="s3://BUCKET/PREFIX?endpoint=https://HOST or file:///FOLDER",
        )  # fmt: skip
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise StoreError(
            f"{url}: no such option: {', '.join(unknown)}", retryable=False,
            hint=f"there are {', '.join(sorted(_OPTIONS))}",
        )  # fmt: skip
    region = options.get("region") or environment.get(_REGION) or "us-east-1"
    endpoint = options.get("endpoint") or environment.get(_ENDPOINT)
    return S3Store(
        endpoint=endpoint or f"https://s3.{region}.amazonaws.com",
        bucket=parts.netloc,
        prefix=unquote(parts.path).strip("/"),
        credentials=_credentials(environment),
        region=region,
        path_style=options.get("style", "path") != "host",
        ca_file=environment.get(_CA) or None,
    )


def _credentials(environment: Mapping[str, str]) -> Credentials | CredentialsFile:
    path = environment.get(_FILE)
    if path:
        return CredentialsFile(Path(path))
    missing = [name for name in (_KEY, _SECRET) if not environment.get(name)]
    if missing:
        raise StoreError(
            "no credentials for the store", retryable=False,
            hint=f"set {' and '.join(missing)}, or {_FILE}",
        )  # fmt: skip
    return Credentials(environment[_KEY], environment[_SECRET], environment.get(_TOKEN) or None)
