"""The machines this user can `ssh` to: remembered here, rendered for OpenSSH, nothing else.

`hosts.json` is ours; `ssh_config`, `known_hosts` and the proxy's files (`ssh_addresses`) are made from
it each time. What a server says about an address is checked before it gets into a file that OpenSSH
obeys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dumont.cli.credentials import config_dir, load
from dumont.cli.files import locked, make_private_dir, replace_file
from dumont.cli.ssh_addresses import mark_fresh, proxy_command, write_addresses
from dumont.cli.ssh_keys import default_key
from dumont.domain.errors import DumontError, InvalidInput
from dumont.domain.instances import SshAddress
from dumont.domain.machine import MachinePhase
from dumont.domain.names import check_machine_name
from dumont.domain.resources import MachineView

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,252}")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9]{1,64}")
_KEY = re.compile(r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]+={0,3}")


class Host(BaseModel):
    """One machine as OpenSSH needs to know it."""

    model_config = ConfigDict(frozen=True)

    server: str
    machine_id: str
    name: str
    address: SshAddress
    """The stable one, where the machine has it."""
    direct: SshAddress | None = None
    """The GPU itself, for when the stable address does not answer."""
    host_key: str
    """Type and key; the machine proves itself with it for its whole life."""
    identity: Path | None = None
    """The private key chosen when the machine was made here; None for the user's usual ones."""

    @property
    def alias(self) -> str:
        """What to type behind `ssh`."""
        return f"dumont-{self.name}"

    @property
    def key_alias(self) -> str:
        """The name its key is known under, whatever its address is."""
        return f"dumont-{self.machine_id}"


class Hosts(BaseModel):
    """The whole file."""

    version: int = 1
    include: bool = True
    """Whether the user's own SSH configuration may include ours."""
    hosts: list[Host] = Field(default_factory=list)

    def find(self, *, server: str, ref: str) -> Host | None:
        """A machine of a server by name or id."""
        return next(
            (h for h in self.hosts if h.server == server and ref in (h.name, h.machine_id)), None
        )


def hosts_path() -> Path:
    """Where the machines are remembered."""
    return config_dir() / "hosts.json"


def ssh_config_path() -> Path:
    """The file that OpenSSH includes."""
    return config_dir() / "ssh_config"


def known_hosts_path() -> Path:
    """The file with the machines' keys."""
    return config_dir() / "known_hosts"


def load_hosts() -> Hosts:
    """The machines remembered. A damaged file counts as empty: it can be made again from the API."""
    try:
        return Hosts.model_validate_json(hosts_path().read_bytes())
    except (OSError, ValidationError):
        return Hosts()


def change_hosts(*, edit: Callable[[Hosts], None]) -> Hosts:
    """Read, edit and write the file and what is made from it, one process at a time.

    Raises:
        InvalidInput: A file cannot be written.
    """
    path = hosts_path()
    try:
        with locked(path=path):
            hosts = load_hosts()
            before = hosts.model_dump_json()
            edit(hosts)
            make_private_dir(path=path.parent)
            if hosts.model_dump_json() != before or not path.exists():
                replace_file(path=path, content=hosts.model_dump_json(indent=2).encode() + b"\n")
            _write(ssh_config_path(), render_ssh_config(hosts=hosts.hosts))
            _write(known_hosts_path(), render_known_hosts(hosts=hosts.hosts))
            write_addresses(hosts=hosts.hosts)
            return hosts
    except OSError as error:
        raise InvalidInput(
            f"cannot write {error.filename or path.parent}: {error.strerror}",
            hint="free some disk space, or point DUMONT_CREDENTIALS into a directory you may write",
        ) from None


def remember(*, server: str, machine: MachineView, identity: Path | None = None) -> Host | None:
    """Take a machine's present address; forget it when it is destroyed.

    While a machine has no address the last one is kept: its key tells whether it still answers.

    Args:
        server: Address of the API it belongs to.
        machine: As the API shows it.
        identity: The private key it was made with; None keeps what was known.

    Returns:
        The machine as it can be reached, None when it cannot be yet.

    Raises:
        DumontError: The server's answer has no place in an SSH configuration.
        InvalidInput: A file cannot be written.
    """

    def edit(hosts: Hosts) -> None:
        _place(hosts, server=server, machine=machine, identity=identity)

    known = change_hosts(edit=edit).find(server=server, ref=machine.machine_id)
    if known is not None:
        mark_fresh(machine_ids=[known.machine_id])
    return known


