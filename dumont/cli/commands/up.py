"""`dumont up`: ask for a machine, watch it climb, say how to connect."""

from __future__ import annotations

import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dumont.cli.completion import gpu_names
from dumont.cli.exit_codes import ExitCode
from dumont.cli.output import notice, print_json, say, stderr_console
from dumont.cli.session import JSON, session_of

if TYPE_CHECKING:
    from dumont.cli.client import Api
    from dumont.cli.ssh_keys import LocalKey
    from dumont.domain.errors import DumontError
    from dumont.domain.resources import EventView, MachineCreate, MachineView

_OPTIONS = {
    "name": "NAME",
    "gpu": "--gpu",
    "gpu_count": "--gpus",
    "max_usd_per_hour": "--max-price",
    "disk_gb": "--disk",
    "min_reliability": "--min-reliability",
    "regions": "--region",
    "image": "--image",
    "setup_script": "--setup",
    "ssh_keys": "--ssh-key",
    "protection": "--no-protection",
    "enabled": "--no-protection",
    "failback": "--failback",
    "standby_type": "--standby-type",
    "asleep": "--asleep",
    "standby_spot": "--standby-on-demand",
    "excludes": "--exclude",
}
"""The option a person typed for each field of the request."""


def up(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it: letters, digits and hyphens.")],
    gpu: Annotated[
        str,
        typer.Option("--gpu", help='GPU model, for example "RTX 4090".', autocompletion=gpu_names),
    ],
    max_price: Annotated[
        float,
        typer.Option(
            "--max-price", metavar="USD", help="Pay at most this per hour, disk included."
        ),
    ],
    gpus: Annotated[int, typer.Option("--gpus", metavar="N", help="How many GPUs.")] = 1,
    disk: Annotated[float, typer.Option("--disk", metavar="GB", help="Disk space.")] = 20,
    on_demand: Annotated[
        bool, typer.Option("--on-demand", help="Do not bid: pay the fixed price.")
    ] = False,
    region: Annotated[
        list[str] | None,
        typer.Option(
            "--region", metavar="CC", help="Only in this country (DE, US ...); repeatable."
        ),
    ] = None,
    min_reliability: Annotated[
        float | None,
        typer.Option(
            "--min-reliability", metavar="0..1", help="Only hosts that score at least this."
        ),
    ] = None,
    image: Annotated[str | None, typer.Option("--image", help="Container image to run.")] = None,
    ssh_key: Annotated[
        list[Path] | None,
        typer.Option(
            "--ssh-key",
            metavar="PATH",
            help="Only this key pair may log in; repeatable. Your stored keys and this computer's "
            "otherwise.",
        ),
    ] = None,
    setup: Annotated[
        Path | None,
        typer.Option("--setup", metavar="FILE", help="Shell script to run at every start."),
    ] = None,
    no_protection: Annotated[
        bool,
        typer.Option("--no-protection", help="No standby: the work is lost with the GPU."),
    ] = False,
    failback: Annotated[
        str | None,
        typer.Option(
            "--failback",
            metavar="WHEN",
            help="After a failover, return to a GPU at-once, when-idle (the default) or on-command.",
        ),
    ] = None,
    standby_type: Annotated[
        str | None,
        typer.Option("--standby-type", metavar="TYPE", help="Machine type of the standby."),
    ] = None,
    standby_on_demand: Annotated[
        bool,
        typer.Option(
            "--standby-on-demand", help="A standby that its cloud does not take back, for more."
        ),
    ] = False,
    asleep: Annotated[
        str | None,
        typer.Option(
            "--asleep",
            metavar="keep|end",
            help="While it hibernates, keep its standby as a shell, or give it back (the default).",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="PATTERN",
            help="Do not mirror what matches this rsync pattern; repeatable.",
        ),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return as soon as the machine is asked for.")
    ] = False,
    no_touch_ssh_config: Annotated[
        bool,
        typer.Option("--no-touch-ssh-config", help="Leave ~/.ssh/config as it is."),
    ] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Rent a machine and wait until it is ready.

    Ctrl-C stops watching, not the machine.
    """
    api = session_of(ctx).api()
    wanted = {
        "gpu": gpu,
        "gpu_count": gpus,
        "max_usd_per_hour": max_price,
        "disk_gb": disk,
        "rental": "on_demand" if on_demand else "spot",
        "regions": region or [],
        "min_reliability": min_reliability,
        "image": image,
    }
    request = _request(
        name=name,
        requirement={key: value for key, value in wanted.items() if value is not None},
        setup_script=_script(setup) if setup else "",
        protection=_protection(
            off=no_protection,
            failback=failback,
            standby_type=standby_type,
            standby_on_demand=standby_on_demand,
            asleep=asleep,
            excludes=exclude,
        ),
    )
    key, ssh_keys = _keys(api, ssh_key or [])
    machine = _create(api, request.model_copy(update={"ssh_keys": ssh_keys}))
    if not no_wait:
        machine = _watch(api, machine, quiet=json)
    from dumont.cli.commands.connect import link

    linked = link(api, machine, identity=key.private_path, touch=not no_touch_ssh_config)
    if json:
        print_json(machine)
    elif no_wait:
        say(f"{machine.name} is asked for ({machine.machine_id}).")
        say(f"  follow it  dumont events {machine.name} --follow")
    else:
        _announce(machine, plain_ssh=linked)


def _protection(
    *,
    off: bool,
    failback: str | None,
    standby_type: str | None,
    standby_on_demand: bool,
    asleep: str | None,
    excludes: list[str] | None,
) -> dict[str, object]:
    """What was said about protection; nothing leaves it to the server."""
    from dumont.domain.errors import InvalidInput

    said: dict[str, object] = {}
    if failback is not None:
        said["failback"] = failback.replace("-", "_")
    if standby_type is not None:
        said["standby_type"] = standby_type
    if standby_on_demand:
        said["standby_spot"] = False
    if asleep is not None:
        said["asleep"] = asleep
    if excludes:
        said["excludes"] = excludes
    if off and said:
        raise InvalidInput(
            "without a standby there is nothing to set about it",
            field="--no-protection",
            hint="leave it out, or leave the options of the standby out",
        )
    return {"enabled": False} if off else said


def _request(
    *,
    name: str,
    requirement: dict[str, object],
    setup_script: str,
    protection: dict[str, object],
) -> MachineCreate:
    """The request body, or an error that names the option at fault."""
    from pydantic import ValidationError

    from dumont.domain.errors import InvalidInput
    from dumont.domain.resources import MachineCreate

    try:
        return MachineCreate.model_validate(
            {
                "name": name,
                "requirement": requirement,
                "setup_script": setup_script,
                "protection": protection,
            }
        )
    except InvalidInput as error:
        raise _with_option(error) from None
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        field = str(first["loc"][-1])
        option = _OPTIONS.get(field, field)
        message = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
        shown = f" {first['input']}" if isinstance(first["input"], (int, float)) else ""
        raise InvalidInput(
            f"{option}{shown} is not possible: it {message}",
            field=option,
            hint="`dumont up --help` says what each option takes",
        ) from None


def _with_option(error: DumontError) -> DumontError:
    """The same error, naming the option instead of the API's field."""
    if error.field is not None:
        error.field = _OPTIONS.get(error.field.rpartition(".")[2], error.field)
    return error


def _script(path: Path) -> str:
    from dumont.domain.errors import InvalidInput

    try:
        return path.expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", field="--setup") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not text", field="--setup") from None


