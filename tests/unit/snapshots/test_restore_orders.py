"""What a restore beside people is asked for and answers, from the activity to the engine's process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.snapshots import Body, RestoreAsk, SnapshotActivities
from dumont.domain.errors import NotReady
from dumont.domain.instances import SshAddress
from dumont.domain.protection import AgentRole
from dumont.domain.snapshots import RestoreResult
from dumont.snapshots.backup import Backup
from dumont.snapshots.manifest import Snapshot, Totals, new_id
from dumont.snapshots.repository import Repository
from dumont.storage.directory import DirectoryStore
from tests.support.snapshots import FakeEngine, FakeRepositories

OWNER = "o1"
SECRET = "a secret of more than thirty-two characters"


class Setting:
    """The activities, an engine that takes the real one's words, and a snapshot."""

    def __init__(self) -> None:
        self.repositories = FakeRepositories()
        self.engine = FakeEngine(self.repositories)
        self.activities = SnapshotActivities(
            engine=self.engine,
            repositories=self.repositories,
            store=None,  # type: ignore[arg-type]  # no restore asks these two
            snapshots=None,  # type: ignore[arg-type]
        )
        now = datetime.now(UTC)
        self.kept = Snapshot(
            id=new_id(now), time=now, machine="m1", host="h", tree=(), totals=Totals()
        )
        self.repositories.commit(OWNER, self.kept)

    async def restore(self, **wishes: Any) -> RestoreResult:
        body = Body(
            machine_id="m1", owner_id=OWNER, name="box", generation=1, role=AgentRole.PRIMARY,
            ssh=SshAddress(host="127.1.1.1", port=22),
        )  # fmt: skip
        ask = RestoreAsk(body=body, snapshot_id=self.kept.id, **wishes)
        return await ActivityEnvironment().run(self.activities.restore_snapshot, ask)

    @property
    def words(self) -> tuple[str, ...]:
        return self.engine.runs[-1][1].words


@pytest.fixture
def setting() -> Setting:
    return Setting()


async def test_each_wish_is_a_word_of_the_order(setting: Setting) -> None:
    kept = setting.kept.id
    for wishes, words in [
        ({}, ()),
        ({"small_only": True}, ("--small-only",)),
        ({"keep_changed": True}, ("--keep-changed",)),
        ({"small_only": True, "keep_changed": True}, ("--small-only", "--keep-changed")),
    ]:
        await setting.restore(**wishes)
        assert setting.words == ("restore", *words, kept)
    await setting.restore(paths=("--odd",), keep_changed=True)
    assert setting.words == ("restore", "--path=--odd", "--keep-changed", kept)


async def test_what_was_kept_and_what_is_for_later_comes_back_in_the_answer(
    setting: Setting,
) -> None:
    names = [f"src/{number}.py" for number in range(1_000)]
    setting.engine.answers = lambda honest: {
        **honest, "kept": ["\ud800", *names], "kept_count": 5_000, "later": 7, "later_bytes": 70,
    }  # fmt: skip
    done = await setting.restore(small_only=True, keep_changed=True)
    assert (done.kept, done.later, done.later_bytes) == (5_000, 7, 70)
    assert (done.kept_names[:3], len(done.kept_names)) == (("?", "src/0.py", "src/1.py"), 20)
    assert len(done.model_dump_json()) < 10_000
    setting.engine.answers = lambda honest: honest
    plain = await setting.restore()
    assert (plain.kept, plain.kept_names, plain.later) == (0, (), 0)


@pytest.mark.parametrize(
    "nonsense",
    [{"kept": "all"}, {"kept": [1]}, {"kept_count": -1}, {"later": 10**400}, {"later_bytes": "x"}],
)
async def test_nonsense_about_them_is_no_answer(setting: Setting, nonsense: dict[str, Any]) -> None:
    setting.engine.answers = lambda honest: {**honest, **nonsense}
    with pytest.raises(NotReady, match="nonsense"):
        await setting.restore(keep_changed=True)


def test_asks_and_answers_of_before_are_understood() -> None:
    """What an older worker wrote has no such fields; what a newer one writes may have more."""
    old = {"snapshot_id": "s", "folder": "", "body": "primary", "files": 1, "bytes": 1}
    old |= {"unchanged": 0, "fetched_bytes": 1, "usable_s": None, "seconds": 1.0, "newer": True}
    assert RestoreResult.model_validate(old).kept == 0


def test_the_engine_on_a_machine_keeps_what_people_changed(tmp_path: Path) -> None:
    """A process of its own, as on a machine: small files, an edit, the rest."""
    workspace = tmp_path / "workspace"
    home = tmp_path / "home"
    (home / ".dumont").mkdir(parents=True)
    workspace.mkdir()
    (home / ".dumont/workspace").write_text(f"{workspace}\n")
    (workspace / "notes").write_text("as it was kept")
    (workspace / "big").write_bytes(os.urandom(1_000_000))
    repository = Repository.create(DirectoryStore(tmp_path / "store"), SECRET.encode())
    kept = Backup(repository, workspace).run()
    for name in ("notes", "big"):
        (workspace / name).unlink()

    def order(*words: str) -> dict[str, Any]:
        environment = {"DUMONT_SNAP_STORE": f"file://{tmp_path / 'store'}"}
        environment["DUMONT_SNAP_SECRET"] = SECRET
        line = {"words": ["restore", *words, kept.id], "folder": "", "environment": environment}
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DUMONT_", "AWS_"))}
        with subprocess.Popen(
            [sys.executable, "-m", "dumont.snapshots.hosted"], env={**clean, "HOME": str(home)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(line).encode() + b"\n")
            process.stdin.flush()
            said = [json.loads(each) for each in process.stdout if each.startswith(b"{")]
            assert process.wait(60) == 0
        [result] = [each["result"] for each in said if "result" in each]
        return dict(result)

    first = order("--small-only", "--keep-changed")
    assert (first["files"], first["later"], first["later_bytes"]) == (1, 1, 1_000_000)
    assert not (workspace / "big").exists()
    (workspace / "notes").write_text("my work of today")
    second = order("--keep-changed")
    assert (second["kept"], second["kept_count"], second["later"]) == (["notes"], 1, 0)
    assert (workspace / "notes").read_text() == "my work of today"
    assert (workspace / "big").stat().st_size == 1_000_000
