"""`dumont ledger`: what machines cost, line by line, and how it is known."""

from __future__ import annotations

from datetime import date
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.completion import machine_names
from dumont.cli.output import notice, print_json, say, show
from dumont.cli.session import JSON, session_of

if TYPE_CHECKING:
    from dumont.cli.ledger_calls import LedgerCalls, Query


def ledger(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Only this machine's, by its name or id.",
            autocompletion=machine_names,
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DAY", help="First day (UTC), as 2026-11-01.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DAY", help="Last day, included.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="WHAT", help="Sums by machine, day, gpu or item."),
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Bills beside what was seen, line by line.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many lines.")
    ] = 100,
    json: Annotated[bool, JSON] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print all of it as CSV.")] = False,
) -> None:
    """List what was paid for: one line for each resource, item and day of UTC.

    With --by sums instead. A price that is unknown is shown as unknown, and makes a sum "at least".
    """
    from dumont.domain.errors import InvalidInput

    if csv and json:
        raise InvalidInput("give either --csv or --json", field="--csv")
    if audit and by is not None:
        raise InvalidInput("an audit is line by line", field="--by")
    query: Query = {
        "machine": name,
        "from": _day(since, "--since"),
        "to": _day(until, "--until"),
        "by": _kind(by),
    }
    calls = session_of(ctx).api().ledger
    if csv:
        path = "/ledger/audit" if audit else "/ledger/summary" if by else "/ledger"
        say(calls.table(path, query).rstrip("\r\n").replace("\r\n", "\n"))
    elif audit:
        _audit(calls, query, json=json)
    elif by is not None:
        _sums(calls, query, json=json)
    else:
        _lines(calls, query, limit=limit, json=json)


def _lines(calls: LedgerCalls, query: Query, *, limit: int, json: bool) -> None:
    from dumont.cli.ledger_views import line_table

    found = list(islice(calls.lines(query, limit=limit + 1), limit + 1))
    shown = found[:limit]
    if json:
        print_json(shown)
    elif shown:
        show(what=line_table(shown))
    else:
        notice("The ledger has no such line.")
    if len(found) > limit:
        notice(f"There are more: the newest {limit} are shown (--limit, --since, --csv).")


def _sums(calls: LedgerCalls, query: Query, *, json: bool) -> None:
    from dumont.cli.ledger_views import not_measured, sum_table

    found = calls.summary(query)
    if json:
        print_json(found)
        return
    if not found.items:
        notice("The ledger has no such line.")
        return
    show(what=sum_table(found))
    notice(not_measured(found))


def _audit(calls: LedgerCalls, query: Query, *, json: bool) -> None:
    from dumont.cli.ledger_views import audit_table

    found = calls.audit(query)
    if json:
        print_json(found)
    elif found.items:
        show(what=audit_table(found.items))
    else:
        notice("No bill has a whole line of this time yet.")


def _day(text: str | None, option: str) -> str | None:
    from dumont.domain.errors import InvalidInput

    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise InvalidInput(
            f"{text!r} is not a day", field=option, hint="write it as 2026-11-01"
        ) from None


def _kind(text: str | None) -> str | None:
    from dumont.domain.errors import InvalidInput
    from dumont.domain.ledger import By

    if text is not None and text not in {by.value for by in By}:
        raise InvalidInput(
            f"no sums by {text!r}", field="--by", hint=f"one of {', '.join(b.value for b in By)}"
        )
    return text
