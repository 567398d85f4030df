"""Resources as tables and cards for people. Colour repeats what the words say, never more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from dumont.cli.credentials import Credentials, Server
from dumont.cli.text import UNKNOWN, age, clock, gpus, money, number, span
from dumont.domain.instances import SshAddress
from dumont.domain.machine import MachinePhase
from dumont.domain.protection import ProtectionStatus
from dumont.domain.resources import (
    ApiKeyView,
    EventView,
    MachineView,
    OfferView,
    RungView,
    SshKeyView,
)

_PHASE_STYLE = {
    MachinePhase.REQUESTED: "magenta",
    MachinePhase.PROVISIONING: "magenta",
    MachinePhase.RUNNING: "green",
    MachinePhase.ON_STANDBY: "yellow",
    MachinePhase.REPLACING: "yellow",
    MachinePhase.STUCK: "red",
    MachinePhase.HIBERNATING: "yellow",
    MachinePhase.HIBERNATED: "blue",
    MachinePhase.WAKING: "magenta",
    MachinePhase.DESTROYING: "yellow",
    MachinePhase.DESTROYED: "dim",
}


_PROTECTION_STYLE = {
    ProtectionStatus.PROTECTED: "green",
    ProtectionStatus.MIRRORING: "magenta",
    ProtectionStatus.DEGRADED: "red",
    ProtectionStatus.UNPROTECTED: "dim",
}


def phase(machine: MachineView) -> Text:
    """The phase as a coloured word."""
    return Text(machine.phase.value, style=_PHASE_STYLE.get(machine.phase, ""))


def protection(machine: MachineView) -> Text:
    """How safe the work is: `protected 0.1 s` names the lag, where it was measured just now."""
    seen = machine.protection
    asleep = machine.phase is MachinePhase.HIBERNATED
    if asleep and machine.standby is None:
        return Text("in the object store", style="blue")
    if asleep or machine.phase in (MachinePhase.ON_STANDBY, MachinePhase.REPLACING):
        return Text("on the standby alone", style="yellow")
    if machine.phase in (MachinePhase.DESTROYING, MachinePhase.DESTROYED):
        return Text(UNKNOWN)
    shown = Text(seen.status.value, style=_PROTECTION_STYLE[seen.status])
    if seen.status is ProtectionStatus.PROTECTED:
        shown.append(
            f" {span(seen.lag_s)}" if seen.lag_s is not None else " lag unknown", "default"
        )
    return shown


def machine_table(*, machines: Sequence[MachineView]) -> Table:
    """`dumont ls`."""
    table = plain_table("NAME", "STATE", "PROTECTION", "GPU", ">$/H", ">AGE", "SSH", "NOTE")
    for machine in machines:
        live = machine.instance
        table.add_row(
            machine.name,
            phase(machine),
            protection(machine),
            gpus(count=machine.requirement.gpu_count, model=machine.requirement.gpu),
            money(live.usd_per_hour) if live and _runs(machine) else UNKNOWN,
            age(machine.created_at),
            f"dumont ssh {machine.name}" if machine.ssh else UNKNOWN,
            Text(note(machine)),
        )
    return table


def note(machine: MachineView) -> str:
    """What a row says beside the state: why it is stuck, how far it climbed, what is not safe."""
    if machine.phase is MachinePhase.RUNNING:
        degraded = machine.protection.status is ProtectionStatus.DEGRADED
        return machine.protection.reason if degraded else ""
    if machine.phase is MachinePhase.PROVISIONING:
        reached = [rung for rung in machine.ladder if rung.reached_at is not None]
        if reached:
            return f"{len(reached)}/{len(machine.ladder)} {reached[-1].sentence}"
    again = f" (next try {clock(machine.next_try_at)})" if machine.next_try_at else ""
    return machine.reason + again


def machine_card(*, machine: MachineView) -> Table:
    """`dumont show`."""
    card = Table.grid(padding=(0, 2))
    card.add_column(style="dim", no_wrap=True)
    card.add_column(overflow="fold")
    need, live = machine.requirement, machine.instance
    state = phase(machine)
    if note(machine):
        state.append(f"  {note(machine)}", style="default")
    wanted = gpus(count=need.gpu_count, model=need.gpu)
    rows: list[tuple[str, Text | str]] = [
        ("name", machine.name),
        ("id", machine.machine_id),
        ("state", state),
        (
            "wanted",
            f"{wanted}, {need.rental.value.replace('_', ' ')}, at most "
            f"{money(need.max_usd_per_hour)}, {number(need.disk_gb, unit=' GB')} disk",
        ),
        ("image", need.image),
    ]
    if live is not None:
        place = ", ".join(part for part in (live.region, _host(live.host_id)) if part)
        rows += [
            ("instance", f"{live.provider} {live.instance_id} ({live.label})"),
            ("price", money(live.usd_per_hour) + ("" if _runs(machine) else " when it runs")),
            ("where", place or UNKNOWN),
            (
                "ready",
                f"{clock(live.ready_at)} ({age(live.ready_at)} ago)" if live.ready_at else "no",
            ),
        ]
    rows += _protection_rows(machine)
    if machine.ssh is not None:
        rows += [
            ("connect", f"dumont ssh {machine.name}   or   ssh dumont-{machine.name}"),
            ("address", _address(machine.ssh)),
        ]
    if machine.direct is not None and machine.direct != machine.ssh:
        rows.append(("GPU directly", _address(machine.direct)))
    if machine.host_key is not None:
        rows.append(("host key", machine.host_key))
    rows += [
        ("created", f"{clock(machine.created_at)} ({age(machine.created_at)} ago)"),
        ("generation", str(machine.generation)),
    ]
    if machine.workflow_url is not None:
        rows.append(("workflow", machine.workflow_url))
    for name, value in rows:
        card.add_row(name, value if isinstance(value, Text) else Text(value))
    if machine.ladder and machine.phase is not MachinePhase.DESTROYED:
        for index, rung in enumerate(machine.ladder):
            card.add_row("ladder" if index == 0 else "", rung_line(rung=rung))
    return card


def _protection_rows(machine: MachineView) -> list[tuple[str, Text | str]]:
    seen, standby = machine.protection, machine.standby
    state = protection(machine)
    if seen.reason:
        state.append(f"  {seen.reason}", style="default")
    rows: list[tuple[str, Text | str]] = [("protection", state)]
    if seen.replicated_at is not None:
        rows.append(("replicated", f"everything before {clock(seen.replicated_at)}"))
    if standby is not None:
        rtt = UNKNOWN if standby.rtt_ms is None else f"{standby.rtt_ms:.1f} ms"
        rows += [
            ("standby", f"{standby.provider} {standby.zone} ({standby.label})"),
            ("", f"{money(standby.usd_per_hour)} (estimate), round trip {rtt}"),
        ]
    if seen.policy is not None:
        back = seen.policy.failback.value.replace("_", " ")
        left_out = ", ".join(seen.policy.excludes)
        rows.append(
            ("policy", f"back {back}" + (f"; not mirrored: {left_out}" if left_out else ""))
        )
    if machine.failovers:
        rows.append(("failovers", f"{machine.failovers}   dumont receipts {machine.name}"))
    return rows


def _address(where: SshAddress) -> str:
    return f"{where.user}@{where.host} port {where.port}"


def rung_line(*, rung: RungView) -> Text:
    """One rung and when it was reached."""
    if rung.reached_at is None:
        return Text(f"- {rung.sentence}", style="dim")
    return Text(f"+ {rung.sentence}  ", style="green").append(clock(rung.reached_at), style="dim")


class _Column(NamedTuple):
    """A column of the offers' table."""

    head: str
    cell: Callable[[OfferView], str]
    wide: bool = False
    """Left out where the screen is narrow."""


