"""`dumont idle` and `keep-alive`: why a machine counts as idle, when, and keeping it up."""

from __future__ import annotations

import re
from typing import Annotated, Final

import typer

from dumont.cli.completion import machine_names
from dumont.cli.output import print_json, say, show
from dumont.cli.session import JSON, session_of

app = typer.Typer(no_args_is_help=True, help="Whether machines are idle, and what happens then.")

NAME = typer.Argument(metavar="NAME", help="Its name or id.", autocompletion=machine_names)

_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_PART: Final = re.compile(r"(\d{1,7}(?:\.\d{1,3})?) ?(s|min|m|h|d)? ?")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+")
_OPTIONS: Final = {
    "gpu_percent": "--gpu-percent",
    "cpu_cores": "--cpu-cores",
    "idle_for_s": "--idle-for",
    "memory_held_for_s": "--memory-held-for",
    "session_quiet_s": "--session-quiet",
    "kernel_quiet_s": "--kernel-quiet",
    "warn_s": "--warn",
    "grace_s": "--grace",
}


def _time(option: str, help: str) -> typer.models.OptionInfo:
    made: typer.models.OptionInfo = typer.Option(option, metavar="TIME", help=help)
    return made


@app.command("explain")
def explain(
    ctx: typer.Context, name: Annotated[str, NAME], json: Annotated[bool, JSON] = False
) -> None:
    """Whether a machine is idle now, what says so, and what the rule would have done last week.

    What is not known counts as active.
    """
    from dumont.cli.idle_views import explanation

    view = session_of(ctx).api().idle.explain(ref=name)
    if json:
        print_json(view)
    else:
        show(what=explanation(view=view))


@app.command("policy")
def policy(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    on: Annotated[
        bool | None, typer.Option("--on/--off", help="Whether it may hibernate by itself.")
    ] = None,
    idle_for: Annotated[str | None, _time("--idle-for", "So long nothing happens.")] = None,
    warn: Annotated[str | None, _time("--warn", "From the warning to the act.")] = None,
    gpu_percent: Annotated[
        float | None,
        typer.Option("--gpu-percent", metavar="P", help="Under this load the GPU is quiet."),
    ] = None,
    cpu_cores: Annotated[
        float | None,
        typer.Option("--cpu-cores", metavar="N", help="Under so many busy cores it is quiet."),
    ] = None,
    memory_held_for: Annotated[
        str | None,
        _time("--memory-held-for", "Instead of --idle-for while GPU memory is held."),
    ] = None,
    session_quiet: Annotated[
        str | None, _time("--session-quiet", "Since the last key or output of a login.")
    ] = None,
    kernel_quiet: Annotated[
        str | None, _time("--kernel-quiet", "Since the last work of a notebook's kernel.")
    ] = None,
    grace: Annotated[str | None, _time("--grace", "After a start.")] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Show or change when a machine counts as idle. Only what is said changes.

    TIME is `90s`, `3m`, `1h30m` or `2d`; a number alone is minutes.
    """
    from dumont.cli.idle_views import policy_card
    from dumont.cli.orders import order
    from dumont.domain.idle_resources import IdlePolicyOrder

    times = {
        "idle_for_s": idle_for,
        "warn_s": warn,
        "memory_held_for_s": memory_held_for,
        "session_quiet_s": session_quiet,
        "kernel_quiet_s": kernel_quiet,
        "grace_s": grace,
    }
    said: dict[str, object] = {
        field: seconds(text, option=_OPTIONS[field])
        for field, text in times.items()
        if text is not None
    }
    given = {"enabled": on, "gpu_percent": gpu_percent, "cpu_cores": cpu_cores}
    said |= {field: value for field, value in given.items() if value is not None}
    calls = session_of(ctx).api().idle
    if said:
        found = calls.set_policy(ref=name, order=order(IdlePolicyOrder, said, options=_OPTIONS))
    else:
        found = calls.explain(ref=name).policy
    if json:
        print_json(found)
    else:
        show(what=policy_card(policy=found))


def keep_alive(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    time: Annotated[
        str, typer.Argument(metavar="[TIME]", help="`90m`, `2h`, `1d`; seven days at most.")
    ] = "2h",
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="For whoever else wonders.")
    ] = "",
    stop: Annotated[
        bool, typer.Option("--stop", help="Keep it up no longer than it is used.")
    ] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Keep a machine up for a while, however idle it is; a warning that stands is withdrawn at once."""
    from dumont.cli.orders import order
    from dumont.cli.text import clock, span
    from dumont.domain.idle_resources import KeepAliveOrder

    calls = session_of(ctx).api().idle
    if stop:
        calls.stop_keep_alive(ref=name)
        if json:
            print_json({"keep_alive": None})
        else:
            say(f"{name} stays up no longer than it is used.")
        return
    for_s = seconds(time, option="TIME")
    wish = order(
        KeepAliveOrder,
        {"seconds": for_s, "reason": reason},
        options={"seconds": "TIME", "reason": "--reason"},
    )
    kept = calls.keep_alive(ref=name, order=wish)
    if json:
        print_json(kept)
    else:
        say(f"{name} stays up until {clock(kept.until)} ({span(for_s)}), however idle it is.")
        say(f"  no longer  dumont keep-alive {name} --stop")


def seconds(text: str, *, option: str) -> float:
    """A time as a person types it, in seconds: `90s`, `3m`, `1h30m`, `2d`; a number alone is minutes.

    Args:
        text: What was typed.
        option: What to call it in an error.

    Raises:
        InvalidInput: It is no such time.
    """
    from dumont.domain.errors import InvalidInput

    words = text.strip().lower()
    if not _WHOLE.fullmatch(words):
        raise InvalidInput(
            f"{text!r} is not a time", field=option, hint="it is like 90s, 3m, 1h30m or 2d"
        )
    return sum(float(count) * _UNITS[unit or "m"] for count, unit in _PART.findall(words))
