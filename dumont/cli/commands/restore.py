"""`dumont restore`: a snapshot brought back into a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.commands.snapshots import NAME
from dumont.cli.completion import machine_names
from dumont.cli.exit_codes import ExitCode
from dumont.cli.output import notice, print_json, say
from dumont.cli.session import JSON, session_of

if TYPE_CHECKING:
    from dumont.cli.snapshot_calls import SnapshotCalls
    from dumont.domain.snapshot_resources import RestoreOrder


def restore(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    snapshot: Annotated[
        str,
        typer.Argument(metavar="SNAPSHOT", help="Its id, or the beginning of it; the newest."),
    ] = "latest",
    path: Annotated[
        list[str] | None,
        typer.Option("--path", metavar="P", help="Only this, and what is below; repeatable."),
    ] = None,
    of: Annotated[
        str | None,
        typer.Option(
            "--of",
            metavar="OTHER",
            help="A snapshot of another machine of yours.",
            autocompletion=machine_names,
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            metavar="FOLDER",
            help="A folder of the workspace; `restored/SNAPSHOT` when left out.",
        ),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Into the workspace itself, over what is there.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Bring a snapshot back into a machine, and watch it.

    Ctrl-C stops watching, not the restore. It ends with 1 when something could not be brought back.
    """
    from dumont.cli.run_progress import look_later, no_result, watch
    from dumont.cli.snapshot_views import problem_lines, restored_lines

    calls = session_of(ctx).api().snapshots
    order = _order(calls, name, snapshot, path or [], of, into, in_place=in_place, ask=not yes)
    started = calls.restore(ref=name, order=order)
    view = watch(
        calls,
        started,
        title=f"restore into {name}",
        goes_on=f"the restore goes on. {look_later(started)}",
        quiet=json,
    )
    done = view.restored
    if done is None:
        raise no_result(view)
    if json:
        print_json(done)
    else:
        for line in restored_lines(name=name, done=done):
            say(line)
    for line in problem_lines(done=done):
        notice(line)
    if done.problems:
        raise typer.Exit(ExitCode.FAILURE)


def _order(
    calls: SnapshotCalls,
    name: str,
    snapshot: str,
    paths: list[str],
    of: str | None,
    into: str | None,
    *,
    in_place: bool,
    ask: bool,
) -> RestoreOrder:
    """What to ask for, once it is clear and the owner has agreed to it.

    Raises:
        InvalidInput: An option makes no sense, or nobody can be asked.
        typer.Exit: The owner does not agree.
    """
    from dumont.cli.calls import part
    from dumont.cli.orders import order, workspace_path
    from dumont.domain.errors import InvalidInput
    from dumont.domain.snapshot_resources import RestoreOrder
    from dumont.domain.snapshots import LATEST

    if in_place and into is not None:
        raise InvalidInput(
            "in place is into the workspace itself, not into a folder of it",
            field="--in-place",
            hint="leave --in-place out, or --into",
        )
    wanted = {
        "of": None if of is None else part(of, field="--of"),
        "paths": tuple(workspace_path(one, option="--path") for one in paths),
        "into": None if into is None else workspace_path(into, option="--into"),
        "in_place": in_place,
    }
    options = {"of": "--of", "paths": "--path", "into": "--into", "in_place": "--in-place"}
    order(RestoreOrder, wanted, options=options)  # what is wrong is said before anything is asked
    owner = of or name
    if in_place and ask:
        snapshot = _agreed(calls, name, snapshot, owner)
    elif snapshot != LATEST:
        snapshot = calls.full_id(ref=owner, snapshot=snapshot)
    return order(RestoreOrder, {**wanted, "snapshot": snapshot}, options=options)


def _agreed(calls: SnapshotCalls, name: str, snapshot: str, owner: str) -> str:
    """The id of the snapshot that the owner agrees to have in the workspace."""
    from dumont.cli.confirm import confirm
    from dumont.cli.text import age

    one = calls.get(ref=owner, snapshot=snapshot).snapshot
    confirm(
        what=f"restoring over the workspace of {name}",
        warning=f"Files in the workspace of {name} are replaced by those of {one.snapshot_id} of "
        f"{owner}, {age(one.taken_at)} old. What is there now is kept in a snapshot first; files "
        "that the older one does not have stay.",
    )
    return one.snapshot_id
