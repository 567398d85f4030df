"""Every kind of change reaches the standby, soon, and whatever breaks is mended by itself."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sync.bodies import Bodies, kill, tree, wait_until

# lsyncd escapes wildcards, but not the backslash beside them: such a name waits for the next pass.
LATE = b"[a] *?\\"
WEIRD = [b"new\nline", b"\xff\xfe bytes", b"[a] *?", b" spaces ", b"- dash", b"#hash", b"'\"$(x)`"]


def fill(workspace: Path) -> None:
    """A small tree with one of everything."""
    (workspace / "src/deep/deeper").mkdir(parents=True)
    (workspace / "empty/nested").mkdir(parents=True)
    (workspace / "src/main.py").write_text("print('hi')\n")
    (workspace / "big").write_bytes(random.Random(1).randbytes(3_000_000))
    (workspace / "src/deep/script.sh").write_text("#!/bin/sh\n")
    (workspace / "src/deep/script.sh").chmod(0o751)
    (workspace / "link").symlink_to("src/main.py")
    (workspace / "dangling").symlink_to("/nowhere/at all")
    (workspace / "folder link").symlink_to("src")
    os.link(workspace / "big", workspace / "src/deep/deeper/same as big")
    (workspace / "owned").write_text("x")
    os.chown(workspace / "owned", 1234, 2345)
    os.utime(workspace / "owned", ns=(1, 1_234_567_891_234_567_891))
    for name in WEIRD:
        folder = os.path.join(os.fsencode(workspace), b"weird", name)
        os.makedirs(folder)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(name)


def test_the_first_copy_brings_everything(make_bodies: Callable[..., Bodies]) -> None:
    bodies = make_bodies()
    fill(bodies.workspace)
    with open(os.path.join(os.fsencode(bodies.workspace), LATE), "wb") as file:
        file.write(LATE)
    (bodies.standby / "left over").write_text("of an earlier life")
    bodies.start_sshd()
    bodies.apply()
    protection = bodies.wait_protected()
    assert tree(bodies.standby) == tree(bodies.workspace)
    one, two = bodies.standby / "big", bodies.standby / "src/deep/deeper/same as big"
    assert one.stat().st_ino == two.stat().st_ino
    assert protection["lag_s"] < 5
    assert "is protected" in (bodies.home / ".dumont/status").read_text()
    assert (bodies.home / ".dumont/sync_key").stat().st_mode & 0o777 == 0o600


def test_every_kind_of_change_is_seen(bodies: Bodies) -> None:
    workspace, standby = bodies.workspace, bodies.standby

    def same() -> bool:
        return tree(standby) == tree(workspace)

    fill(workspace)
    wait_until(same, "a tree that appears at once")
    (workspace / "src/main.py").write_text("changed\n")
    temporary = workspace / "src/.main.tmp"
    temporary.write_text("atomic\n")
    temporary.rename(workspace / "src/deep/script.sh")
    (workspace / "owned").chmod(0o600)
    (workspace / "link").unlink()
    (workspace / "link").symlink_to("elsewhere")
    wait_until(same, "changes in place, by rename, of mode and of links")
    (workspace / "src").rename(workspace / "moved")
    shutil.rmtree(workspace / "weird")
    wait_until(same, "a moved and a removed tree")
    (workspace / "big").unlink()
    (workspace / "big").mkdir()
    (workspace / "moved/main.py").rename(workspace / "big/main.py")
    wait_until(same, "a file that became a folder")


def test_a_log_that_stays_open_is_seen_line_by_line(bodies: Bodies) -> None:
    there = bodies.standby / "log"
    with (bodies.workspace / "log").open("ab", buffering=0) as log:
        for number in range(5):
            log.write(b"line %d\n" % number)
            size = log.tell()
            wait_until(lambda size=size: there.exists() and there.stat().st_size == size, "a line")


def test_a_burst_and_a_big_rename_converge(bodies: Bodies) -> None:
    folder = bodies.workspace / "burst"
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number}").write_text(f"{number}")

    def count(name: str) -> int:
        there = bodies.standby / name
        return len(list(there.iterdir())) if there.is_dir() else 0

    wait_until(lambda: count("burst") == 1000, "the burst", timeout_s=30)
    folder.rename(bodies.workspace / "renamed")
    wait_until(lambda: (count("burst"), count("renamed")) == (0, 1000), "the move", timeout_s=30)
    wait_until(lambda: tree(bodies.standby) == tree(bodies.workspace), "all of it")


def test_a_big_file_does_not_hold_up_a_small_one(make_bodies: Callable[..., Bodies]) -> None:
    bodies = make_bodies()
    bodies.start_sshd()
    bodies.apply()
    bodies.wait_protected()
    big = bodies.workspace / "big"
    with big.open("wb") as file:
        file.truncate(3 << 30)
    lsyncd = wait_until(lambda: bodies.find("lsyncd"), "lsyncd")[0]
    wait_until(lambda: bodies.find("rsync"), "the transfer of the big file")
    (bodies.workspace / "small").write_text("small")
    wait_until((bodies.standby / "small").exists, "the small file")
    assert not (bodies.standby / "big").exists(), "the big file was too quick for this test"
    assert bodies.find("lsyncd") == [lsyncd]


@pytest.mark.parametrize("victim", ["lsyncd", "ssh", "worker"])
def test_what_is_killed_comes_back(bodies: Bodies, victim: str) -> None:
    pids = bodies.daemon_pids()[:1] if victim == "worker" else bodies.find(victim)
    assert pids
    for pid in pids:
        kill(pid)
    (bodies.workspace / "after").write_text("the fall")
    wait_until((bodies.standby / "after").exists, f"a change after {victim} was killed")
    bodies.wait_protected()
    wait_until(lambda: len(bodies.find("lsyncd")) == 1, "one lsyncd")


def test_a_standby_that_was_away_catches_up(bodies: Bodies) -> None:
    bodies.stop_sshd()
    (bodies.workspace / "meanwhile").write_text("x")
    wait_until(lambda: bodies.protection()["status"] == "degraded", "it is said")
    assert "cannot be reached" in bodies.protection()["reason"]
    assert "WARNING" in (bodies.home / ".dumont/status").read_text()
    bodies.start_sshd()
    wait_until((bodies.standby / "meanwhile").exists, "the change arrives")
    bodies.wait_protected()


def test_a_host_key_that_changed_is_refused(make_bodies: Callable[..., Bodies]) -> None:
    bodies, other = make_bodies(), make_bodies()
    bodies.host_key, own = other.host_key, bodies.host_key
    bodies.start_sshd()
    bodies.host_key = own
    (bodies.workspace / "secret").write_text("x")
    bodies.apply()
    wait_until(lambda: "verification failed" in bodies.protection()["reason"], "it is said")
    assert not (bodies.standby / "secret").exists()


def test_a_body_without_authority_stops_and_goes_on_when_it_is_given_back(bodies: Bodies) -> None:
    bodies.give_authority("standby")
    wait_until(lambda: "has authority" in bodies.protection()["reason"], "it is said")
    assert not bodies.find("lsyncd")
    (bodies.workspace / "mine").write_text("x")
    assert bodies.run("flush", check=False)["code"] == "fenced"
    assert [each["path"] for each in bodies.run("divergence")["files"]] == ["mine"]
    assert not (bodies.standby / "mine").exists()
    bodies.give_authority("primary")
    wait_until((bodies.standby / "mine").exists, "the change arrives")
    bodies.wait_protected()


def test_a_full_standby_is_said_and_mended(make_bodies: Callable[..., Bodies]) -> None:
    bodies = make_bodies()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", bodies.standby], check=True)
    try:
        bodies.start_sshd()
        bodies.apply()
        bodies.wait_protected()
        (bodies.workspace / "big").write_bytes(random.Random(1).randbytes(3_000_000))
        wait_until(lambda: "disk is full" in bodies.protection()["reason"], "it is said")
        assert bodies.run("flush", check=False)["code"] == "not_mirrored"
        (bodies.workspace / "big").unlink()
        bodies.wait_protected()
    finally:
        bodies.run("stop", check=False)
        subprocess.run(["umount", "-l", bodies.standby], check=True)


def test_a_full_primary_is_said_and_mended(make_bodies: Callable[..., Bodies]) -> None:
    bodies = make_bodies()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", bodies.workspace], check=True)
    try:
        bodies.start_sshd()
        bodies.apply()
        bodies.wait_protected()
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={bodies.workspace}/big", "bs=4k"],
            check=False, capture_output=True,
        )  # fmt: skip
        wait_until(lambda: "cannot be written to" in bodies.protection()["reason"], "it is said")
        (bodies.workspace / "big").unlink()
        bodies.wait_protected()
    finally:
        bodies.run("stop", check=False)
        subprocess.run(["umount", "-l", bodies.workspace], check=True)


def test_too_few_watches_mean_passes_and_are_said(make_bodies: Callable[..., Bodies]) -> None:
    """A user namespace has a limit of its own, which only its parent may raise."""
    limit = (
        "echo 5 >/proc/sys/user/max_inotify_watches && exec setpriv --bounding-set=-sys_resource"
    )
    wrapper = ["unshare", "--user", "--map-root-user", "sh", "-c", f'{limit} "$@"', "sh"]
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no user namespaces here")
    bodies = make_bodies(wrapper=wrapper)
    for number in range(20):
        (bodies.workspace / f"folder{number}").mkdir()
    bodies.start_sshd()
    bodies.apply()
    wait_until(lambda: "inotify watches" in bodies.protection().get("reason", ""), "it is said")
    (bodies.workspace / "folder19/x").write_text("x")
    wait_until((bodies.standby / "folder19/x").exists, "the change arrives")


def test_without_lsyncd_it_goes_on_by_passes_and_says_so(
    make_bodies: Callable[..., Bodies],
) -> None:
    hide = "for f in lsyncd apt-get; do mount --bind /dev/null $(command -v $f); done"
    wrapper = ["unshare", "--mount", "sh", "-c", f'{hide}; exec "$@"', "sh"]
    bodies = make_bodies(wrapper=wrapper)
    bodies.start_sshd()
    bodies.apply()
    wait_until(lambda: "lsyncd" in bodies.protection().get("reason", ""), "it is said")
    (bodies.workspace / "x").write_text("x")
    wait_until((bodies.standby / "x").exists, "the change arrives")
    wait_until(lambda: bodies.protection()["status"] == "degraded", "it is not called protected")


def test_an_overflow_of_events_is_answered_with_a_full_pass(bodies: Bodies) -> None:
    lsyncd = bodies.find("lsyncd")[0]
    one, two, lost = (bodies.workspace / name for name in ("one", "two", "lost"))
    for path in (one, two):
        path.write_text("x")
        wait_until((bodies.standby / path.name).exists, "it is watched")
    kill(lsyncd, signal.SIGSTOP)
    try:
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        for number in range(limit // 2 + 500):
            # In turn, or the kernel would merge them.
            one.chmod(0o600 + number % 2)
            two.chmod(0o600 + number % 2)
        lost.write_text("its event is lost")
    finally:
        kill(lsyncd, signal.SIGCONT)
    wait_until((bodies.standby / "lost").exists, "what no event told of")
    wait_until(
        lambda: "overflowed" in (bodies.home / ".dumont/log/agent.log").read_text(), "it is seen"
    )
    wait_until(lambda: tree(bodies.standby) == tree(bodies.workspace), "all of it")
    bodies.wait_protected()


def test_a_returning_body_is_told_by_its_status(bodies: Bodies) -> None:
    status = bodies.run("status")
    assert status["running"] is True
    assert status["role"] == "primary"
    assert status["protection"]["status"] == "protected"
    assert time.time() - os.stat(bodies.home / ".dumont/status.json").st_mtime < 5
    assert json.loads((bodies.workspace / ".dumont/mark").read_text())["epoch"] == 5
