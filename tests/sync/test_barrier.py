"""After `flush` the primary may die at once, and nothing written before it is lost."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sync.bodies import Bodies, tree, wait_until

WRITER = textwrap.dedent(
    """
    # A training job: a mapped file, a log that stays open, checkpoints saved atomically and in place.
    import json, mmap, os, random, sys
    workspace, seed = sys.argv[1], int(sys.argv[2])
    random.seed(seed)
    os.chdir(workspace)
    os.makedirs("run/deep", exist_ok=True)
    with open("run/mapped", "ab+") as file:
        file.truncate(1 << 20)
        memory = mmap.mmap(file.fileno(), 1 << 20)
    log = open("run/log", "ab", buffering=0)
    place = open("run/in_place", "r+b" if os.path.exists("run/in_place") else "w+b")
    for line in sys.stdin:
        for _ in range(30):
            at = random.randrange((1 << 20) - 8)
            memory[at:at + 8] = random.randbytes(8)
            log.write(random.randbytes(100))
            place.seek(random.randrange(1 << 18)); place.write(random.randbytes(1000)); place.flush()
        for number in range(20):
            with open("run/new", "wb") as new: new.write(random.randbytes(5000))
            os.replace("run/new", f"run/deep/checkpoint{number}")
        memory[0:8] = random.randbytes(8)
        print("written", flush=True)
    """
)


def written(workspace: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(workspace)): path.read_bytes()
        for path in workspace.rglob("*")
        if path.is_file() and path.relative_to(workspace).parts[0] != ".dumont"
    }


def test_nothing_is_lost_when_the_primary_dies_right_after_a_flush(bodies: Bodies) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(bodies.workspace), "1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdin is not None
    assert writer.stdout is not None
    with writer:
        for round_number in range(4):
            writer.stdin.write("go\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "written\n"
            result = bodies.run("flush")
            bodies.kill_primary()
            assert written(bodies.standby) == written(bodies.workspace), f"round {round_number}"
            assert result["epoch"] == 5
            assert result["files"] >= 23
            assert result["hashed"] > 0
            bodies.run("resume")
            bodies.wait_protected()
        writer.stdin.close()


def test_a_store_to_mapped_memory_that_moves_no_time_is_not_lost(bodies: Bodies) -> None:
    path = bodies.workspace / "mapped"
    path.write_bytes(bytes(1 << 16))
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 1 << 16)
    memory[0:5] = b"first"
    wait_until((bodies.standby / "mapped").exists, "the file is there")
    bodies.run("flush")
    assert (bodies.standby / "mapped").read_bytes()[:5] == b"first"
    memory[0:5] = b"2nd.."
    os.utime(path, ns=(1, 1))
    bodies.run("flush")
    memory[0:5] = b"third"
    os.utime(path, ns=(1, 1))
    memory.close()
    bodies.run("flush")
    assert (bodies.standby / "mapped").read_bytes()[:5] == b"third"


def test_changed_content_with_the_old_size_and_time_is_found(bodies: Bodies) -> None:
    path = bodies.workspace / "sly"
    path.write_bytes(b"aaaa")
    bodies.run("flush")
    before = path.stat()
    path.write_bytes(b"bbbb")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = bodies.run("flush")
    assert (bodies.standby / "sly").read_bytes() == b"bbbb"
    assert result["hashed"] >= 1


def test_a_file_that_never_stands_still_does_not_hold_the_barrier_up(bodies: Bodies) -> None:
    path, stop = bodies.workspace / "restless", threading.Event()

    def scribble() -> None:
        with path.open("wb", buffering=0) as file:
            number = 0
            while not stop.is_set():
                file.seek(0)
                file.write(b"%020d" % number * 5000)
                number += 1

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        wait_until(lambda: path.exists() and path.stat().st_size > 0, "it scribbles")
        (bodies.workspace / "precious").write_text("kept")
        # On a loaded box the scribbler may be made to wait until both sides have the same.
        named = [bodies.run("flush").get("changing") for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    assert (bodies.standby / "precious").read_text() == "kept"
    assert ["restless"] in named


def test_many_questions_at_once_share_runs(bodies: Bodies) -> None:
    (bodies.workspace / "x").write_text("x")
    results: list[dict[str, object]] = []
    threads = [
        threading.Thread(target=lambda: results.append(bodies.run("flush"))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len({result["sequence"] for result in results}) < 6


def test_a_training_loop_may_ask_by_a_file_or_by_a_command(bodies: Bodies) -> None:
    (bodies.workspace / "weights").write_bytes(b"w" * 1000)
    folder = bodies.workspace / ".dumont/flush"
    wait_until(folder.exists, "the folder of requests")
    (folder / "step-1.request").touch()
    done = folder / "step-1.done"
    wait_until(done.exists, "an answer")
    assert json.loads(done.read_text())["hashed"] >= 1
    assert not (folder / "step-1.request").exists()
    assert (bodies.standby / "weights").read_bytes() == b"w" * 1000
    (bodies.workspace / "weights").write_bytes(b"v" * 1000)
    command = bodies.home / ".local/bin/dumont-flush"
    assert json.loads(subprocess.check_output([str(command)]))["epoch"] == 5
    assert (bodies.standby / "weights").read_bytes() == b"v" * 1000


def test_it_does_not_promise_what_cannot_be_mirrored(bodies: Bodies) -> None:
    bodies.stop_sshd()
    (bodies.workspace / "late").write_text("late")
    answer = bodies.run("flush", "--timeout", "1", check=False)
    assert answer["code"] == "timeout"
    bodies.start_sshd()
    bodies.run("flush")
    assert (bodies.standby / "late").read_text() == "late"


def test_excluded_files_are_not_waited_for_and_not_hidden(
    make_bodies: Callable[..., Bodies],
) -> None:
    bodies = make_bodies(excludes=["*.pyc", "/cache dir/"])
    bodies.start_sshd()
    (bodies.workspace / "a.pyc").write_bytes(b"1" * 10)
    (bodies.workspace / "cache dir").mkdir()
    (bodies.workspace / "cache dir/b").write_bytes(b"2" * 20)
    (bodies.workspace / "kept").write_text("kept")
    os.mkfifo(bodies.workspace / "pipe")
    bodies.apply()
    bodies.wait_protected()
    bodies.run("flush")
    assert {path.name for path in bodies.standby.iterdir()} == {"kept", ".dumont"}
    rows = wait_until(lambda: bodies.protection()["not_mirrored"], "the summary")
    assert rows == [
        {"pattern": "*.pyc", "files": 1, "bytes": 10},
        {"pattern": "/cache dir/", "files": 1, "bytes": 20},
        {"pattern": "(devices, pipes and sockets)", "files": 1, "bytes": 0},
    ]


@pytest.mark.parametrize("words", [["flush", "--timeout", "soon"], ["flush", "now"]])
def test_wrong_words_are_refused(bodies: Bodies, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(bodies.agent), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_trees_are_the_same_afterwards(bodies: Bodies) -> None:
    (bodies.workspace / "d/e/f").mkdir(parents=True)
    (bodies.workspace / "d/link").symlink_to("nowhere")
    (bodies.workspace / "d/x").write_text("x")
    bodies.run("flush")
    assert tree(bodies.standby) == tree(bodies.workspace)
