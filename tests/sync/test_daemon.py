"""The daemon: one a machine, heard by the control plane, ending its own billing when nobody hears."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dumont.agent.processes import started
from tests.sync.bodies import Bodies, kill, parent, run_folder, wait_until


class ControlPlane:
    """Hears heartbeats and a provider's stop."""

    def __init__(self) -> None:
        self.beats: list[dict[str, Any]] = []
        self.calls: list[tuple[str, str, str, Any]] = []
        self.fenced = False
        self.deaf = False
        plane = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.answer()

            def do_PUT(self) -> None:
                self.answer()

            def answer(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                call = (self.command, self.path, self.headers["Authorization"], body)
                if self.path == "/beat":
                    if plane.deaf:
                        self.send_error(503)
                        return
                    plane.beats.append({**body, "authorization": call[2]})
                else:
                    plane.calls.append(call)
                answer = json.dumps({"ok": True, "fenced": plane.fenced}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    plane = ControlPlane()
    yield plane
    plane.server.shutdown()
    plane.server.server_close()


@pytest.fixture
def heard(make_bodies: Callable[..., Bodies], plane: ControlPlane) -> Bodies:
    bodies = make_bodies(
        heartbeat={"url": f"{plane.url}/beat", "token": "s3cret", "every_s": 0.2},
        dead_man={
            "after_s": 6, "method": "PUT", "url": f"{plane.url}/instances/24000001/",
            "body": {"state": "stopped"}, "key_variable": "TEST_INSTANCE_KEY",
        },
        environment={"TEST_INSTANCE_KEY": "only-this-instance", "http_proxy": "http://127.0.0.1:9"},
    )  # fmt: skip
    bodies.start_sshd()
    return bodies


def test_the_control_plane_hears_what_is_true(heard: Bodies, plane: ControlPlane) -> None:
    heard.apply()
    wait_until(
        lambda: [b for b in plane.beats if b.get("protection", {}).get("status") == "protected"],
        "protection is heard of",
    )
    beat = plane.beats[-1]
    assert beat["authorization"] == "Bearer s3cret"
    assert (beat["role"], beat["machine_id"], beat["generation"]) == ("primary", "m1", 3)
    assert beat["host"]["memory_used_mb"] > 0
    assert set(beat["host"]) == {
        "gpu_percent", "gpu_memory_mb", "cpu_percent", "memory_used_mb", "disk_free_gb",
        "disk_used_percent", "net_rx_bps", "net_tx_bps", "ssh_sessions", "session_idle_s",
        "gpu_memory_busy_percent", "cpu_cores", "user_processes", "disk_read_bps", "disk_write_bps",
        "jupyter_kernels", "jupyter_idle_s", "keep_alive_s",
    }  # fmt: skip
    numbers = [b["sequence"] for b in plane.beats]
    assert numbers == sorted(set(numbers))


def test_a_fence_ends_mirroring_for_good(heard: Bodies, plane: ControlPlane) -> None:
    heard.apply()
    heard.wait_protected()
    plane.fenced = True
    wait_until(lambda: "fenced" in heard.protection().get("reason", ""), "it obeys")
    wait_until(lambda: not heard.find("lsyncd") and not heard.find("ssh"), "nothing is left")
    assert "taken over" in (heard.home / ".dumont/status").read_text()
    plane.fenced = False
    heard.run("stop")
    heard.run("resume")
    wait_until(lambda: "fenced" in heard.protection().get("reason", ""), "it remembers")
    assert heard.run("flush", check=False)["code"] == "fenced"


def test_unheard_for_long_and_safe_it_ends_its_billing(heard: Bodies, plane: ControlPlane) -> None:
    heard.apply()
    heard.wait_protected()
    wait_until(lambda: plane.beats, "a lease is granted")
    assert not plane.calls
    plane.deaf = True
    wait_until(lambda: plane.calls, "it asks its provider")
    assert plane.calls[0] == (
        "PUT", "/instances/24000001/", "Bearer only-this-instance", {"state": "stopped"},
    )  # fmt: skip
    assert "asking its provider" in (heard.home / ".dumont/status").read_text()


def test_unheard_but_not_safe_it_stays(heard: Bodies, plane: ControlPlane) -> None:
    heard.apply()
    heard.wait_protected()
    wait_until(lambda: plane.beats, "a lease is granted")
    heard.give_authority("standby")
    (heard.workspace / "only here").write_text("precious")
    wait_until(lambda: "has authority" in heard.protection().get("reason", ""), "it is cut off")
    plane.deaf = True
    log = heard.home / ".dumont/log/agent.log"
    wait_until(lambda: "but it stays on" in log.read_text(), "it thinks about it")
    assert not plane.calls


def test_without_a_lease_none_can_run_out(heard: Bodies, plane: ControlPlane) -> None:
    plane.deaf = True
    heard.apply()
    heard.wait_protected()
    # Two and a half times the term, told by marks that the mirror writes once a second.
    mark = heard.workspace / ".dumont/mark"
    first = json.loads(mark.read_text())["sequence"]
    wait_until(lambda: json.loads(mark.read_text())["sequence"] >= first + 15, "time passes")
    assert not plane.calls


def test_there_is_never_a_second_daemon(bodies: Bodies) -> None:
    supervisor = parent(bodies.daemon_pids()[0])
    starts = [
        subprocess.Popen(
            [sys.executable, str(bodies.agent), "resume"],
            env={**os.environ, "HOME": str(bodies.home)}, stdout=subprocess.DEVNULL,
        )
        for _ in range(4)
    ]  # fmt: skip
    assert [start.wait() for start in starts] == [0] * 4
    assert parent(bodies.daemon_pids()[0]) == supervisor


def test_a_dead_supervisor_takes_everything_with_it_and_comes_back_once(bodies: Bodies) -> None:
    old = bodies.daemon_pids()
    kill(parent(old[0]))
    wait_until(lambda: not any(started(pid) for pid in old), "all of it ends")
    assert bodies.run("status")["running"] is False
    bodies.run("resume")
    bodies.wait_protected()
    wait_until(lambda: len(bodies.find("lsyncd")) == 1, "one lsyncd")


def test_a_stale_pid_file_gets_nobody_killed(bodies: Bodies) -> None:
    bodies.run("stop")
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        note = json.dumps({"pid": stranger.pid, "started": "1"})
        with open(f"{run_folder(bodies.home)}/daemon.pid", "w") as file:
            file.write(note)
        assert bodies.run("stop") == {"stopped": False}
        assert stranger.poll() is None
    finally:
        stranger.send_signal(signal.SIGKILL)
        stranger.wait()


def test_it_takes_up_a_new_configuration(bodies: Bodies) -> None:
    bodies.excludes = ["*.tmp"]
    before = bodies.run("status")["config"]
    status = bodies.apply()
    assert status["running"] is True
    assert status["config"] != before
    bodies.wait_protected()
    (bodies.workspace / "a.tmp").write_text("x")
    (bodies.workspace / "b").write_text("x")
    bodies.run("flush")
    assert not (bodies.standby / "a.tmp").exists()
    assert (bodies.standby / "b").exists()
    assert bodies.apply()["config"] == status["config"]


def test_stop_leaves_nothing_running(bodies: Bodies) -> None:
    pids = bodies.daemon_pids()
    supervisor = parent(pids[0])
    assert bodies.run("stop") == {"stopped": True}
    assert not [pid for pid in [supervisor, *pids] if started(pid)]
