"""`dumont leftovers`: what costs money although no machine runs on it."""

from __future__ import annotations

from typing import Annotated

import typer

from dumont.cli.output import notice, print_json, stdout_console
from dumont.cli.session import JSON, session_of


def leftovers(ctx: typer.Context, json: Annotated[bool, JSON] = False) -> None:
    """List what is left and may cost money: stopped instances, disks, addresses, schedules, files."""
    from dumont.cli.leftover_views import freshness, leftover_table, total

    found = session_of(ctx).api().leftovers()
    if json:
        print_json(found)
        return
    if found.items:
        stdout_console().print(leftover_table(found.items))
        notice(total(found))
    elif found.surveys:
        notice("Nothing is left.")
    notice(freshness(found))
