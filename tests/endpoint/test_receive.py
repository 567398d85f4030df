"""What a primary can do with its sync key on the standby: rsync in the workspace, and nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.endpoint.world import World, wait_until


def test_rsync_both_ways(world: World) -> None:
    world.apply()
    tree = world.primary.workspace
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/er/file\nwith newline").write_bytes(b"x" * 100_000)
    (tree / "link").symlink_to("deep")
    os.link(tree / "deep/er/file\nwith newline", tree / "hard")
    assert world.sync(5, "--delete", "--modify-window=-1").returncode == 0
    assert (world.standby.workspace / "deep/er/file\nwith newline").stat().st_size == 100_000
    assert (world.standby.workspace / "hard").stat().st_nlink == 2
    (tree / "hard").unlink()
    assert world.sync(5, "--delete").returncode == 0
    assert not (world.standby.workspace / "hard").exists()
    back = world.primary.home / "back"
    fetched = subprocess.run(
        ["rsync", "-lptgoHr", f"--rsh={world.sync_rsh(5)}", "dumont:./", f"{back}/"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert fetched.returncode == 0, fetched.stderr
    assert (back / "deep/er/file\nwith newline").stat().st_size == 100_000


REFUSED = [
    "",
    "sh",
    "cat /etc/passwd",
    "rsync --server --daemon .",
    "rsync --daemon",
    "rsync --server -e.Lsf . ../",
    "rsync --server -e.Lsf . /etc/",
    "rsync --server -e.Lsf --log-file=/tmp/x . ./",
    "rsync --server -se.Lsf",
    "rsync --server --sender -e.Lsf . ./ /etc/passwd",
    "rsync --server --sender -Le.Lsf . ./",
    "rsync --server -e.Lsf . ./; id",
    "manifest --hash; id",
]


def test_anything_else_is_refused(world: World) -> None:
    world.apply()
    for command in REFUSED:
        answer = world.say(5, command)
        assert (answer.returncode, answer.stdout) == (78, ""), command
        assert answer.stderr.startswith("dumont: not "), command


def test_links_lead_nowhere(world: World) -> None:
    """A hostile primary plants a link and writes through it in a second transfer."""
    world.apply()
    outside = world.standby.home / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s3cret")
    (world.primary.workspace / "hole").symlink_to(outside)
    assert world.sync(5).returncode == 0
    assert (world.standby.workspace / "hole").is_symlink()
    (world.primary.workspace / "payload").write_text("x")
    into = world.sync(5, to="hole/")
    assert into.returncode != 0
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    stolen = world.primary.home / "stolen"
    subprocess.run(
        ["rsync", "-rR", "--files-from=-", f"--rsh={world.sync_rsh(5)}", "dumont:./", f"{stolen}/"],
        input="hole/secret\n", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if not Path("/sys/kernel/security/lsm").exists() and not _landlock():
        pytest.skip("this kernel has no Landlock: reads through links are not held back")
    assert not list(stolen.rglob("secret"))


def test_a_redirect_ends_a_running_transfer(world: World) -> None:
    world.apply()
    (world.primary.workspace / "big").write_bytes(os.urandom(30_000_000))
    running = subprocess.Popen(
        [
            "rsync", "-r", "--bwlimit=2000", f"--rsh={world.sync_rsh(5)}",
            f"{world.primary.workspace}/", "dumont:./",
        ],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until("it writes", lambda: list(world.standby.workspace.glob(".big.*")))
        world.standby.agent("redirect", "--cause", "a drill")
        assert running.wait(timeout=10) != 0
        assert not (world.standby.workspace / "big").exists()
        receivers = world.standby.paths.run / "receivers"
        wait_until("none is left", lambda: not list(receivers.glob("[0-9]*")))
        assert "fenced" in world.sync(5).stderr
    finally:
        running.kill()
        assert running.stderr is not None
        running.stderr.close()


def test_a_fence_ends_the_reading_of_an_old_epoch(world: World) -> None:
    world.apply()
    talk = subprocess.Popen(
        [*world.sync_rsh(5).split(), "dumont", "serve"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert talk.stdin is not None
    assert talk.stdout is not None
    try:
        talk.stdin.write('{"do": "mark"}\n')
        talk.stdin.flush()
        assert "mark" in talk.stdout.readline()
        world.fence(6)
        assert talk.wait(timeout=10) != 0
    finally:
        talk.kill()
        talk.stdin.close()
        talk.stdout.close()


def _landlock() -> bool:
    import ctypes

    libc = ctypes.CDLL(None)
    return bool(libc.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)) > 0)
