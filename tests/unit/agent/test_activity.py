"""What the agent sees people do, with real processes, terminals and files."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dumont.agent import activity, commands, hook, store
from dumont.agent.activity import Activity
from dumont.agent.paths import MARKER, Paths

BUSY = "while True: pass"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process; all end with the test, with what they started."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: str, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(words, start_new_session=True, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def sshd(tmp_path: Path) -> str:
    """A program of sshd's name, so that what it starts hangs below a login of that title."""
    program = tmp_path / "sshd"
    shutil.copy(os.path.realpath("/bin/bash"), program)
    program.chmod(0o755)
    return str(program)


def look(folder: Path, root: int, seconds: float = 0.4) -> dict[str, Any]:
    watcher = Activity(folder, below=root, every_s=0.0)
    time.sleep(seconds)
    return watcher.read()


def test_a_process_at_work_is_seen_and_one_at_rest_is_not(tmp_path: Path, start: Start) -> None:
    rest = start("sleep", "60")
    found = look(tmp_path, rest.pid)
    assert (found["user_processes"], found["cpu_cores"]) == (0, 0.0)
    work = start(sys.executable, "-c", BUSY)
    found = look(tmp_path, work.pid, 0.8)
    assert found["user_processes"] == 1
    assert found["cpu_cores"] > activity.NOTICEABLE_CORES


def test_programs_that_end_between_two_looks_are_work_all_the_same(
    tmp_path: Path, start: Start
) -> None:
    compiler = f"while :; do {sys.executable} -ISc 'sum(range(10**6))'; done"
    make = start("sh", "-c", compiler)
    watcher = Activity(tmp_path, below=make.pid, every_s=0.0)
    deadline = time.monotonic() + 20
    while (watcher.read()["cpu_cores"] or 0) < activity.NOTICEABLE_CORES:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_what_people_write_is_seen(tmp_path: Path, start: Start) -> None:
    words = (
        f"while :; do dd if=/dev/zero of={tmp_path}/x bs=1M count=8 conv=fsync; sleep 0.05; done"
    )
    writer = start("sh", "-c", words, stderr=subprocess.DEVNULL)
    watcher = Activity(tmp_path, below=writer.pid, every_s=0.0)
    deadline = time.monotonic() + 20
    while (watcher.read()["disk_write_bps"] or 0) < 8e6:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_figures_of_less_than_their_time_are_the_last_ones(tmp_path: Path, start: Start) -> None:
    work = start(sys.executable, "-c", BUSY)
    watcher = Activity(tmp_path, below=work.pid, every_s=3600.0)
    found = watcher.read()
    assert found["cpu_cores"] is None
    assert found["user_processes"] is None
    assert found["keep_alive_s"] == 0.0


