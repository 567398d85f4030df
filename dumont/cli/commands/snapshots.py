"""`dumont snapshot`, `snapshots` and `snapshot-diff`, `-pin`, `-forget`, `-prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.completion import machine_names
from dumont.cli.output import notice, print_json, say, stdout_console
from dumont.cli.output import show as display
from dumont.cli.session import JSON, session_of

if TYPE_CHECKING:
    from dumont.cli.snapshot_calls import SnapshotCalls

NAME = typer.Argument(metavar="NAME", help="Its name or id.", autocompletion=machine_names)
SNAPSHOT = typer.Argument(
    metavar="SNAPSHOT", help="A snapshot's id, the beginning of one, or `latest`."
)


def snapshot(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    pin: Annotated[bool, typer.Option("--pin", help="No rule deletes it.")] = False,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="T", help="Mark it; repeatable.")
    ] = None,
    no_flush: Annotated[
        bool,
        typer.Option("--no-flush", help="Read from the standby, do not wait for the last writes."),
    ] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Keep a machine's workspace as it is now, and watch it.

    Ctrl-C stops watching, not the snapshot.
    """
    from dumont.cli.orders import order
    from dumont.cli.run_progress import no_result, watch
    from dumont.cli.snapshot_views import made_lines
    from dumont.domain.snapshot_resources import SnapshotOrder

    wanted = order(
        SnapshotOrder,
        {"tags": tuple(tag or ()), "pinned": pin, "flush": not no_flush},
        options={"tags": "--tag"},
    )
    calls = session_of(ctx).api().snapshots
    view = watch(
        calls,
        calls.make(ref=name, order=wanted),
        title=f"snapshot of {name}",
        goes_on=f"the snapshot goes on. `dumont snapshots {name}` lists it when it is made.",
        quiet=json,
    )
    if view.snapshot is None:
        raise no_result(view)
    if json:
        print_json(view.snapshot)
        return
    for line in made_lines(name=name, made=view.snapshot):
        say(line)


def snapshots(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    snapshot: Annotated[
        str | None,
        typer.Argument(metavar="SNAPSHOT", help="Only this one, and what is in it."),
    ] = None,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="What is in this folder of it; the top.")
    ] = "",
    json: Annotated[bool, JSON] = False,
) -> None:
    """A machine's snapshots, or what is in one of them."""
    calls = session_of(ctx).api().snapshots
    if snapshot is None:
        _list(calls, name, json=json)
    else:
        _look_into(calls, name, snapshot, path, json=json)


def snapshot_diff(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    old: Annotated[str, typer.Argument(metavar="OLD", help="The older snapshot.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The newer one, or `latest`.")],
    json: Annotated[bool, JSON] = False,
) -> None:
    """What changed between two snapshots: + added, - removed, M changed, t touched."""
    from dumont.cli.snapshot_views import change_line, totals

    calls = session_of(ctx).api().snapshots
    since = calls.full_id(ref=name, snapshot=old)
    found = calls.changes(ref=name, snapshot=new, since=since)
    if json:
        print_json(found)
        return
    console = stdout_console()
    for change in found.items:
        console.print(change_line(change=change), soft_wrap=True)
    if found.more:
        notice(f"Only the first {len(found.items):,} are shown.")
    say(totals(found.totals))


def snapshot_pin(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    snapshot: Annotated[str, SNAPSHOT],
    off: Annotated[
        bool, typer.Option("--off", help="Let the rules decide about it again.")
    ] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Let no rule delete a snapshot."""
    from dumont.domain.snapshot_resources import PinOrder

    calls = session_of(ctx).api().snapshots
    which = calls.full_id(ref=name, snapshot=snapshot)
    record = calls.pin(ref=name, snapshot=which, order=PinOrder(pinned=not off))
    if json:
        print_json(record)
    elif record.pinned:
        say(f"{record.snapshot_id} is pinned: it stays until you forget it.")
    else:
        say(f"{record.snapshot_id} is not pinned any more: it stays as long as the policy says.")


def snapshot_forget(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    snapshot: Annotated[str, SNAPSHOT],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a snapshot. `snapshot-prune` frees the space that no other needs."""
    from dumont.cli.confirm import confirm
    from dumont.cli.text import age

    calls = session_of(ctx).api().snapshots
    if yes:
        which = calls.full_id(ref=name, snapshot=snapshot)
    else:
        one = calls.get(ref=name, snapshot=snapshot).snapshot
        which = one.snapshot_id
        pinned = " It is pinned." if one.pinned else ""
        confirm(
            what=f"forgetting {which} of {name}",
            warning=f"{which} of {name}, {age(one.taken_at)} old, is deleted.{pinned} "
            "There is no way back.",
        )
    calls.forget(ref=name, snapshot=which)
    say(f"{which} is forgotten. `dumont snapshot-prune {name} --yes` frees what it alone needed.")


def snapshot_prune(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do it, instead of saying what would be freed.")
    ] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Free what no snapshot of any of your machines needs; without --yes only say how much it is."""
    from dumont.cli.run_progress import look_later, no_result, watch
    from dumont.cli.snapshot_views import pruned_line
    from dumont.domain.snapshot_resources import PruneOrder

    calls = session_of(ctx).api().snapshots
    started = calls.prune(ref=name, order=PruneOrder(dry_run=not yes))
    view = watch(
        calls,
        started,
        title="prune" if yes else "prune (dry run)",
        goes_on=f"the prune goes on. {look_later(started)}",
        quiet=json,
    )
    if view.pruned is None:
        raise no_result(view)
    if json:
        print_json(view.pruned)
        return
    say(pruned_line(done=view.pruned))
    if view.pruned.dry_run:
        notice(f"Nothing was deleted. `dumont snapshot-prune {name} --yes` does it.")


def _list(calls: SnapshotCalls, name: str, *, json: bool) -> None:
    from dumont.cli.snapshot_views import health_line, policy_line, snapshot_table

    found = calls.list(ref=name)
    if json:
        print_json(found)
        return
    display(what=health_line(found=found))
    say(policy_line(policy=found.policy, next_at=found.next_at))
    if found.items:
        say("")
        width = stdout_console().width
        display(what=snapshot_table(snapshots=found.items, width=width))
    elif found.policy is not None:
        notice(f"No snapshots. `dumont snapshot {name}` makes one.")


def _look_into(calls: SnapshotCalls, name: str, snapshot: str, path: str, *, json: bool) -> None:
    from dumont.cli.orders import workspace_path
    from dumont.cli.snapshot_views import entry_line, in_workspace, snapshot_card

    folder = workspace_path(path, option="PATH", or_top=True)
    detail = calls.get(ref=name, snapshot=snapshot)
    # `latest` may be another one by the second page: the id is what was looked up first.
    pages = calls.pages(ref=name, snapshot=detail.snapshot.snapshot_id, path=folder)
    if json:
        items = [entry.model_dump(mode="json") for page in pages for entry in page.items]
        print_json({**detail.model_dump(mode="json"), "path": folder, "items": items})
        return
    display(what=snapshot_card(detail=detail))
    say("")
    say(f"{in_workspace(folder)}:")
    for page in pages:
        for entry in page.items:
            say(entry_line(entry=entry))
