"""What is known of a machine's idleness, as people read it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dumont.cli.tables import plain_table
from dumont.cli.text import UNKNOWN, clock, number, span
from dumont.domain.idle import IdlePolicy, Signal, Stretch
from dumont.domain.idle_resources import IdleView, LastWeek, Replayed

_STYLES = {"active": "green", "idle": "yellow", "unknown": "dim"}
_SHOWN = 8


def explanation(*, view: IdleView) -> RenderableType:
    """`dumont idle explain`."""
    parts: list[RenderableType] = [_verdict(view)]
    if view.judgement is not None:
        parts += ["", _signals(view.judgement.signals)]
    parts += ["", _week(view.last_week)]
    stretches = view.last_week.rule.stretches[:_SHOWN]
    if stretches:
        parts += ["", _stretches(stretches)]
    return Group(*parts)


def policy_card(*, policy: IdlePolicy) -> Table:
    """`dumont idle policy`."""
    return _card(
        [
            ("idle detection", "on" if policy.enabled else "off"),
            ("idle after", span(policy.idle_for_s)),
            ("  with GPU memory held", span(max(policy.idle_for_s, policy.memory_held_for_s))),
            ("  with a login", f"{span(policy.session_quiet_s)} after its last key or output"),
            ("  with a kernel", f"{span(policy.kernel_quiet_s)} after it last worked"),
            ("GPU is quiet", f"under {policy.gpu_percent:g} %"),
            ("processors are quiet", f"under {policy.cpu_cores:g} cores"),
            ("warned", f"{span(policy.warn_s)} before it hibernates"),
            ("after a start", f"{span(policy.grace_s)} of grace"),
        ]
    )


def _verdict(view: IdleView) -> Table:
    judgement = view.judgement
    if judgement is None:
        word, style = "not judged", "dim"
    elif judgement.idle:
        word, style = "idle", "yellow"
    else:
        word, style = "not idle", "green"
    said = Text(word, style=style)
    if judgement is not None:
        said.append(f"  {judgement.reason}", "default")
    rows: list[tuple[str, str | Text]] = [("name", view.name), ("now", said)]
    if view.warning is not None:
        left = span((view.warning.act_at - view.at).total_seconds())
        rows.append(("hibernates", f"{clock(view.warning.act_at)} (in {left}), unless it is used"))
        rows.append(("to keep it up", f"dumont keep-alive {view.name} 2h"))
    if view.keep_alive is not None:
        why = f": {view.keep_alive.reason}" if view.keep_alive.reason else ""
        rows.append(
            ("kept up", f"until {clock(view.keep_alive.until)} by {view.keep_alive.by}{why}")
        )
    if view.refusal is not None:
        rows.append(("last order", f"{clock(view.refusal.at)} came to nothing: {view.refusal.why}"))
    if view.why_not:
        rows.append(("nothing happens", view.why_not))
    return _card(rows)


def _signals(signals: Iterable[Signal]) -> Table:
    table = plain_table("SIGNAL", "SAYS", "VALUE", "IDLE IS", "WHY")
    for signal in signals:
        table.add_row(
            signal.name,
            Text(signal.says.value, style=_STYLES[signal.says.value]),
            Text(signal.value),
            Text(signal.limit),
            Text(signal.why),
        )
    return table


def _week(week: LastWeek) -> Table:
    table = plain_table("LAST WEEK", ">WOULD WARN", ">WOULD HIBERNATE", ">GPU HOURS NOT PAID FOR")
    rules: tuple[tuple[str, Replayed, str | None], ...] = (
        ("this rule", week.rule, None),
        ("GPU under 5 % for 3 min, nothing else", week.bare_rule, UNKNOWN),
    )
    for name, rule, warned in rules:
        table.add_row(
            name,
            warned or str(rule.warnings),
            str(rule.acts),
            f"{number(rule.saved_gpu_hours, digits=1)} (estimate)",
        )
    heard = span(week.minutes_heard * 60) if week.minutes_heard else "none of it"
    table.caption = f"{heard} was observed; the rest is unknown, and unknown is active"
    table.caption_justify = "left"
    return table


def _stretches(stretches: Iterable[Stretch]) -> Table:
    table = plain_table("QUIET SINCE", "WARNED", "HIBERNATED", "UNTIL", "ENDED BY")
    for stretch in stretches:
        table.add_row(
            clock(stretch.idle_since),
            _hour(stretch.warned_at),
            _hour(stretch.acted_at),
            clock(stretch.until),
            Text(stretch.ended_by or "it lasts"),
        )
    return table


def _hour(moment: datetime | None) -> str:
    return UNKNOWN if moment is None else moment.astimezone().strftime("%H:%M")


def _card(rows: Iterable[tuple[str, str | Text]]) -> Table:
    card = Table.grid(padding=(0, 2))
    card.add_column(style="dim", no_wrap=True)
    card.add_column(overflow="fold")
    for name, value in rows:
        card.add_row(name, value if isinstance(value, Text) else Text(value))
    return card
