"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("dumont", "workflows", "activities", "worker", "api", "simcloud")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST = 650


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_those_of_this_tree(package: str) -> None:
    """`api` and `worker` are common names: somebody else's must not shadow ours."""
    module = __import__(package)
    assert Path(module.__file__ or "").parent == ROOT / package


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_stays_readable(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert len(text.splitlines()) <= LONGEST


def test_workflows_import_nothing_heavy() -> None:
    """Workflow code is loaded by every control worker; a vendor import there costs seconds."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, worker.roles; print('\\n'.join(sys.modules))"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout.split()  # fmt: skip
    heavy = {"google.cloud.compute_v1", "sqlalchemy", "asyncssh", "fastapi", "boto3", "sklearn"}
    assert heavy.isdisjoint(loaded)


def test_the_agent_needs_nothing_but_python() -> None:
    for path in (ROOT / "dumont" / "agent").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
            for name in names:
                top = name.split(".")[0]
                ours = name.startswith("dumont.agent")
                assert ours or top in sys.stdlib_module_names, f"{path}: {name}"


def test_workflows_read_no_environment_and_no_clock() -> None:
    for path in (ROOT / "workflows").rglob("*.py"):
        text = path.read_text()
        for forbidden in ("os.environ", "datetime.now", "time.time", "random.", "uuid4"):
            assert forbidden not in text, f"{path}: {forbidden}"


def test_every_workflow_is_documented() -> None:
    from worker.roles import WORKFLOWS

    text = (ROOT / "docs" / "workflows.md").read_text()
    for workflow in WORKFLOWS:
        assert workflow.__name__ in text
