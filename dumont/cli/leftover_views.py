"""What is left and costs money, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from dumont.cli.text import UNKNOWN, age, money, number
from dumont.domain.leftover_resources import LeftoverList, LeftoverView
from dumont.domain.leftovers import Fate, LeftoverKind

_KINDS = {
    LeftoverKind.STOPPED_INSTANCE: "stopped instance",
    LeftoverKind.DETACHED_DISK: "detached disk",
    LeftoverKind.ADDRESS: "address",
    LeftoverKind.SCHEDULE: "schedule",
    LeftoverKind.BUCKET_PREFIX: "snapshots",
}
_STYLES = {
    Fate.ENDING: "yellow",
    Fate.WATCHED: "magenta",
    Fate.HELD: "red",
    Fate.SHOWN: "red",
    Fate.KEPT: "dim",
}


def leftover_table(items: Sequence[LeftoverView]) -> Table:
    """`dumont leftovers`: what it is, what it costs, since when, and what becomes of it."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in ("WHAT", "WHERE", "MACHINE"):
        table.add_column(head, overflow="fold")
    for head in ("GB", "$/H", "SEEN FOR"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("WHAT HAPPENS", overflow="fold")
    for each in items:
        table.add_row(
            Text(f"{_KINDS[each.kind]} {each.label or each.detail or each.resource_id}"),
            Text(f"{each.provider} {each.place or ''}".strip()),
            Text(each.machine_name or each.machine_id),
            number(each.size_gb, digits=1),
            UNKNOWN if each.kind is LeftoverKind.SCHEDULE else money(each.usd_per_hour),
            age(each.seen_since),
            Text(f"{each.fate.value}: {each.why}", style=_STYLES[each.fate]),
        )
    return table


def total(found: LeftoverList) -> str:
    """One sentence with what all of it costs."""
    count = len(found.items)
    said = f"{count} left, {money(found.usd_per_hour)} together"
    if found.unknown_prices:
        said += f", and {found.unknown_prices} at a price that is not known"
    return f"{said}. Prices are estimates unless the provider told them; --json names each source."


def freshness(found: LeftoverList) -> str:
    """One sentence with when each source was looked at, and what a sweep did not dare."""
    if not found.surveys:
        return "No sweep has looked yet: what is left is unknown."
    said = ", ".join(f"{each.source} {age(each.surveyed_at)} ago" for each in found.surveys)
    held = [f"{each.source}: {each.blocked}" for each in found.surveys if each.blocked]
    return "\n".join([f"Looked at {said}.", *held])
