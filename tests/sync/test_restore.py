"""A new primary gets everything back; a returning one loses no edit of its own."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable

from tests.sync.bodies import Bodies, tree, wait_until
from tests.sync.test_mirror import fill


def take_over(bodies: Bodies, *, epoch: int) -> None:
    """The standby took authority under a new epoch; a primary of that epoch may read."""
    bodies.stop_sshd()
    bodies.epoch = epoch
    bodies.give_authority("standby")
    bodies.start_sshd()


def test_an_empty_primary_gets_everything_and_a_small_delta_in_the_end(
    make_bodies: Callable[..., Bodies],
) -> None:
    bodies = make_bodies()
    fill(bodies.standby)
    (bodies.standby / ".dumont").mkdir()
    (bodies.standby / ".dumont/mark").write_text('{"epoch": 4, "sequence": 90}')
    take_over(bodies, epoch=6)
    bodies.apply()
    result = bodies.run("restore", "--streams", "3")
    assert tree(bodies.workspace) == tree(bodies.standby)
    assert result["verified"] == result["files"] + 3  # links are compared, too
    assert result["conflicts"] == []
    (bodies.standby / "src/main.py").write_text("edited on the standby")
    (bodies.standby / "big").unlink()
    same_size = bodies.standby / "owned"
    before = same_size.stat()
    same_size.write_text("y")
    os.utime(same_size, ns=(before.st_atime_ns, before.st_mtime_ns))
    final = bodies.run("restore", "--final")
    assert tree(bodies.workspace) == tree(bodies.standby)
    assert final["final"] is True
    assert 0 < final["verified"] < result["verified"]
    bodies.give_authority("primary")
    bodies.wait_protected()
    assert tree(bodies.workspace) == tree(bodies.standby)
    assert json.loads((bodies.standby / ".dumont/mark").read_text())["sequence"] > 90


def test_edits_that_never_reached_the_standby_are_kept_beside(
    make_bodies: Callable[..., Bodies],
) -> None:
    bodies = make_bodies()
    bodies.start_sshd()
    bodies.apply()
    bodies.wait_protected()
    (bodies.workspace / "both").write_text("before")
    (bodies.workspace / "untouched").write_text("same")
    bodies.run("flush")
    bodies.give_authority("standby")
    wait_until(lambda: "has authority" in bodies.protection()["reason"], "it is cut off")
    (bodies.workspace / "both").write_text("edited on the primary")
    (bodies.workspace / "new here").write_text("only on the primary")
    (bodies.standby / "both").write_text("edited on the standby")
    (bodies.standby / "new there").write_text("only on the standby")
    named = {each["path"] for each in bodies.run("divergence")["files"]}
    assert {"both", "new here"} <= named
    bodies.run("stop")
    take_over(bodies, epoch=6)
    bodies.apply()
    result = bodies.run("restore")
    kept = bodies.workspace / ".dumont/conflicts/5"
    assert (bodies.workspace / "both").read_text() == "edited on the standby"
    assert (bodies.workspace / "new there").read_text() == "only on the standby"
    assert (kept / "both").read_text() == "edited on the primary"
    assert (kept / "new here").read_text() == "only on the primary"
    assert len(result["conflicts"]) == 2
    bodies.run("restore", "--final")
    assert (kept / "both").exists()
    bodies.give_authority("primary")
    bodies.wait_protected()
    assert (bodies.standby / ".dumont/conflicts/5/both").read_text() == "edited on the primary"
    assert tree(bodies.workspace) == tree(bodies.standby)


def test_a_restore_that_was_interrupted_is_never_mirrored_and_goes_on(
    make_bodies: Callable[..., Bodies],
) -> None:
    bodies = make_bodies()
    for number in range(40):
        (bodies.standby / f"{number}").write_bytes(random.Random(number).randbytes(100_000))
    take_over(bodies, epoch=6)
    bodies.apply()
    notes = bodies.home / ".dumont/restore.json"
    notes.write_text(json.dumps({"epoch": 6, "at": 1.0, "complete": False}))
    shutil.copy(bodies.standby / "3", bodies.workspace / "3")
    bodies.run("stop")
    bodies.run("resume")
    bodies.give_authority("primary")
    wait_until(lambda: "being restored" in bodies.protection().get("reason", ""), "it is said")
    assert len(list(bodies.standby.iterdir())) == 40
    bodies.give_authority("standby")
    bodies.run("restore")
    assert tree(bodies.workspace) == tree(bodies.standby)
    assert len(list(bodies.workspace.glob("[0-9]*"))) == 40


def test_a_workspace_that_was_never_restored_is_not_mirrored_over_a_full_standby(
    make_bodies: Callable[..., Bodies],
) -> None:
    bodies = make_bodies()
    (bodies.standby / ".dumont").mkdir()
    (bodies.standby / ".dumont/mark").write_text('{"epoch": 4, "sequence": 90}')
    (bodies.standby / "months of work").write_text("precious")
    bodies.start_sshd()
    bodies.apply()
    wait_until(lambda: "never restored" in bodies.protection()["reason"], "it is said")
    assert (bodies.standby / "months of work").read_text() == "precious"
    assert bodies.protection()["status"] == "degraded"


def test_there_is_nothing_to_restore_while_this_body_has_authority(bodies: Bodies) -> None:
    assert bodies.run("restore", check=False)["code"] == "invalid"
    assert bodies.run("restore", "--final", check=False)["code"] == "invalid"
    assert bodies.protection()["status"] == "protected"
