"""What the person at the keyboard sees: plain ssh in a terminal, scp, rsync, VS Code."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

from tests.endpoint.world import World, wait_until


class Terminal:
    """A program in a terminal, as a person runs it."""

    def __init__(self, words: list[str]) -> None:
        self._main, other = pty.openpty()
        self.process = subprocess.Popen(
            words, stdin=other, stdout=other, stderr=other, start_new_session=True
        )
        os.close(other)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def read(self) -> None:
        while select.select([self._main], [], [], 0)[0]:
            try:
                data = os.read(self._main, 65536)
            except OSError:
                return
            if not data:
                return
            self.seen += data.decode("utf-8", "replace")

    def until(self, text: str, timeout_s: float = 15.0) -> None:
        def shown() -> bool:
            self.read()
            return text in self.seen

        wait_until(f"{text!r} in {self.seen!r}", shown, timeout_s=timeout_s)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._main)


@contextlib.contextmanager
def terminal(words: list[str]) -> Iterator[Terminal]:
    made = Terminal(words)
    try:
        yield made
    finally:
        made.close()


def test_a_plain_session_that_is_cut_says_so(world: World) -> None:
    world.apply()
    with terminal([*world.ssh_words("-t"), "cat ~/who; exec cat"]) as shell:
        shell.until("primary")
        world.primary.signal(signal.SIGKILL)
        wait_until("the client ended", lambda: shell.process.poll() is not None, timeout_s=5)
        shell.read()
        assert shell.process.returncode == 255
        assert "closed by remote host" in shell.seen
    assert world.where() == "standby"


def test_a_frozen_machine_does_not_hang_the_client(world: World) -> None:
    """The client needs no keep-alive of its own: HAProxy closes the session for it."""
    world.apply()
    with terminal([*world.ssh_words("-t"), "cat ~/who; exec cat"]) as shell:
        shell.until("primary")
        began = time.monotonic()
        world.primary.signal(signal.SIGSTOP)
        wait_until("the client ended", lambda: shell.process.poll() is not None, timeout_s=10)
        assert time.monotonic() - began < 5
        shell.read()
        assert "closed by remote host" in shell.seen


def test_a_reconnect_loop_goes_on_in_the_same_terminal(world: World) -> None:
    world.apply()
    client = " ".join(f"'{word}'" for word in world.ssh_words("-t"))
    loop = f"until {client} 'cat ~/who; exec bash -l'; do :; done"
    with terminal(["bash", "-c", loop]) as shell:
        shell.until("primary")
        shell.type("echo $((6*7))-typed\n")
        shell.until("42-typed")
        world.primary.signal(signal.SIGKILL)
        shell.until("standby")
        # The login says where one is now.
        shell.until("you are on its standby")
        shell.type("cat ~/workspace/../who; echo again-$((6*7)); exit\n")
        shell.until("again-42")


def test_nothing_is_printed_where_a_program_reads(world: World) -> None:
    world.apply()
    world.standby.agent("redirect", "--cause", "a drill")
    plain = world.ssh("echo exactly this")
    assert (plain.stdout, plain.stderr) == ("exactly this\n", "")
    # As VS Code does it: no terminal, a shell that reads its script, and one that asks for the
    # environment of a login.
    code = subprocess.run(
        [*world.ssh_words("-T"), "bash"], input="echo from-script; bash -lc 'echo env-of-login'\n",
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert code.stdout == "from-script\nenv-of-login\n"
    source = world.folder / "file"
    source.write_text("content")
    options = world.ssh_words()[len(world.standby.enter) + 1 : -1]
    at = options.index("-p")
    target = f"root@{world.standby.address}:{world.standby.workspace}/"
    for flags in ([], ["-O"]):
        copied = subprocess.run(
            ["scp", *flags, *options[:at], "-P", options[at + 1], str(source), target],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert (copied.returncode, copied.stderr) == (0, "")
    assert (world.standby.workspace / "file").read_text() == "content"
    rsh = " ".join(["ssh", *options])
    synced = subprocess.run(
        ["rsync", "-a", f"--rsh={rsh}", str(source), target],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (synced.returncode, synced.stderr) == (0, "")


def test_notices_appear_on_terminals_and_nowhere_else(world: World) -> None:
    world.apply()
    world.standby.agent("redirect", "--cause", "a drill")
    quiet = subprocess.Popen(
        [*world.ssh_words("-T"), "echo ready; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert quiet.stdout is not None
    try:
        assert quiet.stdout.readline() == b"ready\n"
        with terminal([*world.ssh_words("-t"), "echo ready; exec cat"]) as shell:
            shell.until("ready")
            world.standby.agent("quiesce", "--cut")
            shell.until("*** Dumont: my-box moves back to a GPU now")
            assert "\033]0;my-box: moving\007" in shell.seen
            wait_until("it was cut", lambda: shell.process.poll() is not None)
        assert quiet.stdout.read() == b""
    finally:
        quiet.kill()
        quiet.communicate()


def test_like_vs_code(world: World) -> None:
    """One connection without a terminal, with a forward and channels; it ends and is made anew."""
    world.apply()
    control = world.folder / "control"
    options = ("-o", "ServerAliveInterval=5", "-o", "ExitOnForwardFailure=yes")
    master = [
        *world.ssh_words(
            "-T", "-M", "-S", str(control), "-D", f"127.0.0.1:{_free_port()}", *options
        ),
        "bash",
    ]
    channel = world.ssh_words("-S", str(control))

    def connect() -> subprocess.Popen[str]:
        made = subprocess.Popen(
            master, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert made.stdin is not None
        made.stdin.write("cat ~/who; echo\n")
        made.stdin.flush()
        return made

    first = connect()
    assert first.stdout is not None
    try:
        assert first.stdout.readline() == "primary\n"
        done = subprocess.run(
            [*channel, "echo channel"], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.stdout == "channel\n"
        world.primary.signal(signal.SIGKILL)
        assert first.wait(timeout=5) == 255
    finally:
        first.kill()
        first.communicate()
    second = connect()
    assert second.stdout is not None
    try:
        assert second.stdout.readline() == "standby\n"
    finally:
        second.kill()
        second.communicate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
