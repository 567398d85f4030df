"""The snapshot benchmark: its workspace changes and changes back, its report is honest."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from benchmarks import _snapshot_report as form
from benchmarks import snapshot
from benchmarks._snapshot_tools import Cost
from benchmarks._snapshot_workspace import Facts, Workspace, digests
from dumont.snapshots.layouts import layout_of

FACTS = Facts(bytes=2_000_000_000, files=18_000, rewritten=120_000_000, touched=900_000_000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Facts]:
    folder = tmp_path_factory.mktemp("benchmark")
    sources = folder / "sources"
    (sources / "package").mkdir(parents=True)
    for number in range(20):
        (sources / "package" / f"{number}.py").write_text("one = 1\ntwo = 2\n")
    (sources / ".git").mkdir()
    (sources / ".git" / "HEAD").write_text("not a source")
    space = Workspace(folder / "workspace")
    return space, space.make(gigabytes=0.02, seed=1, sources=sources)


def test_a_change_is_undone(made: tuple[Workspace, Facts]) -> None:
    space, facts = made
    before = digests(space.folder)
    space.change()
    after = digests(space.folder)
    space.undo()
    assert digests(space.folder) == before
    assert len(before) == facts.files
    new = after.keys() - before.keys()
    assert len(new) == 100
    changed = {path for path in before if before[path] != after[path]}
    assert {"model-bf16.safetensors", "tokens.bin", "optimizer/exp_avg.npy"} < changed
    assert any(path.endswith(".py") for path in changed)
    assert not any(".git" in path for path in before)


def test_the_change_is_what_it_is_said_to_be(made: tuple[Workspace, Facts]) -> None:
    space, facts = made
    tokens = (space.folder / "tokens.bin").read_bytes()
    model = (space.folder / "model-bf16.safetensors").read_bytes()
    space.change()
    assert (space.folder / "tokens.bin").read_bytes()[1024:] == tokens
    later = (space.folder / "model-bf16.safetensors").read_bytes()
    space.undo()
    assert len(later) == len(model)
    share = np.mean(np.frombuffer(later, "u1") != np.frombuffer(model, "u1"))
    assert 0.01 < share < 3 / 24
    assert 0 < facts.rewritten < facts.touched < facts.bytes


def test_weights_say_what_they_are(made: tuple[Workspace, Facts]) -> None:
    path = made[0].folder / "model-bf16.safetensors"
    data = path.read_bytes()
    layout = layout_of(
        b"model-bf16.safetensors", data[:65536], len(data), lambda at, n: data[at : at + n]
    )
    assert layout is not None
    assert {span.element for span in layout} >= {2}
    values = np.load(made[0].folder / "optimizer" / "exp_avg.npy")
    assert 0.02 < np.mean(~values.any(axis=1)) < 0.4
    twin = made[0].folder / "optimizer"
    assert (twin / "master.npy").read_bytes() == (twin / "master-last-epoch.npy").read_bytes()


def found(
    walls: dict[str, list[float]], *, cpu_s: float = 1.0, written: int = 50_000_000
) -> form.Found:
    made = form.Found()
    for phase, seconds in walls.items():
        made.costs[phase] = [Cost(wall, cpu_s, 200.0) for wall in seconds]
        made.written[phase] = [written for _ in seconds]
    return made


def figures(**tools: form.Found) -> dict[str, form.Figures]:
    return {name: tool.figures(gigabytes=2.0) for name, tool in tools.items()}


def verdicts(tools: dict[str, form.Figures]) -> dict[str, bool | None]:
    return {target.name: target.met for target in form.job_targets(tools, FACTS)}


FAST = {"first": [1.0, 9.0, 1.0], "changed10": [0.5], "unchanged": [0.2], "restore": [1.0]}
SLOW = {"first": [6.5], "changed10": [2.5], "unchanged": [0.7], "restore": [4.0]}


def test_ratios_are_of_medians_and_promises_can_be_missed() -> None:
    tools = figures(dumont=found(FAST), restic=found(SLOW))
    assert form.ratios(tools, form.OURS) == {
        "restic": {"first": 6.5, "changed10": 5.0, "unchanged": 3.5, "restore": 4.0}
    }
    slow = figures(dumont=found(FAST, cpu_s=2.0), restic=found(SLOW, cpu_s=5.0))
    assert form.ratios(slow, form.OURS, "cpu_s")["restic"]["first"] == 2.5
    said = verdicts(tools)
    assert said["P6 first: times as fast as restic"] is True
    assert said["P6 restore: times as fast as restic"] is False
    assert said["P6 first: times as fast as tar_lz4_s5cmd"] is None
    assert said["P6 changed10: of the upload avoided"] is True
    greedy = verdicts(figures(dumont=found(FAST, cpu_s=4.2, written=200_000_000)))
    assert greedy["P6 first: CPU"] is False
    assert greedy["P6 changed10: of the upload avoided"] is False


def test_what_failed_half_way_is_not_called_kept() -> None:
    half = figures(dumont=found({"first": [1.0]}), restic=found(SLOW))
    assert form.ratios(half, form.OURS)["restic"]["restore"] is None
    said = verdicts(half)
    assert said["P6 restore: times as fast as restic"] is None
    assert said["P6 changed10: of the upload avoided"] is None
    for section in form.job_sections(half, {}, FACTS, "light"):
        assert all(len(row) == len(section.columns) for row in section.rows)


def test_the_library_is_compared_under_a_name_of_its_own() -> None:
    tools = figures(dumont=found(FAST), dumont_resident=found(FAST), rclone=found(SLOW))
    assert set(form.ratios(tools, form.RESIDENT)) == {"rclone"}
    json.dumps(tools)


def test_a_restore_that_is_not_the_same_fails() -> None:
    snapshot.compare({"a": "1"}, {"a": "1"})
    for wrong in ({"a": "2"}, {}, {"a": "1", "b": "1"}):
        with pytest.raises(snapshot.Failed, match="1 files are not as they were"):
            snapshot.compare({"a": "1"}, wrong)


def test_parts_and_peers_are_chosen_by_name() -> None:
    assert snapshot.parts("job,scan") == ["job", "scan"]
    assert snapshot.peers("") == []
    with pytest.raises(argparse.ArgumentTypeError, match="none of restic"):
        snapshot.peers("restic,floppy")