def remember_all(*, server: str, machines: Iterable[MachineView]) -> None:
    """Take the addresses of all of a server's live machines and forget those it has no more."""
    living = [m for m in machines if not m.phase.final]
    ids = {m.machine_id for m in living}

    def edit(hosts: Hosts) -> None:
        hosts.hosts = [h for h in hosts.hosts if h.server != server or h.machine_id in ids]
        for machine in living:
            _place(hosts, server=server, machine=machine, identity=None)

    change_hosts(edit=edit)
    mark_fresh(machine_ids=ids)


def host_of(*, server: str, machine: MachineView, identity: Path | None = None) -> Host | None:
    """The entry for a machine; None while it has no address or its key is not known.

    Raises:
        DumontError: A value would not be safe in an SSH configuration.
    """
    if machine.ssh is None or machine.host_key is None:
        return None
    key = " ".join(machine.host_key.split()[:2])
    direct = machine.direct
    if direct is not None and (direct == machine.ssh or direct.user != machine.ssh.user):
        direct = None
    for what, value, allowed in (
        ("host", machine.ssh.host, _HOST),
        ("direct host", direct.host if direct else machine.ssh.host, _HOST),
        ("user", machine.ssh.user, _USER),
        ("machine_id", machine.machine_id, _ID),
        ("host_key", key, _KEY),
    ):
        if not allowed.fullmatch(value):
            raise DumontError(
                f"{server} gave {value!r} as the {what} of {machine.machine_id!r}, which has no "
                "place in an SSH configuration",
                field=what,
                hint="is it a Dumont server? `dumont servers` lists the ones you use",
            )
    return Host(
        server=server,
        machine_id=machine.machine_id,
        name=check_machine_name(machine.name),
        address=machine.ssh,
        direct=direct,
        host_key=key,
        identity=identity,
    )


def ssh_options(*, host: Host) -> dict[str, str]:
    """The options that reach exactly this machine and no impostor."""
    options = {
        "HostName": host.address.host,
        "Port": str(host.address.port),
        "User": host.address.user,
        "HostKeyAlias": host.key_alias,
        "UserKnownHostsFile": _quoted(known_hosts_path()),
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "ProxyCommand": proxy_command(machine_id=host.machine_id),
        # A link that dies without a word is noticed within 15 s.
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
    }
    key = host.identity
    if key is None and (usual := default_key()) is not None:
        key = usual.private_path
    if key is not None:
        options["IdentityFile"] = _quoted(key)
    if host.identity is not None:
        # The key is certain: offering the agent's others first could exhaust the server's patience.
        options["IdentitiesOnly"] = "yes"
    return options


def render_ssh_config(*, hosts: Iterable[Host]) -> str:
    """`ssh_config` for these machines; of two with one name the default server's comes first."""
    default = load().default
    blocks = ["# Made by `dumont`; changes are lost. See `dumont ssh-config --help`."]
    for host in sorted(hosts, key=lambda h: (h.server != default, h.server, h.name)):
        lines = [f"# {host.server}", f"Host {host.alias}"]
        lines += [f"    {name} {value}" for name, value in ssh_options(host=host).items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def render_known_hosts(*, hosts: Iterable[Host]) -> str:
    """`known_hosts` for these machines: each key under the machine's id, not its address."""
    return "".join(sorted(f"{host.key_alias} {host.host_key}\n" for host in hosts))


def _place(hosts: Hosts, *, server: str, machine: MachineView, identity: Path | None) -> None:
    old = hosts.find(server=server, ref=machine.machine_id)
    new = host_of(
        server=server, machine=machine, identity=identity or (old.identity if old else None)
    )
    if machine.phase is MachinePhase.DESTROYED:
        new = None
    elif new is None:
        return
    # A name is free again once its machine is gone.
    hosts.hosts = [
        h
        for h in hosts.hosts
        if h.server != server
        or (h.machine_id != machine.machine_id and (not new or h.name != new.name))
    ]
    if new is not None:
        hosts.hosts.append(new)


def _write(path: Path, text: str) -> None:
    content = text.encode()
    try:
        if path.read_bytes() == content:
            return
    except OSError:
        pass
    replace_file(path=path, content=content)


def _quoted(path: Path) -> str:
    """A path as OpenSSH's configuration takes it: in quotes, with its own escapes."""
    text = str(path).replace("%", "%%")
    if '"' in text or "\n" in text:
        raise InvalidInput(f"OpenSSH cannot take {path} as a file name", field="DUMONT_CREDENTIALS")
    return f'"{text}"'
