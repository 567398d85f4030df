"""`dumont login`, `logout`, `whoami` and `servers`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dumont.cli.output import notice, print_json, say, show
from dumont.cli.session import JSON, session_of

DEFAULT_EMAIL = "owner@dumont.local"
"""Who the first start of a server creates, unless told otherwise."""


def login(
    ctx: typer.Context,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help="The server; the default one otherwise."),
    ] = None,
    email: Annotated[str | None, typer.Option("--email", help="Your e-mail address.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    api_key_stdin: Annotated[
        bool, typer.Option("--api-key-stdin", help="Read an API key from standard input instead.")
    ] = False,
) -> None:
    """Log in to a server and make it the default one."""
    from dumont.cli.client import Api
    from dumont.cli.credentials import Server, chosen_url, save_server
    from dumont.cli.http import is_loopback, log_in
    from dumont.domain.errors import Forbidden, InvalidInput

    if password_stdin and api_key_stdin:
        raise InvalidInput("a password and an API key exclude each other", field="--api-key-stdin")
    url = chosen_url(url=server or session_of(ctx).server)
    if url.startswith("http://") and not is_loopback(url=url):
        notice(f"Careful: {url} is not encrypted; anyone on the way can read what you send.")
    if api_key_stdin:
        entry = Server(url=url, api_key=_from_stdin("--api-key-stdin"))
    else:
        email = email or typer.prompt("E-mail", default=DEFAULT_EMAIL, err=True)
        password = (
            _from_stdin("--password-stdin")
            if password_stdin
            else typer.prompt("Password", hide_input=True, err=True)
        )
        entry = Server(url=url, tokens=log_in(url=url, email=email, password=password))
    try:
        entry = entry.model_copy(update={"email": Api(server=entry).me().email})
    except Forbidden:
        # A valid API key without the right to ask whose it is.
        notice("This API key does not let us see whose it is.")
    save_server(server=entry)
    say(f"Logged in to {url}" + (f" as {entry.email}." if entry.email else "."))


def logout(
    ctx: typer.Context,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help="The server; the default one otherwise."),
    ] = None,
) -> None:
    """End a login: revoke it at the server and forget it here."""
    from dumont.cli.client import Api
    from dumont.cli.credentials import chosen_url, forget_server, load
    from dumont.domain.errors import DumontError

    url = chosen_url(url=server or session_of(ctx).server)
    entry = load().servers.get(url)
    if entry is not None and entry.tokens is not None:
        try:
            Api(server=entry).log_out(refresh_token=entry.tokens.refresh_token)
        except DumontError as error:
            notice(f"The login could not be revoked at the server ({error.message}).")
    if forget_server(url=url):
        say(f"Logged out of {url}.")
        if entry is not None and entry.api_key:
            notice("The API key itself stays valid; `dumont keys api rm` revokes one.")
    else:
        notice(f"You were not logged in to {url}.")


def whoami(ctx: typer.Context, json: Annotated[bool, JSON] = False) -> None:
    """Say who you are to which server."""
    api = session_of(ctx).api()
    me = api.me()
    if json:
        print_json({"server": api.url, **me.model_dump(mode="json")})
    else:
        say(f"{me.email} at {api.url}" + (" (administrator)" if me.is_admin else ""))


def servers(
    ctx: typer.Context,
    use: Annotated[
        str | None, typer.Option("--use", metavar="URL", help="Make this one the default.")
    ] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """List the servers you are logged in to."""
    from dumont.cli.credentials import load, use_server
    from dumont.cli.tables import how, server_table

    if use is not None:
        use_server(url=use)
    known = load()
    if json:
        items = [
            {"url": url, "email": entry.email, "login": how(entry), "default": url == known.default}
            for url, entry in known.servers.items()
        ]
        print_json({"items": items})
    elif known.servers:
        show(what=server_table(credentials=known))
    else:
        notice("You are not logged in anywhere. `dumont login` logs in.")


def _from_stdin(option: str) -> str:
    from dumont.domain.errors import InvalidInput

    secret = sys.stdin.readline().strip("\r\n")
    if not secret:
        raise InvalidInput("standard input is empty", field=option)
    return secret