def _keys(api: Api, named: list[Path]) -> tuple[LocalKey, list[str]]:
    """The key to log in with, and the keys to send: none when the owner's stored ones will do."""
    from dumont.cli.ssh_keys import ensure_key, key_at, key_name
    from dumont.domain.errors import Forbidden
    from dumont.domain.resources import SshKeyCreate

    if named:
        pairs = [key_at(path=path) for path in named]
        return pairs[0], [pair.public_key for pair in pairs]
    key = ensure_key()
    if key.made_now:
        notice(
            f"You have no SSH key yet: made one for Dumont alone at {key.private_path}. "
            "Keep it: it opens your machines."
        )
    try:
        stored = api.ssh_keys()
        if not any(" ".join(k.public_key.split()[:2]) == key.material for k in stored):
            api.add_ssh_key(key=SshKeyCreate(name=key_name(), public_key=key.public_key))
            notice(f"Added {key.private_path}.pub to your SSH keys as {key_name()}.")
    except Forbidden:
        # An API key that may make machines but not change the account: this one machine gets it.
        return key, [key.public_key]
    return key, []


def _create(api: Api, request: MachineCreate) -> MachineView:
    from dumont.domain.errors import Conflict, DumontError

    try:
        return api.create_machine(machine=request, idempotency_key=str(uuid.uuid4()))
    except DumontError as error:
        if isinstance(error, Conflict) and error.hint is None:
            error.hint = (
                f"`dumont ssh {request.name}` enters it, `dumont destroy {request.name}` ends it"
            )
        raise _with_option(error) from None


