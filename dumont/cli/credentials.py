"""The servers a user is logged in to, and how: `credentials.json`, readable by its owner alone.

Several servers, one default. The environment wins over the file, so that scripts need none:
`DUMONT_API_URL` picks the server, `DUMONT_API_KEY` is the key to use there, `DUMONT_CREDENTIALS`
names another file (everything else the command line keeps then lives beside it).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dumont.cli.files import locked, make_private_dir, replace_file
from dumont.domain.errors import InvalidInput, Unauthenticated

DEFAULT_URL = "http://127.0.0.1:8766"
"""Where the embedded stack serves its API."""


class TokenPair(BaseModel):
    """What a password login gave: a short-lived access token and the token that renews it."""

    model_config = ConfigDict(frozen=True)

    access_token: str
    refresh_token: str
    expires_at: datetime

    @classmethod
    def granted(cls, *, access_token: str, refresh_token: str, expires_in: int) -> TokenPair:
        """The pair as it is kept: with the moment of expiry instead of a span in seconds."""
        return cls(
            access_token=access_token,
            refresh_token=refresh_token,
            expires_at=datetime.now(UTC) + timedelta(seconds=expires_in),
        )


class Server(BaseModel):
    """One server and one way to authenticate there; neither is a server without a login."""

    model_config = ConfigDict(frozen=True)

    url: str
    email: str | None = None
    """Who logged in, for people to read."""
    api_key: str | None = None
    tokens: TokenPair | None = None
    stored: bool = Field(default=True, exclude=True)
    """False when it came from the environment: its tokens are nobody's to write back."""


class Credentials(BaseModel):
    """The whole file."""

    version: int = 1
    default: str | None = None
    servers: dict[str, Server] = Field(default_factory=dict)


def normal_url(*, url: str) -> str:
    """The server's address without a trailing slash or `/api/v1`.

    Raises:
        InvalidInput: Not an http or https address.
    """
    text = url.strip().rstrip("/").removesuffix("/api/v1").rstrip("/")
    parts = urlsplit(text)
    try:
        valid = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if parts.scheme not in ("http", "https") or not valid or parts.query or parts.fragment:
        raise InvalidInput(
            f"{url!r} is not a server address; it looks like https://dumont.example.com",
            field="server",
        )
    if parts.username or parts.password:
        raise InvalidInput(
            "a server address carries no user or password; `dumont login` asks for them",
            field="server",
        )
    return text


def credentials_path() -> Path:
    """Where the logins are kept: `DUMONT_CREDENTIALS`, or the user's configuration directory."""
    override = os.environ.get("DUMONT_CREDENTIALS")
    if override:
        return Path(override).expanduser()
    from platformdirs import user_config_path

    return user_config_path("dumont") / "credentials.json"


def config_dir() -> Path:
    """Where the command line keeps all its files."""
    return credentials_path().parent


def load() -> Credentials:
    """All logins; an absent file is none.

    Raises:
        InvalidInput: The file is damaged or unreadable; says which and what to do.
    """
    path = credentials_path()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Credentials()
    except OSError as error:
        raise InvalidInput(
            f"cannot read {path}: {error.strerror}", field="DUMONT_CREDENTIALS"
        ) from None
    try:
        return Credentials.model_validate_json(content)
    except ValidationError:
        raise InvalidInput(
            f"{path} is damaged",
            field="DUMONT_CREDENTIALS",
            hint="move it away and run `dumont login` again",
        ) from None


def change(*, edit: Callable[[Credentials], None]) -> Credentials:
    """Read, edit and write the file while no other process does; returns what was written.

    Raises:
        InvalidInput: The file is damaged, or cannot be written.
    """
    path = credentials_path()
    try:
        with locked(path=path):
            credentials = load()
            edit(credentials)
            make_private_dir(path=path.parent)
            content = credentials.model_dump_json(indent=2, exclude_none=True)
            replace_file(path=path, content=content.encode() + b"\n")
            return credentials
    except OSError as error:
        raise InvalidInput(
            f"cannot write {path}: {error.strerror}",
            field="DUMONT_CREDENTIALS",
            hint="free some disk space, or point DUMONT_CREDENTIALS at a file you may write",
        ) from None


def save_server(*, server: Server, make_default: bool = True) -> None:
    """Remember how to log in to one server.

    Args:
        server: The login; it replaces an older one of the same address.
        make_default: Also use it when no server is named. The first server is always the default.

    Raises:
        InvalidInput: The file is damaged, or cannot be written.
    """
    url = normal_url(url=server.url)

    def edit(credentials: Credentials) -> None:
        credentials.servers[url] = server.model_copy(update={"url": url})
        if make_default or credentials.default not in credentials.servers:
            credentials.default = url

    change(edit=edit)


def use_server(*, url: str) -> None:
    """Make a server with a login the default one.

    Raises:
        InvalidInput: There is no login for it.
    """
    wanted = normal_url(url=url)

    def edit(credentials: Credentials) -> None:
        if wanted not in credentials.servers:
            raise InvalidInput(
                f"there is no login for {wanted}",
                field="server",
                hint=f"run `dumont login --server {wanted}`",
            )
        credentials.default = wanted

    change(edit=edit)


def forget_server(*, url: str) -> bool:
    """Drop a login; the next one, if any, becomes the default. False when there was none."""
    wanted = normal_url(url=url)
    known = wanted in load().servers

    def edit(credentials: Credentials) -> None:
        credentials.servers.pop(wanted, None)
        if credentials.default == wanted:
            credentials.default = next(iter(credentials.servers), None)

    if known:
        change(edit=edit)
    return known


def chosen_url(*, url: str | None = None) -> str:
    """The address commands talk to: the one named, `DUMONT_API_URL`, the default, or local.

    Raises:
        InvalidInput: It is not an address, or the file is damaged.
    """
    named = url or os.environ.get("DUMONT_API_URL")
    return normal_url(url=named) if named else load().default or DEFAULT_URL


def resolve(*, url: str | None = None) -> Server:
    """The server and login a command uses.

    Args:
        url: A server named on the command line.

    Raises:
        InvalidInput: The address or the file is malformed.
        Unauthenticated: Nobody is logged in there; says how to.
    """
    wanted = chosen_url(url=url)
    key = os.environ.get("DUMONT_API_KEY")
    if key:
        return Server(url=wanted, api_key=key.strip(), stored=False)
    server = load().servers.get(wanted)
    if server is None or not (server.api_key or server.tokens):
        flag = "" if wanted == DEFAULT_URL else f" --server {wanted}"
        raise Unauthenticated(
            f"you are not logged in to {wanted}",
            hint=f"run `dumont login{flag}`, or set DUMONT_API_KEY; "
            "`dumont demo` starts a local stack and logs you in",
        )
    return server
