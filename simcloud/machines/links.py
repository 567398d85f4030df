"""Cutting a machine's network link: packets are really dropped, by the kernel, on the loopback.

Machines share this computer's network, so a machine is known by two things: the cgroup (version 2)
that its whole process tree lives in, and its own 127.x address. What the group sends, and what goes
to the address or belongs to a connection of the group, is dropped; a cut so looks like one: nobody
refuses, nothing answers. The machine keeps its own localhost and its metadata server, which a real
cut leaves alone too. Delay cannot be played: netem is missing in many kernels.

Rules live in one chain per simcloud, named after the process; there is none while no link is at
fault. A chain whose simcloud is dead is removed by the next one. Nobody else's rules are touched.
See `link_rules.py` for the rules themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from simcloud.machines import processes
from simcloud.machines.link_rules import (
    Faulty,
    OpenSockets,
    bit_of,
    chain_of,
    chain_script,
    open_sockets,
    probe_script,
)

Cut = Literal["none", "in", "out", "both"]

_MOST = 31
"""Links at fault at the same time: each takes one bit of the connection mark, one is shared."""
_CHAIN = re.compile(r"SIM-(\d+)-([0-9a-f]{8})-([0-9a-f]{4})")
_LOCK_WAIT_S = "10"


@dataclass(frozen=True, kw_only=True)
class LinkFault:
    """What is wrong with a link."""

    cut: Cut = "none"
    """Which of its directions is dead: what the machine receives (`in`), what it sends (`out`)."""
    loss: float = 0.0
    """Share of the packets lost in the directions that are not dead, 0 to 1."""

    @property
    def sound(self) -> bool:
        """Whether there is nothing wrong."""
        return self.cut == "none" and self.loss == 0


@dataclass(kw_only=True)
class _Link:
    address: str
    always: tuple[str, ...]
    """Addresses that stay in reach whatever is cut."""
    fault: LinkFault = field(default_factory=LinkFault)
    bit: int = 0
    sockets: OpenSockets = field(default_factory=OpenSockets)


class LinksUnavailable(RuntimeError):
    """Links cannot be cut here; the message says why."""


class Links:
    """The links of all machines of one simcloud."""

    def __init__(self) -> None:
        """Find out whether links can be cut here, and remove what dead simclouds left."""
        self._name = _own_name()
        self._links: dict[str, _Link] = {}
        self._lock = asyncio.Lock()
        self._root: Path | None = None
        self.reason = ""
        """Why links cannot be cut; empty when they can."""
        try:
            self._root = _unified_hierarchy()
            _remove_leftovers(self._root)
            (self._root / self._name).mkdir(exist_ok=True)
            _prove(self._root, self._name)
        except LinksUnavailable as error:
            self.reason = str(error)
        except (OSError, subprocess.SubprocessError) as error:
            self.reason = f"cutting links does not work here: {error}"
        if self.reason and self._root is not None:
            _remove_group(self._root / self._name)
            self._root = None

    @property
    def available(self) -> bool:
        """Whether links can be cut here."""
        return not self.reason

    def group_file(self, name: str) -> Path | None:
        """Make a machine's group; return the file that a process joins it by, if there are groups."""
        if self._root is None:
            return None
        group = self._root / self._name / name
        group.mkdir(exist_ok=True)
        return group / "cgroup.procs"

    def attach(self, name: str, *, address: str, always: tuple[str, ...] = ()) -> None:
        """Take up a machine that boots; its link is sound."""
        self._links[name] = _Link(address=address, always=always)

    def state(self, name: str) -> LinkFault:
        """Return what is wrong with a machine's link."""
        link = self._links.get(name)
        return LinkFault() if link is None else link.fault

    async def set(self, name: str, fault: LinkFault, *, pids: Callable[[], list[int]]) -> None:
        """Put a link into a state, at once and for open connections too.

        Args:
            name: A machine that was attached.
            fault: What shall be wrong with it.
            pids: Returns the machine's processes; asked only when something is cut.

        Raises:
            LinksUnavailable: It is not possible here.
        """
        if not self.available:
            raise LinksUnavailable(self.reason)
        async with self._lock:
            link = self._links[name]
            if not fault.sound:
                link.sockets = await asyncio.to_thread(lambda: open_sockets(pids()))
                link.bit = link.bit or self._free_bit()
            before, link.fault = link.fault, fault
            try:
                await asyncio.to_thread(self._apply)
            except (OSError, subprocess.SubprocessError) as error:
                link.fault = before
                raise LinksUnavailable(_complaint(error)) from error
            if fault.sound:
                link.bit = 0

    async def detach(self, name: str) -> None:
        """Let go of a machine that has ended; its fault ends with it."""
        async with self._lock:
            link = self._links.pop(name, None)
            if link is not None and not link.fault.sound:
                await asyncio.to_thread(self._apply)
            if self._root is not None:
                _remove_group(self._root / self._name / name)

    def close(self) -> None:
        """Remove every trace."""
        if self._root is None:
            return
        self._links.clear()
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            _remove_chain(self._name)
        _remove_group(self._root / self._name)

    def _free_bit(self) -> int:
        taken = {link.bit for link in self._links.values()}
        for index in range(_MOST):
            if bit_of(index) not in taken:
                return bit_of(index)
        raise LinksUnavailable(f"at most {_MOST} links can be at fault at the same time")

    def _apply(self) -> None:
        faulty = [
            Faulty(
                group=f"{self._name}/{name}",
                address=link.address,
                always=link.always,
                bit=link.bit,
                sockets=link.sockets,
                drop_out=_share(link.fault, "out"),
                drop_in=_share(link.fault, "in"),
            )
            for name, link in self._links.items()
            if not link.fault.sound
        ]
        if not faulty:
            _remove_chain(self._name)
            return
        _restore(chain_script(self._name, faulty))
        used = {chain_of(self._name, link) for link in faulty}
        for unused in set(_chains_below(self._name)) - used:
            _drop_chain(unused)
        if _iptables("-C", *_jump(self._name), check=False).returncode != 0:
            _iptables("-I", *_jump(self._name))


