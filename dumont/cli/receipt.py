"""Receipts of failovers as people read them. What is not known says so; it is never a zero."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dumont.cli.text import UNKNOWN, clock, gpus, number, size, span, usd
from dumont.domain.receipts import Body, Phase, Receipt, Unreplicated
from dumont.domain.resources import ReceiptView

_OUTCOMES = {
    "healed": ("a false alarm: the link came back, nothing had been written", "green"),
    "returned": ("back on the same GPU, with everything", "green"),
    "replaced": ("back on another GPU, with everything", "green"),
}
_PHASES: dict[Phase, str] = {
    "detected": "the link to the GPU was lost",
    "redirected": "the address led to the standby",
    "reported": "we heard of it",
    "fenced": "the former GPU could write nothing any more",
    "provisioned": "another GPU was ready",
    "restored": "the workspace was back on it",
    "verified": "both sides were the same by hash",
    "failed_back": "the address led to the GPU again",
}
_NAMES_SHOWN = 20


def receipt_table(*, views: Iterable[ReceiptView]) -> Table:
    """`dumont receipts NAME`: a line each."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for head in ("N", "WHEN", "OUTCOME", "CAUSE", "NOT REPLICATED"):
        table.add_column(head, overflow="fold")
    for head in ("REDIRECT", "ON A GPU", "COST"):
        table.add_column(head, justify="right", no_wrap=True)
    for view in views:
        receipt = view.receipt
        table.add_row(
            str(receipt.number),
            clock(receipt.detected_at),
            receipt.outcome + (" (drill)" if receipt.drill else ""),
            Text(receipt.cause),
            Text(_lost_briefly(receipt.unreplicated)),
            _after(receipt, "redirected"),
            _after(receipt, "failed_back"),
            usd(_total(receipt)),
        )
    return table


def receipt_card(*, view: ReceiptView) -> Group:
    """`dumont receipts NAME N`, and the end of a drill: everything."""
    receipt = view.receipt
    words, style = _OUTCOMES[receipt.outcome]
    head = Text(f"Failover {receipt.number} of {receipt.machine_name}", style="bold")
    head.append(" (a drill)" if receipt.drill else "", style="magenta")
    head.append(f"  {words}", style=style)
    return Group(head, Text(), _timeline(receipt), Text(), _facts(view))


def _timeline(receipt: Receipt) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("WHAT")
    table.add_column("AT", no_wrap=True)
    table.add_column("AFTER", justify="right", no_wrap=True)
    for moment in receipt.timeline:
        table.add_row(_PHASES[moment.phase], clock(moment.at), _ms(moment.ms))
    return table


def _facts(view: ReceiptView) -> Table:
    receipt = view.receipt
    card = Table.grid(padding=(0, 2))
    card.add_column(style="dim", no_wrap=True)
    card.add_column(overflow="fold")
    rows = [
        ("cause", receipt.cause),
        *(("witness", f"{w.said} ({_when(w.at)})") for w in receipt.witnesses),
        ("former", _body(receipt.former)),
        ("now", _body(receipt.adopted)),
        ("standby", _body(receipt.standby)),
        ("epoch", f"{receipt.epoch_before} -> {receipt.epoch_after}"),
        ("not on standby", _lost(receipt.unreplicated)),
        *_names("", receipt.unreplicated.names, receipt.unreplicated.files),
        ("conflicts", _conflicts(receipt)),
        *_names("", receipt.conflicts, None),
        ("restored", _restored(receipt)),
        ("logins paused", UNKNOWN if receipt.quiesced_s is None else span(receipt.quiesced_s)),
        ("cost", _cost(receipt)),
        ("sha256", view.digest),
    ]
    for name, value in rows:
        card.add_row(name, Text(value))
    return card


def _when(at: object) -> str:
    return f"at {clock(at)}" if at is not None else "it said nothing"  # type: ignore[arg-type]


def _body(body: Body) -> str:
    parts = [f"{body.provider} {body.instance_id} ({body.label})"]
    if body.gpu:
        parts.append(gpus(count=1, model=body.gpu))
    if body.region:
        parts.append(body.region)
    if body.host_id:
        parts.append(f"host {body.host_id}")
    return ", ".join(parts)


def _lost_briefly(lost: Unreplicated) -> str:
    if lost.files is None or lost.bytes is None:
        return "unknown"
    if lost.files == 0:
        return "nothing"
    return f"{lost.files:,} {'file' if lost.files == 1 else 'files'}, {size(lost.bytes)}"


def _lost(lost: Unreplicated) -> str:
    point = (
        f"; everything before {clock(lost.last_point_at)} was there" if lost.last_point_at else ""
    )
    if lost.files is None or lost.bytes is None:
        return f"unknown: {lost.why_unknown or 'nobody could say'}{point}"
    return f"{_lost_briefly(lost)}{point}"


def _conflicts(receipt: Receipt) -> str:
    if not receipt.conflicts:
        return "none"
    return f"{len(receipt.conflicts):,}, kept under .dumont/conflicts/"


def _names(label: str, names: tuple[str, ...], total: int | None) -> list[tuple[str, str]]:
    rows = [(label, f"  {name}") for name in names[:_NAMES_SHOWN]]
    left = max(total or 0, len(names)) - len(rows)
    return rows + ([(label, f"  and {left:,} more")] if names and left > 0 else [])


def _restored(receipt: Receipt) -> str:
    if receipt.files_restored is None:
        return UNKNOWN
    checked = number(receipt.entries_verified)
    what = f"{receipt.files_restored:,} files, {size(receipt.bytes_restored)}"
    return f"{what}; {checked} entries compared by hash"


def _cost(receipt: Receipt) -> str:
    cost = receipt.cost
    total = usd(_total(receipt))
    parts = f"new GPU {usd(cost.replacement_usd)}, standby {usd(cost.standby_usd)} (estimate)"
    return f"{total} ({parts})" if _total(receipt) is not None else f"not all known: {parts}"


def _total(receipt: Receipt) -> float | None:
    """The sum, where every part of it is known."""
    cost = receipt.cost
    standby = cost.standby_usd
    if standby is None:
        return None
    if receipt.outcome != "replaced":
        return standby
    return None if cost.replacement_usd is None else standby + cost.replacement_usd


def _after(receipt: Receipt, phase: Phase) -> str:
    ms = receipt.ms(phase)
    return UNKNOWN if ms is None else _ms(ms)


def _ms(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else span(ms / 1000)
