"""The guard's parts one by one: configuration, judgement, notices, keys, the metadata server."""

from __future__ import annotations

import dataclasses
import http.server
import logging
import os
import pty
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.agent import authority, guard_link, guard_preempt, guard_written, notify, receive
from dumont.agent.authority import AuthorityFile
from dumont.agent.endpoint import Look, reason_in
from dumont.agent.guard_keys import install
from dumont.agent.haproxy import Server
from dumont.agent.haproxy_config import Settings, render, shape_of
from dumont.agent.paths import Paths

SETTINGS = Settings(
    bind="*:2222", standby="127.0.0.1:22", primary="10.0.0.1:40022", primary_serves=True,
    connect_ms=100, check_ms=50, inter_ms=50, fall=1, down_inter_ms=500,
)  # fmt: skip


def rendered(settings: Settings) -> str:
    return render(settings, socket_path="/tmp/x.sock", log_name="x", as_root=False)


def test_haproxy_accepts_the_configuration(tmp_path: Path) -> None:
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("haproxy is not installed")
    for settings in (SETTINGS, dataclasses.replace(SETTINGS, primary=None, primary_serves=False)):
        file = tmp_path / "haproxy.cfg"
        file.write_text(rendered(settings))
        done = subprocess.run([program, "-c", "-f", str(file)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_primary_without_authority_starts_disabled() -> None:
    assert "primary 10.0.0.1:40022 check" in rendered(SETTINGS)
    without = rendered(dataclasses.replace(SETTINGS, primary_serves=False))
    assert "primary 10.0.0.1:40022 disabled check" in without


def test_what_can_change_while_it_runs_is_no_reason_to_start_anew() -> None:
    moved = dataclasses.replace(SETTINGS, primary="10.9.9.9:1", primary_serves=False)
    assert shape_of(moved) == shape_of(SETTINGS)
    slower = dataclasses.replace(SETTINGS, check_ms=400)
    assert shape_of(slower).split("-")[0] == shape_of(SETTINGS).split("-")[0]
    assert shape_of(slower) != shape_of(SETTINGS)
    assert (
        shape_of(dataclasses.replace(SETTINGS, bind="*:1")).split("-")[0]
        != (shape_of(SETTINGS).split("-")[0])
    )


def test_haproxys_own_words_are_found() -> None:
    said = [
        '<129>Nov 26 haproxy[7]: Server ssh/primary is DOWN, reason: Layer4 timeout, info: "at step 1", '
        "check duration: 50ms. 0 active and 1 backup servers left."
    ]
    assert reason_in(said) == "Layer4 timeout (at step 1)"
    assert reason_in(["Server ssh/primary is UP"]) is None


def look(bytes_in: int, *, pid: int | None = 7) -> Look:
    standby = Server("UP", 0, 0, bytes_in, "", "")
    return Look(primary=standby, standby=standby, sessions=0, pid=pid)


def test_written_is_true_false_or_unknown(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    (workspace / ".dumont").mkdir(parents=True)
    (workspace / "old").write_text("x")
    base = guard_written.baseline(look(500), certain=True)

    def judged(now: Look | None = None, **changes: object) -> bool | None:
        return guard_written.judge({**base, **changes}, now or look(600), workspace)

    assert judged() is False
    assert judged(look(500 + guard_written.LOGIN_BYTES)) is True
    assert judged(look(500 + guard_written.LOGIN_BYTES), certain=False) is None
    assert judged(look(600, pid=8)) is None
    assert judged(look(100)) is None
    assert judged(wall=base["wall"] + 3600) is None
    assert judged(boot="another") is None
    assert guard_written.judge(None, look(0), workspace) is None
    (workspace / ".dumont/mark").write_text("the product's own")
    assert judged() is False
    _until_clock_moves(tmp_path / "other")
    (workspace / "new").write_text("x")
    assert judged() is True
    assert judged(look(600, pid=8)) is True


def test_a_removed_file_counts_as_written(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/file").write_text("x")
    moment = os.stat(tmp_path / "deep/file").st_ctime
    _until_clock_moves(tmp_path / "deep")
    now = os.stat(tmp_path / "deep").st_ctime
    assert now > moment
    assert guard_written.changed_since(tmp_path, now) is False
    _until_clock_moves(tmp_path.parent / "other")
    (tmp_path / "deep/file").unlink()
    assert guard_written.changed_since(tmp_path, now) is True


def test_receive_reads_the_authority_as_it_is_written(tmp_path: Path) -> None:
    """It reads without JSON; this pins the form of the file."""
    file = AuthorityFile(tmp_path / "authority.json")
    places = receive.Places(
        authority=str(tmp_path / "authority.json"), run=str(tmp_path), workspace=str(tmp_path)
    )
    assert not receive.may(places, 5, False)
    state = authority.first(epoch=5, host="h", port=1, sync_public_key="k", now="t")
    file.create(state)
    for epoch in (4, 5, 50):
        for writes, rule in ((True, authority.may_write), (False, authority.may_read)):
            assert receive.may(places, epoch, writes) is rule(state, epoch)
    state = file.change(lambda s: authority.redirect(s, cause="x", now="t", baseline={}))
    assert not receive.may(places, 5, True)
    assert receive.may(places, 5, False)
    (tmp_path / "authority.json").write_text('{"authority": "primary", "epoch": 5, "held"')
    assert not receive.may(places, 5, False)


def test_only_one_sync_key_is_ever_there(tmp_path: Path) -> None:
    paths = Paths(tmp_path).ensure()
    file = tmp_path / ".ssh/authorized_keys"
    file.parent.mkdir()
    file.write_text(
        "ssh-ed25519 OWNER me@laptop\nssh-ed25519 OLD dumont-sync-e3\nssh-ed25519 NEW x\n"
    )
    for _ in range(2):
        install(paths, epoch=4, public_key="ssh-ed25519 NEW whoever")
    lines = file.read_text().splitlines()
    assert lines[0] == "ssh-ed25519 OWNER me@laptop"
    assert len(lines) == 2
    assert lines[1].startswith('restrict,command="')
    assert lines[1].endswith(" ssh-ed25519 NEW dumont-sync-e4")
    assert file.stat().st_mode & 0o777 == 0o600
    install(paths, epoch=5, public_key="")
    assert file.read_text() == "ssh-ed25519 OWNER me@laptop\n"
    shutil.rmtree(paths.run)


def test_notices_are_plain_text_on_terminals_only(tmp_path: Path) -> None:
    main, other = pty.openpty()
    tty = os.ttyname(other).removeprefix("/dev/")
    reached = notify.announce([tty, "pts/does-not-exist", "null"], title="t\033]", text="a\033[2Jb")
    assert reached == 1
    assert select.select([main], [], [], 5)[0]
    text = os.read(main, 4096).decode()
    assert "*** a [2Jb ***" in text
    assert text.startswith("\033]0;t ]\007")
    os.close(main)
    os.close(other)


def test_the_login_line_is_put_once_and_leaves_the_rest(tmp_path: Path) -> None:
    profile = tmp_path / ".profile"
    profile.write_text("export A=1")
    paths = Paths(tmp_path).ensure()
    for _ in range(2):
        notify.install_login_line(paths)
    text = profile.read_text()
    assert text.startswith("export A=1\n")
    assert text.count(">>> dumont") == 1
    paths.status_text.write_text("hello from the status\n")
    for flags, expected in (("-lc", ""), ("-lic", "")):
        done = subprocess.run(
            ["bash", flags, "true"], env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.stdout == expected
        assert done.returncode == 0
    shutil.rmtree(paths.run)


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A metadata server; set the event to preempt."""
    preempted = threading.Event()
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.headers["Metadata-Flavor"] != "Google":
                self.send_error(403)
                return
            if "wait_for_change=true" in self.path:
                preempted.wait(10)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"TRUE" if preempted.is_set() else b"FALSE")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_address[1]}")
    yield preempted
    preempted.set()
    server.shutdown()
    server.server_close()


def test_a_preemption_is_heard_at_once(metadata: threading.Event) -> None:
    heard = threading.Event()
    watch = guard_preempt.PreemptionWatch(on_preempted=heard.set, log=logging.getLogger("t"))
    watch.start()
    assert not watch.preempting
    metadata.set()
    assert heard.wait(5)
    assert watch.preempting


def test_the_link_check_tells_what_is_wrong() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert "refused" in guard_link.probe("127.0.0.1", port, timeout_s=1).lower()
        server.listen()
        assert "no answer" in guard_link.probe("127.0.0.1", port, timeout_s=0.05)

        def answer(words: bytes) -> str:
            thread = threading.Thread(target=_serve_once, args=(server, words))
            thread.start()
            found = guard_link.probe("127.0.0.1", port, timeout_s=2)
            thread.join()
            return found

        server.accept()[0].close()
        assert answer(b"SSH-2.0-x\r\n") == ""
        assert answer(b"HTTP/1.1 400") == "what answers is no SSH server"
        assert answer(b"") == "it closes connections without a word"


def _serve_once(server: socket.socket, words: bytes) -> None:
    connection, _ = server.accept()
    connection.sendall(words)
    connection.close()


def _until_clock_moves(folder: Path) -> None:
    """File times have the resolution of the kernel's tick."""
    folder.mkdir(exist_ok=True)
    probe = folder / ".probe"
    probe.write_text("x")
    first = probe.stat().st_ctime
    while True:
        probe.write_text("y")
        if probe.stat().st_ctime > first + 0.02:
            break
    probe.unlink()
