"""Snapshots, what is in them, and what became of a run, as people read them."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from dumont.cli.text import UNKNOWN, age, clock, size, span
from dumont.domain.protection import AgentRole
from dumont.domain.snapshot_resources import SnapshotDetail, SnapshotList
from dumont.domain.snapshots import (
    ChangeTotals,
    EntryKind,
    FileChange,
    FileEntry,
    PruneResult,
    RestoreResult,
    Retention,
    SnapshotPolicy,
    SnapshotRecord,
)

WORKSPACE = "/workspace"

_BODIES = {AgentRole.PRIMARY: "GPU", AgentRole.STANDBY: "standby"}
_LETTERS = {
    EntryKind.FILE: "-",
    EntryKind.FOLDER: "d",
    EntryKind.LINK: "l",
    EntryKind.OTHER: "?",
}
_SIGNS = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "changed": ("M", "yellow"),
    "touched": ("t", "dim"),
}
_PERIODS = ("hourly", "daily", "weekly", "monthly")
_NAMES_SHOWN = 20
_TO_THE_SECOND = 15
"""Characters of an id."""
_WIDE = 130
"""Screen columns that the whole table needs."""


class _Column(NamedTuple):
    head: str
    cell: Callable[[SnapshotRecord], str]
    wide: bool = False
    """Left out where the screen is narrow."""


_COLUMNS = (
    _Column("ID", lambda one: one.snapshot_id),
    _Column(">AGE", lambda one: age(one.taken_at)),
    _Column(">SIZE", lambda one: size(one.bytes)),
    _Column(">NEW", lambda one: size(one.new_bytes)),
    _Column(">STORED", lambda one: size(one.stored_bytes), wide=True),
    _Column("FROM", lambda one: _BODIES[one.source], wide=True),
    _Column(
        "VERIFIED",
        lambda one: f"{age(one.verified_at)} ago" if one.verified_at else "not yet",
        wide=True,
    ),
    _Column("PINNED", lambda one: "pinned" if one.pinned else ""),
    _Column("TAGS", lambda one: ", ".join(one.tags)),
    _Column("NOTE", lambda one: "" if one.whole else "not whole"),
)


def visible(name: str) -> str:
    """A file's name on one line, harmless to the terminal: a name may hold any byte but two."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name
    )


def health_line(*, found: SnapshotList) -> Text:
    """How old the newest snapshot is, whether that is too old, and what failed since."""
    health = found.health
    if health.newest_at is None:
        line = Text("no whole snapshot yet")
    else:
        old = age(health.newest_at) if health.age_s is None else span(health.age_s)
        line = Text(f"newest {old} old")
    if health.stale:
        line.append("  stale: older than twice the interval", style="red")
    if health.failures:
        times = "the last try" if health.failures == 1 else f"the last {health.failures:,} tries"
        line.append(f"  {times} failed: {health.error}", style="red")
    return line


def policy_line(*, policy: SnapshotPolicy | None, next_at: datetime | None) -> str:
    """When snapshots are made, and which stay."""
    if policy is None:
        return "this deployment has no store: no snapshots can be made"
    again = f", the next at {clock(next_at)}" if next_at is not None else ""
    return f"made {schedule(policy)}{again}; {keeps(policy.retention)}"


def schedule(policy: SnapshotPolicy) -> str:
    """`every 30 minutes`, `at '0 4 * * *' (UTC)`, or that nothing is made unasked."""
    if policy.cron is not None:
        return f"at '{policy.cron}' (UTC)"
    if policy.every_minutes is not None:
        return f"every {policy.every_minutes} minutes"
    return "only when you ask"


def keeps(rules: Retention) -> str:
    """`keeps the last 4, 24 hourly, 7 daily, 4 weekly, 6 monthly`."""
    parts = [f"{count} {period}" for period in _PERIODS if (count := getattr(rules, period))]
    return "keeps " + ", ".join([f"the last {max(rules.last, rules.minimum)}", *parts])


def policy_card(*, policy: SnapshotPolicy, next_at: datetime | None) -> Table:
    """`dumont snapshot-policy NAME`."""
    card = Table.grid(padding=(0, 2))
    card.add_column(style="dim", no_wrap=True)
    card.add_column(overflow="fold")
    card.add_row("made", Text(schedule(policy)))
    card.add_row("next", clock(next_at))
    card.add_row("keeps", keeps(policy.retention).removeprefix("keeps "))
    card.add_row("left out", Text(", ".join(map(visible, policy.excludes)) or "nothing"))
    return card


def snapshot_table(*, snapshots: Sequence[SnapshotRecord], width: int) -> Table:
    """`dumont snapshots NAME`: a line each.

    Args:
        snapshots: Which.
        width: Columns of the screen; a narrow one gets the beginnings of ids, and fewer columns.
    """
    is_wide = width >= _WIDE
    length = 0 if is_wide else _telling(snapshots)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    columns = [column for column in _COLUMNS if is_wide or not column.wide]
    for column in columns:
        table.add_column(
            column.head.removeprefix(">"),
            justify="right" if column.head.startswith(">") else "left",
            no_wrap=column.head.startswith(">") or column.head == "ID",
            overflow="fold",
        )
    for one in snapshots:
        cells = [Text(column.cell(one)) for column in columns]
        cells[0] = cells[0][: length or None]
        table.add_row(*cells)
    return table


def _telling(snapshots: Sequence[SnapshotRecord]) -> int:
    """The length of the beginnings of ids, from the second on, that tell all of them apart."""
    ids = {one.snapshot_id for one in snapshots}
    lengths = range(_TO_THE_SECOND, max(map(len, ids), default=0))
    return next((n for n in lengths if len({one[:n] for one in ids}) == len(ids)), 0)


