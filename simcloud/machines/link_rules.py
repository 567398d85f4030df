"""The rules that make a link faulty, as text for `iptables-restore`. Decides, does nothing.

A packet on the loopback passes OUTPUT with its sender's socket, so what a machine sends is known by
its cgroup. What it receives is known by the address it is sent to, or by the connection: the
machine's bit is in the mark of every connection that it has or begins. Connections of a machine
with itself carry another bit and pass.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_SELF = 0x80000000
_ANY = "0.0.0.0"  # noqa: S104 - what the kernel's table says, nothing is bound
_LOCALHOST = "127.0.0.1"
_LISTEN = "0A"
_PORTS_AT_ONCE = 15
"""What iptables' multiport takes."""

End = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One direction of a connection."""

    protocol: str
    source: End
    target: End

    def match(self) -> str:
        """Return what matches its packets."""
        (source, source_port), (target, target_port) = self.source, self.target
        ports = f"--sport {source_port} --dport {target_port}"
        return f"-s {source} -d {target} -p {self.protocol} {ports}"


@dataclass(frozen=True, kw_only=True)
class OpenSockets:
    """What a machine has open at one moment."""

    ports: tuple[int, ...] = ()
    """TCP ports on 127.0.0.1 that it listens on."""
    own: tuple[Flow, ...] = ()
    """Both directions of connections that it has with itself."""
    inbound: tuple[Flow, ...] = ()
    """From others to it, of connections that are open."""


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """A link with a fault."""

    group: str
    """Path of the machine's cgroup below the hierarchy's root."""
    address: str
    always: tuple[str, ...]
    """Addresses that stay in reach."""
    bit: int
    """The machine's bit in connection marks."""
    sockets: OpenSockets
    drop_out: float
    """Share of what it sends that is lost."""
    drop_in: float
    """Share of what it receives that is lost."""


def bit_of(index: int) -> int:
    """Return the mark bit of the n-th faulty link."""
    bit = 1 << index
    assert bit < _SELF
    return bit


def chain_script(chain: str, faulty: Sequence[Faulty]) -> str:
    """Return what fills a chain anew, and one below it for each faulty link."""
    lines = ["*filter", f":{chain} - [0:0]"]
    for link in faulty:
        below = chain_of(chain, link)
        lines += [f":{below} - [0:0]", f"-A {chain} -j {below}"]
        lines += [f"-A {below} {rule}" for rule in _rules(link)]
    return "\n".join([*lines, "COMMIT", ""])


def chain_of(chain: str, link: Faulty) -> str:
    """Return the name of the chain of one link, below that of all."""
    return f"{chain}.{link.bit.bit_length()}"


def probe_script(chain: str, *, group: str, port: int) -> str:
    """Return a chain that refuses one group one port, and needs everything that `_rules` needs."""
    known = f"-p tcp --dport {port} -m cgroup --path {group}"
    return "\n".join(
        [
            "*filter",
            f":{chain} - [0:0]",
            f"-A {chain} {known} -m conntrack --ctstate NEW -j CONNMARK --or-mark 0x1",
            f"-A {chain} -p tcp -m multiport --dports {port} -m connmark --mark 0x1/0x1"
            " -m statistic --mode random --probability 1.0 -j REJECT --reject-with tcp-reset",
            "COMMIT",
            "",
        ]
    )


def _rules(link: Faulty) -> Iterable[str]:
    sent = f"-m cgroup --path {link.group}"
    bit, own = f"{link.bit:#x}", f"{_SELF:#x}"
    new = "-m conntrack --ctstate NEW"

    # with itself
    for flow in link.sockets.own:
        yield f"{flow.match()} -j RETURN"
    for address in (link.address, *link.always):
        yield f"{sent} -d {address} {new} -j CONNMARK --or-mark {own}"
    for start in range(0, len(link.sockets.ports), _PORTS_AT_ONCE):
        ports = ",".join(map(str, link.sockets.ports[start : start + _PORTS_AT_ONCE]))
        yield (
            f"{sent} -d {_LOCALHOST} -p tcp -m multiport --dports {ports} {new}"
            f" -j CONNMARK --or-mark {own}"
        )
    yield f"-m connmark --mark {own}/{own} -j RETURN"
    for address in link.always:
        yield f"{sent} -d {address} -j RETURN"
        yield f"-s {address} -j RETURN"

    # with others; what listens for it on its address (port forwards) is as cut off as itself
    inbound = (flow.match() for flow in link.sockets.inbound)
    for matched in (sent, f"-s {link.address}", f"-d {link.address}", *inbound):
        yield f"{matched} -j CONNMARK --or-mark {bit}"
    # A SYN-ACK has no full socket yet: it matches neither a cgroup nor its negation. So what is
    # sent goes first, by group or by address, and the rest needs no cgroup.
    for matched in (sent, f"-s {link.address}"):
        yield from _lose(matched, link.drop_out)
    yield from _lose(f"-d {link.address}", link.drop_in)
    yield from _lose(f"-m connmark --mark {bit}/{bit}", link.drop_in)


def _lose(matched: str, share: float) -> Iterable[str]:
    """Drop a share of what matches, and let the rest of it meet no other rule of this link."""
    if share >= 1:
        yield f"{matched} -j DROP"
        return
    if share > 0:
        yield f"{matched} -m statistic --mode random --probability {share:.6f} -j DROP"
    yield f"{matched} -j RETURN"


def open_sockets(pids: Iterable[int]) -> OpenSockets:
    """Return what some processes have open over IPv4."""
    inodes = {inode for pid in pids for inode in _sockets_of(pid)}
    ports: set[int] = set()
    flows: set[Flow] = set()
    for protocol in ("tcp", "udp"):
        for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] not in inodes:
                continue
            here, there = _end(words[1]), _end(words[2])
            if there[1]:
                flows.add(Flow(protocol=protocol, source=there, target=here))
            elif words[3] == _LISTEN and here[0] in (_ANY, _LOCALHOST):
                ports.add(here[1])
    own = {
        flow
        for flow in flows
        if Flow(protocol=flow.protocol, source=flow.target, target=flow.source) in flows
    }
    return OpenSockets(
        ports=tuple(sorted(ports)),
        own=tuple(sorted(own, key=Flow.match)),
        inbound=tuple(sorted(flows - own, key=Flow.match)),
    )


def _sockets_of(pid: int) -> Iterable[str]:
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(entry.path)
            except OSError:
                continue
            if target.startswith("socket:["):
                yield target[8:-1]
    except OSError:
        return


def _end(text: str) -> End:
    address, port = text.split(":")
    # the kernel prints the address as a number of the machine's own byte order
    packed = struct.pack("=I", int(address, 16))
    return socket.inet_ntoa(packed), int(port, 16)
