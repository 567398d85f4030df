"""`dumont ssh` and `ssh-config`, and keeping OpenSSH's view of the machines fresh."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.completion import machine_names
from dumont.cli.output import notice, say
from dumont.cli.session import session_of
from dumont.domain.errors import Conflict, DependencyUnavailable, DumontError, PreconditionFailed

if TYPE_CHECKING:
    from dumont.cli.client import Api
    from dumont.cli.session import Session
    from dumont.cli.ssh_hosts import Host
    from dumont.domain.resources import MachineView


def ssh(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Its name or id.", autocompletion=machine_names),
    ],
    command: Annotated[
        list[str] | None, typer.Argument(help="Run this there instead of a shell, behind `--`.")
    ] = None,
    tty: Annotated[
        bool, typer.Option("--tty", "-t", help="A terminal for the command, as `ssh -t`.")
    ] = False,
) -> None:
    """Log in to a machine, or run a command there: `dumont ssh my-box -- nvidia-smi`.

    The exit code is the command's own, 255 when the connection failed. Plain `ssh dumont-NAME`
    does the same and takes every option of OpenSSH.
    """
    from dumont.cli.ssh_hosts import ssh_options

    if shutil.which("ssh") is None:
        raise PreconditionFailed(
            "the OpenSSH client is not installed", hint="Debian: `apt install openssh-client`"
        )
    host = _reachable(session_of(ctx), name)
    options = [f"-o{key}={value}" for key, value in ssh_options(host=host).items()]
    arguments = ["ssh", *options, *(["-t"] if tty else []), "--", host.alias, *(command or [])]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp("ssh", arguments)  # noqa: S606


def ssh_config(
    ctx: typer.Context,
    install: Annotated[
        bool, typer.Option("--install", help="Include it in ~/.ssh/config: one line at its top.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take that line out, and never add it again.")
    ] = False,
) -> None:
    """Print the SSH configuration of your machines, or connect it with your own."""
    from dumont.cli.ssh_hosts import load_hosts, render_ssh_config
    from dumont.cli.ssh_include import set_include
    from dumont.cli.ssh_keys import user_ssh_dir
    from dumont.domain.errors import InvalidInput

    config = user_ssh_dir() / "config"
    if install and remove:
        raise InvalidInput("--install and --remove exclude each other", field="--install")
    if install or remove:
        changed = set_include(wanted=install)
        state = "includes" if install else "does not include"
        say(f"{config} {'now' if changed else 'already'} {state} the machines' configuration.")
        return
    api = session_of(ctx).api()
    link_all(api, list(api.machines()), touch=False)
    sys.stdout.write(render_ssh_config(hosts=load_hosts().hosts))


def link(
    api: Api, machine: MachineView, *, identity: Path | None = None, touch: bool = True
) -> bool:
    """Let OpenSSH know a machine's address and key; trouble there is told, not raised.

    Args:
        api: The server it belongs to.
        machine: As the API shows it.
        identity: The private key it was made with.
        touch: Also see that the user's own configuration includes ours, if the user allows.

    Returns:
        Whether plain `ssh dumont-NAME` works now.
    """
    from dumont.cli.ssh_hosts import remember

    try:
        host = remember(server=api.url, machine=machine, identity=identity)
        return _include(touch) and host is not None
    except DumontError as error:
        _tell(error)
        return False


def link_all(api: Api, machines: Iterable[MachineView], *, touch: bool = False) -> None:
    """The same for all of a server's machines, and forget those it has no more."""
    from dumont.cli.ssh_hosts import remember_all

    try:
        remember_all(server=api.url, machines=machines)
        _include(touch)
    except DumontError as error:
        _tell(error)


def _include(touch: bool) -> bool:
    """Whether the user's configuration includes ours; adds it when that is wanted and allowed."""
    from dumont.cli.ssh_include import ensure_include, include_allowed, is_included
    from dumont.cli.ssh_keys import user_ssh_dir

    if touch and include_allowed() and ensure_include():
        notice(
            f"Added one Include line to {user_ssh_dir() / 'config'}, so that plain ssh knows your "
            "machines. `dumont ssh-config --remove` takes it out again."
        )
    return is_included()


def _tell(error: DumontError) -> None:
    notice(f"Your SSH configuration was not updated: {error.message}. {error.hint or ''}".strip())


def _reachable(session: Session, name: str) -> Host:
    """The machine as OpenSSH needs it: fresh from the server, or as last seen when it is away."""
    from dumont.cli.ssh_hosts import load_hosts, remember

    api = session.api()
    try:
        machine = api.machine(ref=name)
    except DependencyUnavailable as error:
        host = load_hosts().find(server=api.url, ref=name)
        if host is None:
            raise
        notice(f"{error.message}; trying {name}'s last known address.")
        return host
    host = None if machine.phase.final else remember(server=api.url, machine=machine)
    if host is None or machine.ssh is None:
        raise Conflict(
            f"{name} cannot be reached now: it is {machine.phase.value}"
            + (f" ({machine.reason})" if machine.reason else ""),
            hint=f"`dumont show {name}` tells how far it is",
        )
    _include(touch=True)
    return host