def _orphan(code: str, **environment: str) -> int:
    """Start a program that is nobody's child; what the test started is the test's own."""
    script = f'{sys.executable} -c "{code}" >/dev/null 2>&1 & echo $!'
    done = subprocess.run(
        ["sh", "-c", script],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    return int(done.stdout)


def test_what_is_ours_and_what_is_the_systems_is_nobodys_work(tmp_path: Path, start: Start) -> None:
    code = "import time; time.sleep(60)"
    theirs = _orphan(code)
    ours = _orphan(code, **{MARKER: "/tmp/x"})
    named = _orphan(code + " # /root/.dumont/agent.pyz")
    daemon = tmp_path / "lsyncd"
    shutil.copy(os.path.realpath("/bin/sleep"), daemon)
    system = start(str(daemon), "60")
    try:
        time.sleep(0.3)
        watcher = Activity(tmp_path, every_s=0.0)
        people = watcher._people(watcher._scan())
        assert theirs in people
        assert not {ours, named, system.pid, os.getpid()} & set(people)
    finally:
        for pid in (theirs, ours, named):
            os.kill(pid, signal.SIGKILL)


def test_a_kernel_is_known_by_its_command_line_and_quiet_until_it_works(
    tmp_path: Path, start: Start
) -> None:
    code = "import sys\nfor line in sys.stdin: sum(range(10**7))"
    words = (sys.executable, "-c", code, "-m", "ipykernel_launcher", "-f", "kernel-1.json")
    kernel = start(*words, stdin=subprocess.PIPE)
    time.sleep(0.3)
    watcher = Activity(tmp_path, below=kernel.pid, every_s=0.0)
    time.sleep(0.3)
    assert watcher.read()["jupyter_kernels"] == 1
    time.sleep(1.0)
    assert (watcher.read()["jupyter_idle_s"] or 0) >= 0.9
    assert kernel.stdin is not None
    kernel.stdin.write(b"run\n")
    kernel.stdin.flush()
    deadline = time.monotonic() + 10
    while watcher.read()["jupyter_idle_s"] != 0.0:
        assert time.monotonic() < deadline
        time.sleep(0.3)


def _quiet_since(tty: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(tty, (then, then))


def test_a_login_is_as_quiet_as_its_terminal(tmp_path: Path, start: Start, sshd: str) -> None:
    master, slave = pty.openpty()
    tty = os.ttyname(slave)
    login = start("bash", "-c", f'exec -a "sshd: ana@{tty[5:]}" {sshd} -c "sleep 60; :"')
    time.sleep(0.3)
    _quiet_since(tty, 5000)
    found = look(tmp_path, login.pid)
    assert found["ssh_sessions"] == 1
    assert found["session_idle_s"] == pytest.approx(5000, abs=20)
    os.write(master, b"ls\n")
    os.read(slave, 10)
    assert look(tmp_path, login.pid)["session_idle_s"] < 30
    os.close(master)
    os.close(slave)
    assert look(tmp_path, login.pid)["session_idle_s"] is None, "a terminal that is gone"


def test_our_own_warning_on_a_terminal_is_nobodys_activity(
    tmp_path: Path, start: Start, sshd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pty.openpty()
    tty = os.ttyname(slave)
    login = start("bash", "-c", f'exec -a "sshd: ana@{tty[5:]}" {sshd} -c "sleep 60; :"')
    time.sleep(0.3)
    _quiet_since(tty, 5000)
    monkeypatch.setattr(activity, "terminals", lambda: [tty[5:]])
    paths = Paths(tmp_path)
    assert commands.tell(paths, "It hibernates\nat 12:00. \x1b[2J") == {"terminals": 1}
    shown = os.read(master, 1000).decode()
    assert "It hibernates at 12:00." in shown
    assert "\x1b[2J" not in shown
    assert os.stat(tty).st_mtime > time.time() - 30
    assert look(paths.base, login.pid)["session_idle_s"] == pytest.approx(5000, abs=20)
    os.close(master)
    os.close(slave)


def test_a_login_without_a_terminal_is_lively_while_something_below_it_works(
    tmp_path: Path, start: Start, sshd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    title = 'exec -a "sshd: ana@notty"'
    login = start("bash", "-c", f'{title} {sshd} -c "read x; {sys.executable} -c \\"{BUSY}\\"; :"')
    alone = start("bash", "-c", f'{title} {sshd} -c "read x; :"', stdin=subprocess.PIPE)
    time.sleep(0.3)
    assert look(tmp_path, login.pid)["ssh_sessions"] == 0, "a single command is no login"
    monkeypatch.setattr(activity, "_SETTLED_S", 0.0)
    assert look(tmp_path, alone.pid)["ssh_sessions"] == 0, "nothing of a person runs there"

    editor = start(
        "bash", "-c", f'{title} {sshd} -c "sleep 1.5; {sys.executable} -c \\"{BUSY}\\"; :"'
    )
    time.sleep(0.2)
    watcher = Activity(tmp_path, below=editor.pid, every_s=0.0)
    watcher.read()
    time.sleep(0.6)
    found = watcher.read()
    assert found["ssh_sessions"] == 1
    assert (found["session_idle_s"] or 0) >= 0.5
    deadline = time.monotonic() + 10
    while watcher.read()["session_idle_s"] != 0.0:
        assert time.monotonic() < deadline
        time.sleep(0.4)


def test_a_wish_is_kept_until_its_time(tmp_path: Path) -> None:
    assert activity.keep_alive_left(tmp_path) == 0.0
    answer = activity.keep_alive(tmp_path, "2h")
    assert answer["seconds"] == 7200
    assert activity.keep_alive_left(tmp_path) == pytest.approx(7200, abs=5)
    assert activity.keep_alive(tmp_path, "0") == {"keep_alive": None, "seconds": 0}
    assert activity.keep_alive_left(tmp_path) == 0.0
    for text in ("soon", "99999999999999", "nan"):
        store.write_text(tmp_path / activity.KEEP_ALIVE, text)
        assert activity.keep_alive_left(tmp_path) is None
    store.write_text(tmp_path / activity.KEEP_ALIVE, "1000")
    assert activity.keep_alive_left(tmp_path) == 0.0


@pytest.mark.parametrize(
    ("words", "seconds"),
    [("90m", 5400), ("1.5 h", 5400), ("3d", 259200), ("7d", 604800), ("30", 1800), ("0", 0)],
)
def test_times_that_people_write(words: str, seconds: float) -> None:
    assert activity.duration_s(words) == seconds


@pytest.mark.parametrize("words", ["", "-1h", "8d", "1e9", "2 weeks", "5s", "nan", "9" * 30])
def test_times_that_are_none(words: str) -> None:
    with pytest.raises(ValueError, match=r"not a time|too long|too short"):
        activity.duration_s(words)


def test_the_command_on_the_machine_asks_and_withdraws(tmp_path: Path) -> None:
    import logging

    paths = Paths(tmp_path)
    hook.install_command(paths, logging.getLogger("test"), hook.KEEP_ALIVE)
    script = str(paths.home / ".local/bin/dumont-keep-alive")
    done = subprocess.run([script, "2", "h"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["seconds"] == 7200
    assert activity.keep_alive_left(paths.base) == pytest.approx(7200, abs=20)
    wrong = subprocess.run([script, "9d"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "7 days at most" in wrong.stderr


def test_one_look_goes_on_where_the_last_one_stopped(tmp_path: Path, start: Start) -> None:
    words = (sys.executable, "-c", "import sys; sys.stdin.read()", "ipykernel_launcher")
    kernel = start(*words, stdin=subprocess.PIPE)
    time.sleep(0.3)
    file = tmp_path / "observed.json"
    first = Activity(tmp_path, below=kernel.pid, every_s=0.0)
    assert not first.recall(file)
    first.read()
    first.remember(file)
    time.sleep(1.0)
    second = Activity(tmp_path, below=kernel.pid, every_s=0.0)
    assert second.recall(file)
    assert (second.read()["jupyter_idle_s"] or 0) >= 0.9
    for damage in ("{}", "no json", '{"boot": 1, "at": 2, "table": [[1]], "lively": 3}'):
        file.write_text(damage)
        assert not second.recall(file)
    kept = {"boot": second._boot, "at": second._at - 9000, "table": [], "lively": {}}
    store.write_json(file, kept)
    assert not second.recall(file), "too long ago"


def test_observing_prints_the_host_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Paths, "is_system_account", False)
    found = commands.observe(Paths(tmp_path))
    assert found["keep_alive_s"] == 0.0
    assert found["cpu_cores"] is not None
    assert "gpu_memory_busy_percent" in found
    assert len(found) <= 64
    assert (tmp_path / ".local/bin/dumont-keep-alive").exists()
    json.dumps(found)
