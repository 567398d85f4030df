"""What a person reads while a stack runs: parts becoming ready, one summary, parts in trouble."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from dumont.cli.embedded.layout import Layout
from dumont.cli.embedded.login import Login
from dumont.cli.embedded.state import PartStatus
from dumont.cli.output import stdout_console

_TITLES = {
    "postgres": "PostgreSQL",
    "temporal": "Temporal",
    "s3": "S3 store",
    "simcloud": "cloud in a box",
    "machine-power": "its machines",
    "database-tables": "database tables",
    "worker": "worker",
    "api": "API and dashboard",
}


class Narrator:
    """Prints; decides nothing.

    Args:
        layout: The stack it speaks of.
        console: Where to.
    """

    def __init__(self, layout: Layout, *, console: Console | None = None) -> None:
        self._layout = layout
        self._console = console or stdout_console()
        self._stopping = False
        self._in_trouble: set[str] = set()

    def urls(self) -> dict[str, str]:
        """Every address of the stack that a person may open."""
        layout = self._layout
        urls = {
            "Dashboard": layout.api_url,
            "API docs": f"{layout.api_url}/api/docs",
            "Temporal Web UI": layout.temporal_ui_url,
        }
        if layout.state.mode == "demo":
            urls["Cloud control page"] = layout.control_url
        return urls

    def part_changed(self, name: str, status: PartStatus) -> None:
        """A part is ready, in trouble, or well again."""
        title = _TITLES.get(name, name)
        if self._stopping:
            return
        if status.state in ("restarting", "unhealthy"):
            if status.state == "restarting" or name not in self._in_trouble:
                log = _short_path(self._layout.state.logs / f"{name}.log")
                self._say("!", "yellow", f"{title}: {status.detail} (log: {log})")
            self._in_trouble.add(name)
        elif status.state in ("running", "done"):
            again = " again" if name in self._in_trouble else ""
            self._in_trouble.discard(name)
            self._say("✓", "green", f"{title}{again}")

    def strays_ended(self, names: list[str]) -> None:
        """A killed predecessor had left processes."""
        if names:
            titles = ", ".join(_TITLES.get(name, name) for name in names)
            self._say("!", "yellow", f"ended what a killed run had left: {titles}")

    def ready(self, login: Login) -> None:
        """Everything works: where things are, how to log in, what to type next."""
        layout = self._layout
        rows = [(name, Text(url, style="cyan")) for name, url in self.urls().items()]
        password_file = layout.state.path / "owner-password"
        if layout.state.mode == "demo":
            how = Text(f"{layout.owner_email}  password {layout.owner_password}")
        elif password_file.exists():
            how = Text(
                f"{layout.owner_email}  password: cat {shlex.quote(_short_path(password_file))}"
            )
        else:
            how = Text(f"{layout.owner_email}  with DUMONT_OWNER_PASSWORD")
        rows += [("Log in", how), ("Logs", Text(_short_path(layout.state.logs)))]
        self._console.print()
        for name, text in rows:
            self._console.print(Text.assemble((f"{name:<20}", "bold"), text))
        self._console.print()
        if login.problem is not None:
            self._console.print(Text(f"The command line could not be logged in: {login.problem}"))
        elif login.is_default:
            self._console.print("The command line is logged in.")
        else:
            self._console.print(
                "The command line is logged in; your default server stays another one."
            )
        self._console.print("In another terminal:")
        for command in self._next_commands(login):
            self._console.print(Text(f"    {command}"))
        self._console.print()
        self._console.print("Ctrl-C stops everything; the next start resumes every machine.")

    def _next_commands(self, login: Login) -> list[str]:
        activate = Path(sys.executable).with_name("activate")
        commands = [f". {shlex.quote(_short_path(activate))}"] if activate.exists() else []
        if login.problem is not None:
            commands.append(f"dumont login --server {self._layout.api_url}")
        elif not login.is_default:
            commands.append(f"export DUMONT_API_URL={self._layout.api_url}")
        return [
            *commands,
            'dumont up my-box --gpu "RTX 4090" --max-price 0.60',
            "dumont ssh my-box",
            "dumont destroy my-box",
        ]

    def stopping(self, *, again: bool) -> None:
        """A stop was asked for."""
        self._stopping = True
        self._console.print("\nKilling what is left." if again else "\nStopping (Ctrl-C kills).")

    def stopped(self) -> None:
        """Nothing runs any more."""
        self._console.print("Stopped.")

    def _say(self, mark: str, style: str, text: str) -> None:
        self._console.print(Text.assemble((mark, style), " ", text))


def _short_path(path: Path) -> str:
    """Relative when it is below the current directory: that is what one would type."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