def snapshot_card(*, detail: SnapshotDetail) -> Table:
    """`dumont snapshots NAME SNAPSHOT`: what is known of one."""
    one = detail.snapshot
    card = Table.grid(padding=(0, 2))
    card.add_column(style="dim", no_wrap=True)
    card.add_column(overflow="fold")
    rows = [
        ("id", one.snapshot_id),
        (
            "taken",
            f"{clock(one.taken_at)} ({age(one.taken_at)} ago), from the {_BODIES[one.source]}",
        ),
        ("holds", f"{_files(one.files)}, {size(one.bytes)}"),
        ("new", f"{size(one.new_bytes)}, stored as {size(one.stored_bytes)}"),
        ("took", span(one.seconds)),
        ("verified", clock(one.verified_at) if one.verified_at else "not yet"),
        ("pinned", "yes: no rule deletes it" if one.pinned else "no"),
    ]
    if one.tags:
        rows.append(("tags", ", ".join(one.tags)))
    if detail.before is None:
        rows.append(("before", "none: it is the first"))
    else:
        rows.append(("before", detail.before))
        changed = totals(detail.changes) if detail.changes is not None else UNKNOWN
        rows.append(("since then", changed))
    for name, value in rows:
        card.add_row(name, Text(value))
    for line in _missing(one):
        card.add_row("", Text(line, style="yellow"))
    return card


def entry_line(*, entry: FileEntry) -> str:
    """One entry of a folder, as `ls -l` has it. Lines, not a table: pages come one by one."""
    mode = _LETTERS[entry.kind] + stat.filemode(entry.mode)[1:]
    shown = size(entry.size) if entry.kind is EntryKind.FILE else UNKNOWN
    name = visible(entry.path) + ("/" if entry.kind is EntryKind.FOLDER else "")
    return f"{mode}  {shown:>8}  {clock(entry.modified_at)}  {name}"


def change_line(*, change: FileChange) -> Text:
    """`M src/train.py  4.1 kB -> 4.3 kB`."""
    sign, style = _SIGNS[change.what]
    line = Text(f"{sign} ", style=style).append(visible(change.path))
    sizes = {
        "added": size(change.after),
        "removed": size(change.before),
        "changed": f"{size(change.before)} -> {size(change.after)}",
    }.get(change.what)
    return line.append(f"  {sizes}", style="dim") if sizes else line


def totals(changes: ChangeTotals) -> str:
    """`3 added, 1 removed, 2 changed, 0 touched; 4.1 MB new or changed`."""
    counts = ", ".join(
        f"{count:,} {word}"
        for word, count in (
            ("added", changes.added),
            ("removed", changes.removed),
            ("changed", changes.changed),
            ("touched", changes.touched),
        )
    )
    return f"{counts}; {size(changes.bytes)} new or changed"


def made_lines(*, name: str, made: SnapshotRecord) -> list[str]:
    """The end of `dumont snapshot`: one line, and below it what is missing."""
    flaw = "" if made.whole else ", NOT WHOLE"
    return [
        f"{made.snapshot_id} of {name}{flaw}: {_files(made.files)}, {size(made.bytes)}; "
        f"new {size(made.new_bytes)}, stored {size(made.stored_bytes)}, in {span(made.seconds)}",
        *_missing(made),
    ]


def restored_lines(*, name: str, done: RestoreResult) -> list[str]:
    """The end of `dumont restore`, without its problems."""
    usable = "" if done.usable_s is None else f"; usable after {span(done.usable_s)}"
    lines = [
        f"Restored {_files(done.files)} ({size(done.bytes)}) of {done.snapshot_id} into "
        f"{in_workspace(done.folder)} of {name} (on the {_BODIES[done.body]}) "
        f"in {span(done.seconds)}",
        f"  {done.unchanged:,} were right already; fetched {size(done.fetched_bytes)}{usable}",
    ]
    if done.before is not None:
        lines.append(f"  what was there before is in snapshot {done.before}")
    return lines


def problem_lines(*, done: RestoreResult) -> list[str]:
    """Every single thing that a restore could not bring back."""
    if not done.problems:
        return []
    return [
        f"{len(done.problems):,} could not be brought back:",
        *(f"  {visible(problem)}" for problem in done.problems),
    ]


def pruned_line(*, done: PruneResult) -> str:
    """What a prune freed, or would."""
    if done.dry_run:
        return f"{size(done.doomed)} would be freed; {size(done.needed)} are needed"
    more = ""
    if done.doomed:
        others = f"snapshots under way ({done.waits_for:,})"
        more = f"; {size(done.doomed)} more once {others} have ended"
    return f"{size(done.freed)} freed; {size(done.needed)} are needed{more}"


def in_workspace(folder: str) -> str:
    """A folder of the workspace as it is named on the machine."""
    return f"{WORKSPACE}/{visible(folder)}" if folder else WORKSPACE


def _missing(one: SnapshotRecord) -> list[str]:
    lines = [
        *_named("not in it", one.unreadable),
        *_named("changed each time it was read", one.changing),
    ]
    if not one.whole and not lines:
        return ["  not whole: something is not in it, and its name is not known"]
    return lines


def _named(what: str, names: Sequence[str]) -> list[str]:
    lines = [f"  {what}: {visible(name)}" for name in names[:_NAMES_SHOWN]]
    left = len(names) - len(lines)
    return [*lines, f"  {what}: {left:,} more"] if left > 0 else lines


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"
