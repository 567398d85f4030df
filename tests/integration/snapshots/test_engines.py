"""Ours and restic: the same cases on the same S3 server."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.snapshots.engine import DumontEngine, Engine
from dumont.snapshots.errors import SnapshotError
from dumont.snapshots.restic import ResticEngine
from tests.support.seaweed import KEY, seaweed, store_at
from tests.support.workspaces import listing, make


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


@pytest.fixture(params=["dumont", "restic"])
def engine(request: pytest.FixtureRequest, endpoint: str, tmp_path: Path) -> Engine:
    prefix = f"{tmp_path.name}"
    if request.param == "dumont":
        return DumontEngine(store_at(endpoint, prefix=prefix), bytes(range(32)), state=tmp_path)
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": KEY.access_key_id,
        "AWS_SECRET_ACCESS_KEY": KEY.secret_access_key,
    }
    return ResticEngine(
        f"s3:{endpoint}/snapshots/{prefix}", "a password", environment=environment,
        cache=tmp_path / "cache",
    )  # fmt: skip


def test_there_and_back(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="no"):
        engine.list()
    engine.create()
    assert engine.list() == []
    workspace = tmp_path / "workspace"
    make(workspace)
    told: list[int] = []
    first = engine.snapshot(workspace, tags=("one",), on_progress=lambda f, b: told.append(b))
    second = engine.snapshot(workspace)
    assert first.files is not None
    assert first.stored is not None
    assert second.stored is not None
    assert second.stored < 0.1 * first.stored
    assert [kept.id for kept in engine.list()] == [first.id, second.id]
    assert engine.list()[0].tags == ("one",)
    engine.restore(second.id, tmp_path / "back")
    assert _contents(tmp_path / "back") == _contents(workspace)
    engine.restore(second.id, tmp_path / "some", paths=["src/package2"])
    assert (tmp_path / "some/src/package2/module2.py").read_bytes()
    assert not (tmp_path / "some/tokens.bin").exists()
    engine.forget([first.id])
    engine.prune()
    engine.check(read=True)
    assert [kept.id for kept in engine.list()] == [second.id]
    with pytest.raises(SnapshotError):
        engine.restore("0000000", tmp_path / "nothing")


def _contents(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Without the times of folders, which restic 0.14 sets before it fills them."""
    return {
        path: what[:4] if stat.S_ISDIR(int(str(what[0]))) else what
        for path, what in listing(root).items()
    }
