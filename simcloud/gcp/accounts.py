"""Logins inside a running machine, kept as Google's guest agent keeps them.

The engine sets up one account per machine. The others that `ssh-keys` names are made here from
outside, by entering the machine's namespaces; so no process of ours has to live inside. Without
namespaces there is one account only, and this does nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
from collections.abc import Mapping, Sequence

from simcloud.machines import Machines

log = logging.getLogger(__name__)

_REACHABLE_S = 20.0
_POLL_S = 0.05

# the list of accounts that are ours, so that a key taken away is taken away inside too
_PROLOGUE = """\
set -eu
managed=/var/lib/google/google_users
mkdir -p /var/lib/google
touch "$managed"
set_keys() {
    home=$(getent passwd "$1" | cut -d: -f6)
    mkdir -p "$home/.ssh"
    printf '%s' "$2" >"$home/.ssh/authorized_keys"
    chmod 700 "$home/.ssh"
    chmod 600 "$home/.ssh/authorized_keys"
    chown -R "$1:" "$home/.ssh"
}
ensure() {
    id "$1" >/dev/null 2>&1 || useradd -m -s /bin/bash "$1"
    set_keys "$1" "$2"
    grep -qxF "$1" "$managed" || echo "$1" >>"$managed"
}
# a key for root is taken as the wish to let root in, which the image does not
let_root_in() {
    conf=/etc/ssh/sshd_config.d/50-root-has-keys.conf
    grep -q '^PermitRootLogin no' /etc/ssh/sshd_config && [ ! -e "$conf" ] || return 0
    mkdir -p /etc/ssh/sshd_config.d
    echo 'PermitRootLogin prohibit-password' >"$conf"
    kill -HUP "$(cat /run/sshd.pid)"
}
administer() {
    [ ! -d /etc/sudoers.d ] || [ "$1" = root ] ||
        { echo "$1 ALL=(ALL:ALL) NOPASSWD:ALL" >"/etc/sudoers.d/google-$1"
          chmod 440 "/etc/sudoers.d/google-$1"; }
}
"""


async def ensure_accounts(
    machines: Machines, machine: str, accounts: Mapping[str, Sequence[str]], *, primary: str
) -> None:
    """Make the accounts of a running machine those of its metadata.

    Args:
        machines: The engine.
        machine: The machine's name there.
        accounts: Login name -> public keys.
        primary: The account that the engine looks after itself.
    """
    if machines.isolation != "namespaces":
        return
    inside = _process_inside(machines, machine)
    if inside is None:
        return
    lines = [_PROLOGUE]
    for user, keys in accounts.items():
        if user != primary:
            content = "".join(f"{key}\n" for key in keys)
            lines.append(f"ensure {shlex.quote(user)} {shlex.quote(content)}")
        if user == "root":
            lines.append("let_root_in")
        lines.append(f"administer {shlex.quote(user)}")
    kept = " ".join(shlex.quote(user) for user in accounts)
    lines.append(
        f'while read -r user; do\n    case " {kept} " in *" $user "*) ;;'
        ' *) set_keys "$user" "" ;; esac\ndone <"$managed"\n'
    )
    process = await asyncio.create_subprocess_exec(
        *("nsenter", "--target", str(inside), "--mount", "--pid", "--uts", "--ipc", "sh"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate("\n".join(lines).encode())
    if process.returncode != 0 and machines.alive(machine):
        log.warning("accounts of %s: %s", machine, complaint.decode(errors="replace").strip())


async def until_reachable(address: str, port: int) -> bool:
    """Return whether an sshd answers within a while: the machine's own file system is up then."""
    deadline = asyncio.get_running_loop().time() + _REACHABLE_S
    while asyncio.get_running_loop().time() < deadline:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(_POLL_S)
            continue
        writer.close()
        return True
    return False


async def host_keys(address: str, port: int) -> dict[str, str]:
    """Return the host keys of a reachable machine by type, as `ssh-keyscan` sees them."""
    process = await asyncio.create_subprocess_exec(
        *("ssh-keyscan", "-T", "5", "-p", str(port), address),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    rows = [line.split() for line in output.decode().splitlines()]
    return {row[1]: row[2] for row in rows if len(row) == 3}


def _process_inside(machines: Machines, machine: str) -> int | None:
    """Return a process that lives in the machine's namespaces."""
    own = os.readlink("/proc/self/ns/pid")
    for pid in machines.pids(machine):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") != own:
                return pid
        except OSError:
            continue
    return None
