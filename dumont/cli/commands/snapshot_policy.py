"""`dumont snapshot-policy`: when snapshots are made, of what, and how long they stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.commands.snapshots import NAME
from dumont.cli.output import print_json
from dumont.cli.output import show as display
from dumont.cli.session import JSON, session_of

if TYPE_CHECKING:
    from dumont.domain.errors import InvalidInput
    from dumont.domain.snapshot_resources import SnapshotPolicyOrder
    from dumont.domain.snapshots import SnapshotPolicy

_OPTIONS = {
    "every_minutes": "--every",
    "cron": "--cron",
    "excludes": "--exclude",
    "last": "--keep-last",
    "hourly": "--keep-hourly",
    "daily": "--keep-daily",
    "weekly": "--keep-weekly",
    "monthly": "--keep-monthly",
}


def _keep(period: str, help: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(f"--keep-{period}", metavar="N", help=help)
    return option


def snapshot_policy(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    every: Annotated[
        int | None,
        typer.Option("--every", metavar="5|15|30|60", help="Make one every so many minutes."),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option("--cron", metavar="LINE", help="Make one when this cron line says so, UTC."),
    ] = None,
    never: Annotated[bool, typer.Option("--never", help="Make one only when asked.")] = False,
    keep_last: Annotated[int | None, _keep("last", "So many of the newest stay.")] = None,
    keep_hourly: Annotated[int | None, _keep("hourly", "The newest of so many hours stay.")] = None,
    keep_daily: Annotated[int | None, _keep("daily", "The newest of so many days stay.")] = None,
    keep_weekly: Annotated[int | None, _keep("weekly", "The newest of so many weeks stay.")] = None,
    keep_monthly: Annotated[
        int | None, _keep("monthly", "The newest of so many months stay.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="P",
            help="Leave out what matches this .gitignore pattern; repeatable; replaces the old ones.",
        ),
    ] = None,
    no_exclude: Annotated[bool, typer.Option("--no-exclude", help="Leave nothing out.")] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Show or change when snapshots are made, of what, and how long they stay.

    Only what is said changes.
    """
    from dumont.cli.snapshot_views import policy_card
    from dumont.domain.errors import PreconditionFailed

    said = _clock(every=every, cron=cron, never=never)
    if exclude and no_exclude:
        raise _contradiction("--exclude", "--no-exclude")
    if exclude or no_exclude:
        said["excludes"] = exclude or []
    counts = {
        "last": keep_last,
        "hourly": keep_hourly,
        "daily": keep_daily,
        "weekly": keep_weekly,
        "monthly": keep_monthly,
    }
    kept = {period: count for period, count in counts.items() if count is not None}
    calls = session_of(ctx).api().snapshots
    found = calls.list(ref=name)
    if found.policy is not None and (said or kept):
        found = calls.set_policy(ref=name, order=_changed(found.policy, said, kept))
    if found.policy is None:
        raise PreconditionFailed(
            "this deployment has no store, so there are no snapshots",
            hint="whoever runs it can configure one",
        )
    if json:
        print_json(found.policy)
    else:
        display(what=policy_card(policy=found.policy, next_at=found.next_at))


def _clock(*, every: int | None, cron: str | None, never: bool) -> dict[str, object]:
    """What was said about when."""
    from dumont.domain.errors import InvalidInput

    given = [
        option
        for option, is_given in (
            ("--every", every is not None),
            ("--cron", cron is not None),
            ("--never", never),
        )
        if is_given
    ]
    if len(given) > 1:
        raise _contradiction(*given[:2])
    if every is not None and every not in (5, 15, 30, 60):
        raise InvalidInput(
            f"{every} is not an interval that there is",
            field="--every",
            hint="it is 5, 15, 30 or 60 minutes; `--cron '0 */6 * * *'` says anything else",
        )
    # One clock takes the place of the other.
    return {"every_minutes": every, "cron": cron} if given else {}


def _changed(
    policy: SnapshotPolicy, said: dict[str, object], kept: dict[str, int]
) -> SnapshotPolicyOrder:
    from dumont.cli.orders import order
    from dumont.domain.snapshot_resources import SnapshotPolicyOrder

    present = policy.model_dump(mode="json")
    retention = {**present["retention"], **kept}
    return order(SnapshotPolicyOrder, {**present, **said, "retention": retention}, options=_OPTIONS)


def _contradiction(one: str, other: str) -> InvalidInput:
    from dumont.domain.errors import InvalidInput

    return InvalidInput(
        f"{one} and {other} exclude each other", field=one, hint="leave one of them out"
    )