def _watch(api: Api, machine: MachineView, *, quiet: bool) -> MachineView:
    """Watch until the machine runs.

    Raises:
        DumontError: It cannot get there now; the machine itself goes on trying.
        typer.Exit: Ctrl-C.
    """
    from rich.console import Console

    from dumont.cli.progress import Progress
    from dumont.cli.watch import Watcher
    from dumont.domain.errors import InstanceDead
    from dumont.domain.events import EventKind
    from dumont.domain.machine import MachinePhase
    from dumont.domain.resources import EventView

    watcher = Watcher(api=api, machine_id=machine.machine_id)
    console = Console(quiet=True) if quiet else stderr_console()
    stuck: EventView | None = None
    try:
        with (
            Progress(machine=machine, console=console) as progress,
            closing(watcher.updates()) as updates,
        ):
            for update in updates:
                progress.saw(update=update, live=watcher.live)
                if isinstance(update, EventView):
                    stuck = update if update.kind is EventKind.STUCK else stuck
                elif update.phase is MachinePhase.RUNNING:
                    return update
                elif update.phase is MachinePhase.STUCK:
                    machine = update
                    break
                elif update.phase in (MachinePhase.DESTROYING, MachinePhase.DESTROYED):
                    raise InstanceDead(f"{machine.name} is being destroyed: {update.reason}")
    except KeyboardInterrupt:
        notice(
            f"\nStopped watching; {machine.name} goes on starting, and will cost money when it "
            f"runs. `dumont show {machine.name}` tells how it stands, "
            f"`dumont destroy {machine.name}` ends it."
        )
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise _why_stuck(machine, stuck)


def _why_stuck(machine: MachineView, event: EventView | None) -> DumontError:
    """The error that stopped a machine, as the class of its code, with what happens next."""
    from dumont.cli.text import clock
    from dumont.domain.errors import BY_CODE, NoCapacity

    data = event.data if event is not None else {}
    kind = BY_CODE.get(str(data.get("code")), NoCapacity)
    hint = str(data.get("hint") or "nothing is rented for it now").rstrip(".")
    again = f" It tries again at {clock(machine.next_try_at)}." if machine.next_try_at else ""
    return kind(
        f"{machine.name} is stuck: {machine.reason}",
        hint=f"{hint}.{again} To end it: `dumont destroy {machine.name}`",
    )


def _announce(machine: MachineView, *, plain_ssh: bool) -> None:
    from dumont.cli.text import gpus, money, span

    live = machine.instance
    if live is None:
        say(f"{machine.name} is running.")
    else:
        place = f", {live.region}" if live.region else ""
        took = ""
        if live.ready_at is not None:
            took = f" after {span((live.ready_at - machine.created_at).total_seconds())}"
        what = gpus(count=live.gpu_count, model=live.gpu)
        say(f"{machine.name} is ready{took}: {what} at {money(live.usd_per_hour)}{place}.")
    say(f"  connect  dumont ssh {machine.name}")
    if plain_ssh:
        say(f"  or       ssh dumont-{machine.name}   (scp, rsync and editors too)")
    say(f"  end it   dumont destroy {machine.name}")
