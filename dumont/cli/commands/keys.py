"""`dumont keys`: the SSH keys that open your machines, and the API keys that act as you."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, get_args

import typer

from dumont.cli.output import notice, print_json, say, show
from dumont.cli.session import JSON, session_of

app = typer.Typer(no_args_is_help=True, help="Manage SSH keys and API keys.")
ssh_app = typer.Typer(no_args_is_help=True, help="The public SSH keys that new machines let in.")
api_app = typer.Typer(no_args_is_help=True, help="API keys, for scripts and other computers.")
app.add_typer(ssh_app, name="ssh")
app.add_typer(api_app, name="api")


@ssh_app.command("ls")
def ssh_ls(ctx: typer.Context, json: Annotated[bool, JSON] = False) -> None:
    """List your SSH keys."""
    from dumont.cli.tables import ssh_key_table

    keys = session_of(ctx).api().ssh_keys()
    if json:
        print_json(keys)
    elif keys:
        show(what=ssh_key_table(keys=keys))
    else:
        notice(
            "No SSH keys yet; `dumont up` adds this computer's, `dumont keys ssh add` any other."
        )


@ssh_app.command("add")
def ssh_add(
    ctx: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(help="The .pub file; your usual key's otherwise.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call it.")] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Let a public key into the machines you rent from now on."""
    from dumont.cli.ssh_keys import ensure_key, key_name, read_public_key
    from dumont.domain.resources import SshKeyCreate

    public = read_public_key(path=path) if path else ensure_key().public_key
    comment = " ".join(public.split()[2:])
    title = (name or (comment if path else "") or key_name())[:80]
    key = session_of(ctx).api().add_ssh_key(key=SshKeyCreate(name=title, public_key=public))
    if json:
        print_json(key)
    else:
        say(f"Added {key.name} ({key.fingerprint}).")


@ssh_app.command("rm")
def ssh_rm(
    ctx: typer.Context, key_id: Annotated[str, typer.Argument(metavar="ID", help="Its id.")]
) -> None:
    """Forget a key; machines that have it already go on letting it in."""
    session_of(ctx).api().remove_ssh_key(key_id=key_id)
    say(f"Removed {key_id}.")


@api_app.command("ls")
def api_ls(ctx: typer.Context, json: Annotated[bool, JSON] = False) -> None:
    """List your API keys, without their secrets."""
    from dumont.cli.tables import api_key_table

    keys = session_of(ctx).api().api_keys()
    if json:
        print_json(keys)
    elif keys:
        show(what=api_key_table(keys=keys))
    else:
        notice("No API keys yet; `dumont keys api create NAME` makes one.")


@api_app.command("create")
def api_create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="What it may do; repeatable. Reading only otherwise."),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", min=1, help="It ends after so many days.")
    ] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Make an API key and print its secret, the only time it is shown."""
    from pydantic import ValidationError

    from dumont.domain.errors import InvalidInput
    from dumont.domain.resources import ApiKeyCreate, Scope

    ends = datetime.now(UTC) + timedelta(days=days) if days else None
    try:
        request = ApiKeyCreate.model_validate(
            {
                "name": name,
                "scopes": scope or ["machines:read", "offers:read"],
                "expires_at": ends,
            }
        )
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        field = "--scope" if first["loc"][0] == "scopes" else "NAME"
        raise InvalidInput(
            f"{first['input']!r} is not possible for {field}",
            field=field,
            hint="scopes are " + ", ".join(get_args(Scope))
            if field == "--scope"
            else "a name has 1-80 characters",
        ) from None
    key = session_of(ctx).api().create_api_key(key=request)
    if json:
        print_json(key)
        return
    say(key.secret)
    notice(f"Keep it now, it is not shown again. It may {' '.join(key.scopes)} (id {key.key_id}).")


@api_app.command("rm")
def api_rm(
    ctx: typer.Context, key_id: Annotated[str, typer.Argument(metavar="ID", help="Its id.")]
) -> None:
    """Revoke an API key at once."""
    session_of(ctx).api().revoke_api_key(key_id=key_id)
    say(f"Revoked {key_id}.")
