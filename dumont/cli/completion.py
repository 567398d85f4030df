"""What the shell offers behind Tab. It must answer fast and must never fail."""

from __future__ import annotations

import typer

from dumont.domain.errors import DumontError
from dumont.domain.gpus import KNOWN_GPUS

PATIENCE_S = 1.0
"""A shell that hangs on Tab is worse than one that offers nothing."""


def machine_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of live machines: the server's, or those known here when it does not answer."""
    import httpx

    from dumont.cli.credentials import chosen_url
    from dumont.cli.session import Session
    from dumont.cli.ssh_hosts import load_hosts

    url = ctx.find_root().params.get("server")
    try:
        api = Session(server=url).api()
        patience = httpx.Timeout(PATIENCE_S)
        names = [m.name for m in api.machines(limit=200, timeout=patience) if not m.phase.final]
    except DumontError:
        try:
            here = chosen_url(url=url)
        except DumontError:
            return []
        names = [host.name for host in load_hosts().hosts if host.server == here]
    return sorted(name for name in names if name.startswith(incomplete))


def gpu_names(incomplete: str) -> list[str]:
    """GPU models, however the start is typed: `4090` and `rtx 4` find `RTX 4090`."""
    typed = incomplete.lower()
    return [name for name in KNOWN_GPUS if typed in name.lower()]
