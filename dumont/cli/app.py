"""The `dumont` application: its commands, its global options, and how errors leave it."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dumont.cli.commands import (
    account,
    budget,
    connect,
    hours,
    idle,
    insight,
    keys,
    ledger,
    leftovers,
    machines,
    protect,
    rest,
    restore,
    savings,
    snapshot_policy,
    snapshots,
    up,
)
from dumont.cli.exit_codes import ExitCode
from dumont.cli.output import report_error
from dumont.cli.session import Session, session_of
from dumont.domain.errors import DumontError

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


class _Root(TyperGroup):
    """Turns every error into one clear paragraph on stderr and its exit code: no traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DumontError as error:
            raise typer.Exit(report_error(error, as_json=session_of(ctx).json)) from None
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("DUMONT_DEBUG") or hasattr(error, "exit_code"):
                raise  # a developer wants the traceback, or the parser formats its own errors
            report = DumontError(
                f"`dumont` failed unexpectedly: {type(error).__name__}: {error}",
                hint="this is a bug: please report it with what DUMONT_DEBUG=1 prints",
            )
            raise typer.Exit(report_error(report, as_json=session_of(ctx).json)) from None


app = typer.Typer(
    name="dumont",
    cls=_Root,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(version("dumont-cloud"))
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="URL", help="Talk to this server instead of the default one."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """GPU machines on spot prices that survive the death of their GPU."""
    ctx.obj = Session(server=server)


_MACHINES, _SNAPSHOTS = "Machines", "Snapshots"
_ACCOUNT, _STACK = "Account", "Servers and stacks"

app.command("up", rich_help_panel=_MACHINES)(up.up)
app.command("ls", rich_help_panel=_MACHINES)(machines.ls)
app.command("show", rich_help_panel=_MACHINES)(machines.show)
app.command("ssh", rich_help_panel=_MACHINES)(connect.ssh)
app.command("ssh-config", rich_help_panel=_MACHINES)(connect.ssh_config)
app.command("logs", rich_help_panel=_MACHINES)(insight.logs)
app.command("events", rich_help_panel=_MACHINES)(insight.events)
app.command("flush", rich_help_panel=_MACHINES)(protect.flush)
app.command("drill", rich_help_panel=_MACHINES)(protect.drill)
app.command("failback", rich_help_panel=_MACHINES)(protect.failback)
app.command("receipts", rich_help_panel=_MACHINES)(protect.receipts)
app.command("hibernate", rich_help_panel=_MACHINES)(rest.hibernate)
app.command("wake", rich_help_panel=_MACHINES)(rest.wake)
app.command("hours", rich_help_panel=_MACHINES)(hours.hours)
app.add_typer(idle.app, name="idle", rich_help_panel=_MACHINES)
app.command("keep-alive", rich_help_panel=_MACHINES)(idle.keep_alive)
app.command("destroy", rich_help_panel=_MACHINES)(machines.destroy)
app.add_typer(budget.app, name="budget", rich_help_panel=_MACHINES)
app.command("leftovers", rich_help_panel=_MACHINES)(leftovers.leftovers)
app.command("offers", rich_help_panel=_MACHINES)(insight.offers)
app.command("ledger", rich_help_panel=_MACHINES)(ledger.ledger)
app.command("savings", rich_help_panel=_MACHINES)(savings.savings)
app.command("savings-scenario", rich_help_panel=_MACHINES)(savings.savings_scenario)
app.command("snapshot", rich_help_panel=_SNAPSHOTS)(snapshots.snapshot)
app.command("snapshots", rich_help_panel=_SNAPSHOTS)(snapshots.snapshots)
app.command("restore", rich_help_panel=_SNAPSHOTS)(restore.restore)
app.command("snapshot-diff", rich_help_panel=_SNAPSHOTS)(snapshots.snapshot_diff)
app.command("snapshot-pin", rich_help_panel=_SNAPSHOTS)(snapshots.snapshot_pin)
app.command("snapshot-policy", rich_help_panel=_SNAPSHOTS)(snapshot_policy.snapshot_policy)
app.command("snapshot-forget", rich_help_panel=_SNAPSHOTS)(snapshots.snapshot_forget)
app.command("snapshot-prune", rich_help_panel=_SNAPSHOTS)(snapshots.snapshot_prune)
app.command("login", rich_help_panel=_ACCOUNT)(account.login)
app.command("logout", rich_help_panel=_ACCOUNT)(account.logout)
app.command("whoami", rich_help_panel=_ACCOUNT)(account.whoami)
app.command("servers", rich_help_panel=_ACCOUNT)(account.servers)
app.add_typer(keys.app, name="keys", rich_help_panel=_ACCOUNT)


DEFERRED = {
    "demo": "dumont.cli.embedded.commands:demo",
    "serve": "dumont.cli.embedded.commands:serve",
    "stack": "dumont.cli.embedded.commands:stack",
    "doctor": "dumont.cli.doctor:doctor",
}
"""Commands whose code is loaded only when they are called: `module:attribute`, a `typer.Typer` or a
command function."""


def _defer(name: str, *, help: str) -> None:
    @app.command(
        name,
        help=help,
        add_help_option=False,
        context_settings=_PASS_ON,
        rich_help_panel=_STACK,
    )
    def run(ctx: typer.Context) -> None:
        module, _, attribute = DEFERRED[name].partition(":")
        loaded = getattr(import_module(module), attribute)
        if not isinstance(loaded, typer.Typer):
            function, loaded = loaded, typer.Typer(add_completion=False)
            loaded.command(name)(function)
        command = typer.main.get_command(loaded)
        command.main(args=list(ctx.args), prog_name=f"dumont {name}", obj=session_of(ctx))


_defer("demo", help="Run the whole product here, on a cloud in a box.")
_defer("serve", help="Run the whole product here, on the real clouds named in .env.")
_defer("stack", help="Look at the stack that runs here, or stop it.")
_defer("doctor", help="Check every dependency, key and quota, and say what to do.")