_OFFER_COLUMNS = (
    _Column("OFFER", lambda o: o.offer_id),
    _Column("GPU", lambda o: gpus(count=o.gpu_count, model=o.gpu)),
    _Column(">VRAM", lambda o: number(o.gpu_memory_gb, unit=" GB"), wide=True),
    _Column("RENTAL", lambda o: o.rental.value.replace("_", " ")),
    _Column(">$/H", lambda o: money(o.usd_per_hour)),
    _Column(">ON DEMAND", lambda o: money(o.on_demand_usd_per_hour), wide=True),
    _Column(">RELIABLE", lambda o: _percent(o.reliability)),
    _Column("REGION", lambda o: o.region or UNKNOWN),
    _Column(">DOWN", lambda o: number(o.download_mbps, unit=" Mb/s"), wide=True),
    _Column(">UP", lambda o: number(o.upload_mbps, unit=" Mb/s"), wide=True),
    _Column(">DISK", lambda o: number(o.disk_gb, unit=" GB")),
    _Column(">CPUS", lambda o: number(o.cpu_cores), wide=True),
    _Column(">RAM", lambda o: number(o.memory_gb, unit=" GB"), wide=True),
    _Column(">CUDA", lambda o: number(o.cuda, digits=1), wide=True),
)
WIDE = 140
"""Columns of a screen that shows everything about an offer."""


