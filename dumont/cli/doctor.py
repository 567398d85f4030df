"""`dumont doctor`: every dependency, key and quota, and what to do about what is wrong.

It decides what to look at and prints what was found; the looking is in `dumont.cli.checks`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.checks.finding import Finding, run_all
from dumont.cli.exit_codes import ExitCode
from dumont.cli.session import JSON, session_of

if TYPE_CHECKING:
    from dumont.config import Settings

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red"), "skip": ("-", "dim")}


def doctor(
    ctx: typer.Context,
    state: Annotated[
        Path | None,
        typer.Option(help="State directory of an embedded stack to look into.", metavar="DIR"),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Check every dependency, key and quota, and say what to do. Costs and changes nothing."""
    from dumont.cli.output import print_json

    findings = asyncio.run(_examine(url=session_of(ctx).server, state=state))
    if as_json:
        print_json(findings)
    else:
        _print(findings)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(ExitCode.FAILURE)


async def _examine(*, url: str | None, state: Path | None) -> list[Finding]:
    from dumont.cli.checks import local, server
    from dumont.cli.credentials import chosen_url
    from dumont.cli.embedded.stacks import running_state

    embedded = state or running_state()
    checks = [
        *local.checks(state=embedded or Path(".dumont")),
        *server.checks(url=chosen_url(url=url)),
    ]
    told, settings = _server_settings(embedded)
    if settings is not None:
        from dumont.cli.checks import parts

        checks += parts.checks(settings)
    return [*await run_all(checks), *([] if told is None else [told])]


def _server_settings(embedded: Path | None) -> tuple[Finding | None, Settings | None]:
    """The server's configuration, where it is at hand: a stack that runs here, or `.env`.

    Returns:
        A finding when there is something to say about it, and the settings when they are usable.
    """
    from pydantic import ValidationError

    from dumont.cli.embedded.environment import (
        describe,
        read_server_settings,
        variable_names,
    )
    from dumont.config import Settings

    group = "Server's parts"
    try:
        if embedded is not None:
            return None, read_server_settings(embedded)
        settings = Settings()
    except FileNotFoundError:
        detail = f"no configuration in {embedded}: nothing was started there"
        return Finding(group=group, name="configuration", status="fail", detail=detail), None
    except ValidationError as error:
        return (
            Finding(
                group=group,
                name="configuration",
                status="fail",
                detail=describe(error),
                hint=".env.example explains every variable",
            ),
            None,
        )
    server_side = {"database_url", "temporal_address", "s3_url", "vast_api_key", "gcp_credentials"}
    if server_side & settings.model_fields_set:
        return None, settings
    return (
        Finding(
            group=group,
            name="configuration",
            status="skip",
            detail="not at hand: no stack runs from here, and neither .env nor the environment "
            f"has any of {', '.join(sorted(variable_names()[name][0] for name in server_side))}",
        ),
        None,
    )


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    from dumont.cli.output import stdout_console

    console = stdout_console()
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            console.print(Text(group, style="bold"))
        mark, style = _MARKS[finding.status]
        console.print(Text.assemble("  ", (mark, style), f" {finding.name:<14} {finding.detail}"))
        if finding.hint and finding.status in ("warn", "fail"):
            console.print(Text(f"      → {finding.hint}", style=style))
    bad = [finding.name for finding in findings if finding.status == "fail"]
    console.print()
    console.print(
        Text(f"{len(bad)} to repair: {', '.join(bad)}", style="red")
        if bad
        else Text("Everything that was looked at is in order.", style="green")
    )
