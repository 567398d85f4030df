"""What one invocation of the command line shares between its commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from dumont.cli.client import Api


@dataclass
class Session:
    """The options given before the command, and the server it talks to."""

    server: str | None = None
    """Address given with `--server`; None for the environment's or the default one."""
    json: bool = False
    """The command was asked for JSON: errors come as JSON too."""

    def api(self) -> Api:
        """A client of the chosen server.

        Raises:
            Unauthenticated: Nobody is logged in there.
            InvalidInput: The address or the credentials file is malformed.
        """
        from dumont.cli.client import Api
        from dumont.cli.credentials import resolve

        return Api(server=resolve(url=self.server))


def session_of(ctx: typer.Context) -> Session:
    """The session of a running command."""
    root = ctx.find_root()
    if not isinstance(root.obj, Session):
        root.obj = Session()
    return root.obj


def _remember_json(ctx: typer.Context, value: bool) -> bool:
    if value:
        session_of(ctx).json = True
    return value


JSON = typer.Option("--json", help="Print JSON.", callback=_remember_json)
"""The `--json` option, the same on every command that prints something."""
