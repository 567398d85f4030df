"""The engine's archives: always the same, and all that a machine's own Python needs besides itself."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

from dumont.remote import engine_archive
from dumont.remote.engine_archive import Folder
from dumont.snapshots.repository import Repository
from dumont.storage.directory import DirectoryStore
from tests.support.workspaces import listing, make

SECRET = "a secret of more than thirty-two characters"
PYTHON = "/usr/bin/python3"
_KIND = """
import platform, sysconfig
print(sysconfig.get_config_var("SOABI"), platform.libc_ver()[0] or "other")
"""
_RUN = "import sys; sys.path[:0] = sys.argv[1:]; from dumont.snapshots.hosted import main; sys.exit(main())"


def names(folder: Folder) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(folder.content)) as archive:
        return archive.getnames()


def unpacked(folder: Folder, at: Path) -> Path:
    # As on a machine; Python's own way has no filter before 3.11.4, which Debian's is.
    (at / folder.name).mkdir(parents=True)
    tar = ["tar", "-xzf", "-", "-C", str(at / folder.name)]
    subprocess.run(tar, input=folder.content, check=True)
    return at / folder.name


def test_the_same_files_make_the_same_archive() -> None:
    """In another process, with another order of hashes: a machine that has it gets it only once."""
    script = (
        "import hashlib; from dumont.remote.engine_archive import libraries, sources\n"
        "for made in (sources(), libraries()): print(made.name, hashlib.sha256(made.content).hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed},
            check=True, capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1
    assert engine_archive.sources().name in said.pop()


def test_a_change_makes_another_name() -> None:
    one = engine_archive._folder("engine", {"a": b"1", "b": b"2"})
    assert engine_archive._folder("engine", {"b": b"2", "a": b"1"}) == one
    assert engine_archive._folder("engine", {"a": b"1", "b": b"3"}).name != one.name
    assert engine_archive._folder("engine", {"a": b"1", "c": b"2"}).name != one.name


def test_our_part_is_the_engine_and_the_store_and_nothing_else() -> None:
    found = names(engine_archive.sources())
    assert "dumont/snapshots/hosted.py" in found
    assert "dumont/storage/s3.py" in found
    parts = {PurePosixPath(name).parts[:2] for name in found}
    assert parts == {("dumont", "__init__.py"), ("dumont", "snapshots"), ("dumont", "storage")}
    assert len(engine_archive.sources().content) < 300_000, "it goes to each machine anew"


def test_our_part_imports_nothing_of_the_product() -> None:
    """What it imports inside functions too: such a mistake shows first on a machine, at night."""
    with tarfile.open(fileobj=io.BytesIO(engine_archive.sources().content)) as archive:
        for name in archive.getnames():
            file = archive.extractfile(name)
            assert file is not None
            for node in ast.walk(ast.parse(file.read(), feature_version=(3, 10))):
                wanted = []
                if isinstance(node, ast.ImportFrom):
                    wanted = [node.module or ""]
                elif isinstance(node, ast.Import):
                    wanted = [alias.name for alias in node.names]
                for module in wanted:
                    if module.startswith("dumont"):
                        assert module.startswith(("dumont.snapshots", "dumont.storage")), name


def test_the_libraries_are_whole_and_slim() -> None:
    found = names(engine_archive.libraries())
    for library in ("blake3", "cryptography", "bitshuffle", "pyfastcdc"):
        assert any(name.split("/")[0].startswith(library) for name in found), library
    assert not any("hdf5" in name or "/tests/" in name for name in found)
    assert len(engine_archive.libraries().content) < 20_000_000


def test_ours_are_among_the_versions_that_other_pythons_get() -> None:
    for wanted in map(Requirement, engine_archive.wanted("cpython-310-x86_64-linux-gnu glibc")):
        assert wanted.specifier.contains(metadata.version(wanted.name)), wanted


def test_what_other_pythons_get_from_the_package_index() -> None:
    ours = engine_archive.python_kind()
    abi = ours.split("-")[1]

    def names_for(kind: str) -> set[str]:
        return {Requirement(each).name for each in engine_archive.wanted(kind)}

    everything = set(engine_archive.LIBRARIES)
    for newer in ("311", "312", "313"):
        assert names_for(ours.replace(abi, newer)) == everything - {"bitshuffle"}
    for other in (
        ours.replace(abi, "310"), "cpython-313-aarch64-linux-gnu glibc",
        "cpython-313-x86_64-linux-musl other", "pypy310-pp73-x86_64-linux-gnu glibc", "None other", "",
    ):  # fmt: skip
        assert names_for(other) == everything, other


def _is_our_kind() -> bool:
    try:
        asked = subprocess.run([PYTHON, "-ISc", _KIND], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return asked.stdout.strip() == engine_archive.python_kind()


@pytest.mark.skipif(not _is_our_kind(), reason="the system's Python is of another kind than ours")
def test_a_bare_python_keeps_a_workspace_and_brings_it_back(tmp_path: Path) -> None:
    """No packages of its own, no variables, no current folder: the two folders are all it has."""
    folders = [
        unpacked(each, tmp_path / ".dumont")
        for each in (engine_archive.sources(), engine_archive.libraries())
    ]
    workspace, store = tmp_path / "workspace", tmp_path / "store"
    make(workspace, megabytes=4)
    (tmp_path / ".dumont/workspace").write_text(str(workspace))
    Repository.create(DirectoryStore(store, durable=False), SECRET.encode())

    def run(*words: str, folder: str) -> dict[str, object]:
        order = {
            "words": words, "folder": folder,
            "environment": {"DUMONT_SNAP_STORE": f"file://{store}", "DUMONT_SNAP_SECRET": SECRET},
        }  # fmt: skip
        with subprocess.Popen(
            [PYTHON, "-ISc", _RUN, *map(str, folders)], cwd="/", env={"HOME": str(tmp_path)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            # As a machine's: its stdin stays open.
            lines, complaints = process.stdout.read().splitlines(), process.stderr.read()
            assert process.wait() == 0, (lines, complaints)
        answer: dict[str, object] = json.loads(lines[-1])["result"]
        return answer

    made = run("snapshot", "--machine=m1", "--dense", folder="")
    before = listing(workspace)
    back = run("restore", str(made["id"]), folder="../back")
    assert back["problems"] == []
    assert listing(tmp_path / "back") == before
