"""From an instance's resource to the machine that the process engine boots: who may log in, what
runs at start and at shutdown, where its metadata server is.
"""

from __future__ import annotations

import base64
import errno
import socket
from collections.abc import Iterable

from simcloud.gcp.records import Instance
from simcloud.machines import MachineSpec

_SSH = 22


def ssh_accounts(
    instance: Instance, project_metadata: Iterable[dict[str, str]]
) -> dict[str, list[str]]:
    """Return login name -> public keys, from `ssh-keys` of the instance and of the project.

    A line is `user:key`. Keys that carry a `google-ssh {"expireOn": ...}` note are taken as they
    are: gcloud writes them for minutes, the machine's life here.
    """
    sources = [instance.metadata_value("ssh-keys")]
    blocked = (instance.metadata_value("block-project-ssh-keys") or "").upper() == "TRUE"
    if not blocked:
        sources += [item["value"] for item in project_metadata if item["key"] == "ssh-keys"]
    accounts: dict[str, list[str]] = {}
    for line in "\n".join(source for source in sources if source).splitlines():
        user, colon, key = line.strip().partition(":")
        if colon and user and " " not in user and key.strip():
            accounts.setdefault(user, []).append(key.strip())
    return accounts


def login_user(accounts: dict[str, list[str]]) -> str:
    """Return the account that the engine sets up: the first that is not root, else root."""
    return next((user for user in accounts if user != "root"), "root")


def ssh_port(address: str) -> int:
    """Return 22 if it can be had on `address`, else some free port.

    It cannot without root on most systems, nor where this computer's own sshd listens on every
    address.
    """
    for port in (_SSH, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen()
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EADDRINUSE) or port == 0:
                    raise
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("binding to port 0 either succeeds or raises")


def machine_spec(
    instance: Instance,
    *,
    project_metadata: Iterable[dict[str, str]],
    metadata_url: str,
    disk_gb: int,
    ssh: bool = True,
    without_keys: bool = False,
    disk_mb: int | None = None,
) -> MachineSpec:
    """Return what to boot.

    Args:
        instance: With `address` and `ssh_port` already given.
        project_metadata: May carry more SSH keys.
        metadata_url: Base URL of the instance's own metadata server.
        disk_gb: Size of its boot disk.
        ssh: Whether an sshd is to run.
        without_keys: Whether to withhold the keys (a fault).
        disk_mb: Size of a workspace that can be full (a fault).
    """
    assert instance.address is not None
    assert instance.ssh_port is not None
    accounts = ssh_accounts(instance, project_metadata)
    user = login_user(accounts)
    return MachineSpec(
        name=instance.machine,
        hostname=(instance.hostname or instance.name).partition(".")[0],
        address=instance.address,
        ssh_port=instance.ssh_port,
        authorized_keys=() if without_keys else tuple(accounts.get(user, ())),
        onstart=_runner("startup-script", instance.metadata_value("startup-script")),
        on_shutdown=_runner("shutdown-script", instance.metadata_value("shutdown-script")),
        disk_gb=float(disk_gb),
        disk_mb=disk_mb,
        metadata_url=metadata_url,
        user=user,
        # Google's images keep root out; here a key for root is taken as the wish to let it in
        root_login=user == "root" or "root" in accounts,
        ssh=ssh,
    )


def _runner(kind: str, script: str | None) -> str | None:
    """Return a script that runs the user's as Google's guest environment does.

    Each line of output is marked on the console, and so is the exit status at the end: people and
    programs look for it with `getSerialPortOutput`. The marking outlives a shutdown signal, so that
    a script that means to survive it does not die of a broken pipe.
    """
    if not script:
        return None
    encoded = base64.b64encode(script.encode()).decode()
    return f"""#!/bin/bash
script=$(mktemp)
base64 -d >"$script" <<'END'
{encoded}
END
chmod 700 "$script"
[ "$(head -c 2 "$script")" = "#!" ] && run=("$script") || run=(bash "$script")
mark() {{
    trap "" TERM
    while IFS= read -r line || [ -n "$line" ]; do echo "{kind}: $line"; done
}}
"${{run[@]}}" > >(mark) 2>&1
code=$?
rm -f "$script"
# let the last lines through; a daemon left behind may hold the pipe for ever
for _ in {{1..20}}; do kill -0 $! 2>/dev/null || break; sleep 0.05; done
echo "{kind} exit status $code"
"""