def _share(fault: LinkFault, direction: str) -> float:
    return 1.0 if fault.cut in ("both", direction) else fault.loss


def _own_name() -> str:
    identity = processes.identify(os.getpid())
    assert identity is not None
    return _chain_name(identity.pid, identity.start_ticks)


def _chain_name(pid: int, start_ticks: int) -> str:
    """Name a process so that nobody takes another one for it.

    iptables allows 28 characters, and the chains of single links end in up to three more.
    """
    digest = hashlib.sha256(f"{processes.boot_id()}/{start_ticks}".encode()).hexdigest()
    return f"SIM-{pid}-{_pid_namespace()}-{digest[:4]}"


def _pid_namespace() -> str:
    return f"{Path('/proc/self/ns/pid').stat().st_ino:08x}"[-8:]


def _is_orphan(name: str) -> bool:
    """Whether a chain or group is of a simcloud that lived where we can see it, and is dead."""
    match = _CHAIN.fullmatch(name)
    if match is None or match[2] != _pid_namespace():
        return False
    stat = processes.read_stat(int(match[1]))
    return stat is None or stat.state == "Z" or _chain_name(stat.pid, stat.start_ticks) != name


def _unified_hierarchy() -> Path:
    """Return where cgroups of version 2 are mounted.

    Raises:
        LinksUnavailable: There is something missing to cut links with.
    """
    if os.geteuid() != 0:
        raise LinksUnavailable("cutting links needs root")
    if shutil.which("iptables") is None or shutil.which("iptables-restore") is None:
        raise LinksUnavailable("cutting links needs the package iptables")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2":
            if "ro" in options.split(","):
                raise LinksUnavailable(f"cutting links needs a writable {where}")
            return Path(where)
    raise LinksUnavailable("cutting links needs cgroup version 2, which is not mounted")


def _prove(root: Path, name: str) -> None:
    """Try it: a process in a group must be refused what one outside it gets.

    Raises:
        LinksUnavailable: It was not.
    """
    group = root / name / "probe"
    group.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        try:
            _restore(probe_script(name, group=f"{name}/probe", port=port))
            _iptables("-I", *_jump(name))
            script = 'echo $$ >"$0" && exec bash -c "echo >/dev/tcp/127.0.0.1/$1"'
            inside = subprocess.run(
                ["sh", "-c", script, str(group / "cgroup.procs"), str(port)],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except subprocess.SubprocessError as error:
            raise LinksUnavailable(_complaint(error)) from error
        finally:
            _remove_chain(name)
            _remove_group(group)
    if inside.returncode == 0 or "refused" not in inside.stderr:
        raise LinksUnavailable(
            f"iptables here does not know processes by their cgroup {inside.stderr.strip()}"
        )


def _remove_leftovers(root: Path) -> None:
    for chain in _chains():
        if _is_orphan(chain):
            _remove_chain(chain)
    for group in root.glob("SIM-*"):
        if _is_orphan(group.name):
            _remove_group(group)


def _jump(chain: str) -> tuple[str, ...]:
    return ("OUTPUT", "-o", "lo", "-j", chain)


def _remove_chain(chain: str) -> None:
    while _iptables("-D", *_jump(chain), check=False).returncode == 0:
        pass
    # first what refers to the chains of single links
    _iptables("-F", chain, check=False)
    for below in _chains_below(chain):
        _drop_chain(below)
    _drop_chain(chain)


def _drop_chain(chain: str) -> None:
    _iptables("-F", chain, check=False)
    _iptables("-X", chain, check=False)


def _chains_below(chain: str) -> list[str]:
    return [each for each in _chains() if each.startswith(chain + ".")]


def _chains() -> list[str]:
    listed = _iptables("-S", check=False).stdout.splitlines()
    return [line.split()[1] for line in listed if line.startswith("-N ")]


def _remove_group(group: Path) -> None:
    """Remove a group and those below it; one that still has a process is left to the next start."""
    with contextlib.suppress(OSError):
        for child in group.iterdir():
            if child.is_dir():
                _remove_group(child)
        group.rmdir()


def _restore(script: str) -> None:
    # one transaction: no packet sees half of the rules
    subprocess.run(
        ["iptables-restore", "-w", _LOCK_WAIT_S, "--noflush"],
        input=script,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )


def _iptables(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["iptables", "-w", _LOCK_WAIT_S, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=check,
    )


def _complaint(error: Exception) -> str:
    said = str(getattr(error, "stderr", "") or error).strip()
    return f"iptables does not take the rules: {said.splitlines()[-1] if said else error}"
