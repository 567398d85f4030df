"""The agent: what it says, what it leaves unknown, and that old Pythons can run it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import dumont.agent
from dumont.agent import __main__, hello
from dumont.domain.ladder import AgentHello
from dumont.remote.agent_archive import agent_archive

SOURCES = sorted(Path(dumont.agent.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_python_3_8_can_read_it(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    # Annotations such as `list[str]` are only harmless while nobody evaluates them.
    assert any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
    ) or not any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_needs_nothing_but_the_standard_library(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            root = name.partition(".")[0]
            assert root in sys.stdlib_module_names or name.startswith("dumont.agent")


def test_its_hello_is_what_we_expect(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["hello"]) == 0
    said = AgentHello.model_validate_json(capsys.readouterr().out)
    assert said.protocol == 1
    assert said.cpu_count is not None
    assert said.cpu_count >= 1
    assert said.memory_gb is not None
    assert said.memory_gb > 0.1
    assert said.clock is not None
    assert said.boot_id


def test_an_unknown_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["dance"]) == 2
    assert "usage" in capsys.readouterr().err


def _smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _smi(
        tmp_path,
        'echo "NVIDIA GeForce RTX 4090, 24564, 570.86.15"\n'
        'echo "NVIDIA GeForce RTX 4090, 24564, 570.86.15"',
        monkeypatch,
    )
    said = AgentHello.model_validate(hello.hello())
    assert said.gpus == ("NVIDIA GeForce RTX 4090",) * 2
    assert said.gpu_memory_mb == (24564, 24564)
    assert said.driver == "570.86.15"


@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ('echo "NVIDIA-SMI has failed because it could not communicate"; exit 9', 0),
        ('echo "RTX 4090, [N/A], [Unknown Error]"', 1),
        ("echo", 0),
        ("echo 'No devices were found'", 0),
        ("printf '\\377\\376, 1, 2\\n'", 1),
    ],
)
def test_a_sick_driver_leaves_things_unknown(
    script: str, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _smi(tmp_path, script, monkeypatch)
    said = AgentHello.model_validate(hello.hello())
    assert len(said.gpus) == gpus
    if "N/A" in script:
        assert said.gpu_memory_mb == ()
        assert said.driver is None


def test_a_hung_driver_does_not_hang_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _smi(tmp_path, "exec sleep 60", monkeypatch)
    monkeypatch.setattr(hello, "_SMI_TIMEOUT_S", 0.2)
    assert hello.hello()["gpus"] == []


def test_no_gpu_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(hello, "_SMI_PLACES", ())
    assert hello.hello()["gpus"] == []


def test_the_workspace_is_where_the_start_script_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hello.workspace() == Path("/workspace")
    (tmp_path / ".dumont").mkdir()
    (tmp_path / ".dumont/workspace").write_text(f"{tmp_path}\n")
    assert hello.workspace() == tmp_path
    assert hello.hello()["workspace_writable"] is True
    assert sorted(p.name for p in tmp_path.iterdir()) == [".dumont"], "the probe cleans up"


def test_a_workspace_that_cannot_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    assert not hello.is_writable(tmp_path / "absent")
    assert not hello.is_writable(Path("/proc"))
    # A full disk opens files happily.
    assert not _writable_on_full_disk(tmp_path)


def _writable_on_full_disk(folder: Path) -> bool:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from dumont.agent.hello import is_writable\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "print(is_writable(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip() == "True"


def test_the_archive_runs_alone_and_is_always_the_same(tmp_path: Path) -> None:
    archive = agent_archive()
    agent_archive.cache_clear()
    assert agent_archive() == archive
    file = tmp_path / archive.file_name
    file.write_bytes(archive.content)
    done = subprocess.run(
        [sys.executable, "-I", str(file), "hello"],
        cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["protocol"] == 1
    assert len(archive.content) < 131_072