def offer_table(*, offers: Iterable[OfferView], width: int) -> Table:
    """`dumont offers`, with as much about each as fits into `width` columns."""
    columns = [column for column in _OFFER_COLUMNS if width >= WIDE or not column.wide]
    table = plain_table(*(column.head for column in columns))
    for offer in offers:
        table.add_row(*(Text(column.cell(offer)) for column in columns))
    return table


def _percent(share: float | None) -> str:
    return number(None if share is None else share * 100, unit=" %", digits=1)


def event_line(*, event: EventView) -> Text:
    """One event of `dumont events`."""
    line = Text(clock(event.at), style="dim")
    line.append(f"  {event.machine_name:<16} ", style="bold")
    line.append(f"{event.kind.value:<24} ", style="cyan")
    return line.append(event.summary, style="default")


def ssh_key_table(*, keys: Iterable[SshKeyView]) -> Table:
    """`dumont keys ssh ls`."""
    table = plain_table("ID", "NAME", "FINGERPRINT", "ADDED")
    for key in keys:
        table.add_row(key.key_id, Text(key.name), key.fingerprint, clock(key.created_at))
    return table


def api_key_table(*, keys: Iterable[ApiKeyView]) -> Table:
    """`dumont keys api ls`."""
    table = plain_table("ID", "NAME", "SCOPES", "CREATED", "LAST USED", "EXPIRES")
    for key in keys:
        table.add_row(
            key.key_id,
            Text(key.name),
            " ".join(key.scopes),
            clock(key.created_at),
            clock(key.last_used_at) if key.last_used_at else "never",
            clock(key.expires_at) if key.expires_at else "never",
        )
    return table


def server_table(*, credentials: Credentials) -> Table:
    """`dumont servers`."""
    table = plain_table("", "SERVER", "LOGGED IN AS", "BY")
    for url, server in credentials.servers.items():
        table.add_row(
            "*" if url == credentials.default else "", url, server.email or UNKNOWN, how(server)
        )
    return table


def how(server: Server) -> str:
    """How a login proves itself."""
    return "API key" if server.api_key else "password" if server.tokens else "not logged in"


def _runs(machine: MachineView) -> bool:
    """Whether the instance's price is what it costs now: a stopped one bills its disk alone."""
    return machine.phase is MachinePhase.RUNNING


def _host(host_id: str | None) -> str | None:
    return f"host {host_id}" if host_id else None


def plain_table(*columns: str) -> Table:
    """A table without lines between its rows.

    Args:
        columns: Titles; one that begins with `>` stands over figures, to the right.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"), justify="right" if right else "left", overflow="fold"
        )
    return table
