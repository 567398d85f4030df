"""`dumont hours`: when a machine wakes and hibernates by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.completion import machine_names
from dumont.cli.output import print_json, say
from dumont.cli.output import show as display
from dumont.cli.session import JSON, session_of

if TYPE_CHECKING:
    from rich.table import Table

    from dumont.domain.errors import InvalidInput
    from dumont.domain.hours_resources import PlannedActView, WorkingHoursOrder, WorkingHoursView
    from dumont.domain.working_hours import WorkingHours

NAME = typer.Argument(metavar="NAME", help="Its name or id.", autocompletion=machine_names)
_OPTIONS = {
    "wake": "--wake",
    "hibernate": "--hibernate",
    "days": "--days",
    "timezone": "--tz",
    "holidays": "--holiday",
}
_LOCALTIME = Path("/etc/localtime")


def hours(
    ctx: typer.Context,
    name: Annotated[str, NAME],
    wake: Annotated[
        str | None, typer.Option("--wake", metavar="HH:MM", help="Wake it at this time of day.")
    ] = None,
    no_wake: Annotated[bool, typer.Option("--no-wake", help="Wake it only when asked.")] = False,
    hibernate: Annotated[
        str | None,
        typer.Option("--hibernate", metavar="HH:MM", help="Let it hibernate at this time of day."),
    ] = None,
    no_hibernate: Annotated[
        bool, typer.Option("--no-hibernate", help="No hour ends its work.")
    ] = False,
    days: Annotated[
        str | None,
        typer.Option("--days", metavar="DAYS", help="mon-fri, mon,wed,fri or daily."),
    ] = None,
    tz: Annotated[
        str | None,
        typer.Option("--tz", metavar="ZONE", help="By whose clock, for example Europe/Berlin."),
    ] = None,
    holiday: Annotated[
        list[str] | None,
        typer.Option("--holiday", metavar="DATE", help="Also skip this date; repeatable."),
    ] = None,
    no_holidays: Annotated[
        bool, typer.Option("--no-holidays", help="Skip none of the dates said before.")
    ] = False,
    pause: Annotated[
        bool | None, typer.Option("--pause/--resume", help="Do nothing by the clock for now.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Forget its working hours.")] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Show or change when a machine wakes and hibernates by itself.

    Only what is said changes.
    """
    _contradictions(
        ("--wake", wake is not None, "--no-wake", no_wake),
        ("--hibernate", hibernate is not None, "--no-hibernate", no_hibernate),
    )
    said: dict[str, object] = {
        field: value
        for field, value in (("wake", wake), ("hibernate", hibernate), ("days", days))
        if value is not None
    }
    said |= {"timezone": tz} if tz is not None else {}
    said |= {"wake": None} if no_wake else {}
    said |= {"hibernate": None} if no_hibernate else {}
    said |= {"paused": pause} if pause is not None else {}
    about_holidays = no_holidays or bool(holiday)
    _contradictions(("--off", off, "another option", bool(said) or about_holidays))
    calls = session_of(ctx).api().hours
    found = calls.get(ref=name)
    if off:
        calls.delete(ref=name)
        found = calls.get(ref=name)
    elif said or about_holidays:
        dates: list[object] = [] if no_holidays or found.hours is None else [*found.hours.holidays]
        if about_holidays:
            said["holidays"] = [*dates, *(holiday or ())]
        found = calls.put(ref=name, order=_changed(found.hours, said))
    if json:
        print_json(found)
    elif found.hours is None:
        say(f"{name} keeps no hours: it wakes and hibernates when asked.")
        say(f"  set some  dumont hours {name} --wake 08:45 --hibernate 19:00")
    else:
        display(what=_card(found, found.hours))


def _changed(before: WorkingHours | None, said: dict[str, object]) -> WorkingHoursOrder:
    from dumont.cli.orders import order
    from dumont.domain.errors import InvalidInput
    from dumont.domain.hours_resources import WorkingHoursOrder

    present: dict[str, object] = before.model_dump() if before is not None else {}
    if before is None and said.get("wake") is None and said.get("hibernate") is None:
        raise InvalidInput(
            "it keeps no hours yet",
            field="--wake",
            hint="say when to wake, when to hibernate, or both: --wake 08:45 --hibernate 19:00",
        )
    if before is None and "timezone" not in said:
        present["timezone"] = _here()
    return order(WorkingHoursOrder, {**present, **said}, options=_OPTIONS)


def _here() -> str:
    """The time zone of whoever types.

    Raises:
        InvalidInput: It cannot be told.
    """
    from dumont.domain.errors import InvalidInput
    from dumont.domain.working_hours import zone

    names = [os.environ.get("TZ", "").removeprefix(":")]
    if not names[0] and _LOCALTIME.exists():
        _, _, after = str(_LOCALTIME.resolve()).partition("zoneinfo/")
        names.append(after)
    for name in filter(None, names):
        try:
            zone(name)
        except ValueError:
            continue
        return name
    raise InvalidInput(
        "the time zone of this computer cannot be told",
        field="--tz",
        hint="name it, for example --tz Europe/Berlin",
    )


def _contradictions(*pairs: tuple[str, bool, str, bool]) -> None:
    for one, is_given, other, other_is_given in pairs:
        if is_given and other_is_given:
            raise _contradiction(one, other)


def _contradiction(one: str, other: str) -> InvalidInput:
    from dumont.domain.errors import InvalidInput

    return InvalidInput(
        f"{one} and {other} exclude each other", field=one, hint="leave one of them out"
    )


def _card(found: WorkingHoursView, kept: WorkingHours) -> Table:
    from rich.table import Table
    from rich.text import Text

    from dumont.domain.working_hours import days_text

    card = Table.grid(padding=(0, 2))
    card.add_column(style="dim", no_wrap=True)
    card.add_column(overflow="fold")
    card.add_row("wakes", f"{kept.wake:%H:%M}" if kept.wake else "only when asked")
    card.add_row("hibernates", f"{kept.hibernate:%H:%M}" if kept.hibernate else "at no hour")
    card.add_row("days", days_text(kept.days))
    card.add_row("by the clock of", kept.timezone)
    if kept.holidays:
        card.add_row("not on", ", ".join(day.isoformat() for day in kept.holidays))
    if kept.paused:
        card.add_row("paused", Text("nothing is done until `--resume`", style="yellow"))
    elif found.next is None:
        card.add_row("next", "not known at this moment")
    for number, coming in enumerate(found.next or ()):
        card.add_row("next" if number == 0 else "", _line(coming))
    return card


def _line(coming: PlannedActView) -> str:
    return f"{coming.local:%a %Y-%m-%d %H:%M}  {coming.act.value}"
