"""docs/cli.md names every command, every option, every exit code and every variable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from dumont.cli.app import DEFERRED, app
from dumont.cli.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/cli.md").read_text()
SECTIONS = {
    match[1]: match[2]
    for match in re.finditer(r"^### `(.+?)`\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
}


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by what one types."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, child in below.items():
        if path == "dumont" and name in DEFERRED:
            yield from commands(_load(name), f"dumont {name}")
        else:
            yield from commands(child, f"{path} {name}")


def _load(name: str) -> Any:
    module, _, attribute = DEFERRED[name].partition(":")
    loaded = getattr(import_module(module), attribute)
    if isinstance(loaded, typer.Typer):
        return typer.main.get_command(loaded)
    alone = typer.Typer(add_completion=False)
    alone.command(name)(loaded)
    return typer.main.get_command(alone)


ALL = dict(commands(typer.main.get_command(app), "dumont"))


@pytest.mark.parametrize("path", sorted(ALL))
def test_a_command_and_its_options_are_documented(path: str) -> None:
    section = next(
        (
            body
            for head, body in SECTIONS.items()
            if re.fullmatch(re.escape(path) + r"( .*)?", head)
        ),
        None,
    )
    assert section is not None, f"docs/cli.md lacks a section `{path}`"
    for parameter in ALL[path].params:
        if parameter.param_type_name != "option" or parameter.hidden:
            continue
        for option in [*parameter.opts, *parameter.secondary_opts]:
            if option not in ("--help", "-h", "--install-completion", "--show-completion"):
                assert f"`{option}" in section, f"{path}: {option} is not documented"


def test_nothing_is_documented_that_does_not_exist() -> None:
    heads = {re.sub(r" [\[A-Z-].*", "", head) for head in SECTIONS}
    assert heads == set(ALL)
    for path, command in ALL.items():
        body = next(b for h, b in SECTIONS.items() if re.fullmatch(re.escape(path) + r"( .*)?", h))
        known = {o for p in command.params for o in [*p.opts, *p.secondary_opts]}
        rows = re.findall(r"^\| (`-.*?) \|", body, re.MULTILINE)
        for option in re.findall(r"`(--?[a-z][a-z-]*)", " ".join(rows)):
            assert option in known, f"{path}: {option} does not exist"


def test_exit_codes_and_variables() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert codes == {int(code) for code in ExitCode}
    sources = "".join(path.read_text() for path in (ROOT / "dumont/cli").glob("**/*.py"))
    read = set(re.findall(r"environ\.get\(\"(DUMONT_[A-Z_]+)\"", sources))
    assert read <= set(re.findall(r"`(DUMONT_[A-Z_]+)`", TEXT))
