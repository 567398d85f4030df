"""Fence, restore, hand back: the old primary writes nothing any more, the new one only when it may."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading

from tests.endpoint.world import Body, World, wait_until


def sync_lines(body: Body) -> list[str]:
    text = (body.home / ".ssh/authorized_keys").read_text()
    return [line for line in text.splitlines() if "dumont-sync-" in line]


def test_from_fence_to_hand_back(world: World) -> None:
    world.apply()
    (world.primary.workspace / "a").write_text("1")
    assert world.sync(5).returncode == 0
    assert (world.standby.workspace / "a").read_text() == "1"
    guard = world.fence(6)
    assert (guard["authority"], guard["held"], guard["epoch"]) == ("standby", True, 6)
    # The old key opens nothing; the new one reads and does not write.
    (world.primary.workspace / "a").write_text("changed")
    assert "Permission denied" in world.sync(5).stderr
    assert "fenced" in world.sync(6).stderr
    assert (world.standby.workspace / "a").read_text() == "1"
    assert world.say(6, "mark-read").returncode == 0
    lines = sync_lines(world.standby)
    assert len(lines) == 1
    assert lines[0].startswith('restrict,command="')
    assert '/receive 6"' in lines[0]
    # Repeated and late commands.
    assert world.fence(6)["redirects"] == 1
    late = world.standby.agent("hand-back", "--epoch", "5", "--host", "h", "--port", "1", ok=False)
    assert late["code"] == "fenced"
    world.hand_back(6)
    guard = world.hand_back(6)["guard"]
    assert (guard["authority"], guard["held"]) == ("primary", False)
    assert world.where() == "primary"
    assert world.sync(6).returncode == 0
    assert (world.standby.workspace / "a").read_text() == "changed"
    old = world.standby.agent("apply", stdin=_json(world.config(epoch=5)), ok=False)
    assert old["code"] == "fenced"
    assert world.apply(epoch=6)["guard"]["authority"] == "primary"


def test_nothing_is_handed_to_a_primary_that_does_not_answer(world: World) -> None:
    world.apply()
    world.primary.signal(signal.SIGKILL)
    world.until("redirected", authority="standby")
    world.fence(6)
    answer = world.hand_back(6, ok=False)
    assert answer["code"] == "unreachable"
    assert world.guard()["authority"] == "standby"
    assert world.where() == "standby"
    assert world.standby.agent("sessions")["standby_sessions"] == 0


def test_a_primary_that_dies_as_it_is_handed_the_authority(world: World) -> None:
    world.apply()
    world.fence(6)
    with socket.socket() as brief:
        brief.bind((world.primary.address, 0))
        brief.listen()
        port = brief.getsockname()[1]

        def answer_once() -> None:
            connection, _ = brief.accept()
            brief.close()
            connection.sendall(b"SSH-2.0-brief\r\n")
            connection.close()

        thread = threading.Thread(target=answer_once)
        thread.start()
        words = ("--epoch", "6", "--host", world.primary.address, "--port", str(port))
        answer = world.standby.agent("hand-back", *words, ok=False)
        thread.join()
    assert answer["code"] == "unreachable"
    guard = world.until("held as before", authority="standby", held=True, epoch=6)
    assert guard["redirects"] == 2
    assert world.where() == "standby"
    world.hand_back(6)
    assert world.where() == "primary"


def test_quiescing_refuses_logins_and_cuts_what_runs(world: World) -> None:
    world.apply()
    world.fence(6)
    session = subprocess.Popen(
        [*world.ssh_words("-tt"), "cd ~/workspace; echo here; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert session.stdout is not None
    assert b"here" in session.stdout.readline()
    job = subprocess.Popen(["sleep", "600"], cwd=world.standby.workspace)
    try:
        seen = world.standby.agent("sessions")
        assert seen["standby_sessions"] == 1
        assert seen["sessions"][0]["tty"].startswith("pts/")
        assert seen["sessions"][0]["through_endpoint"] is True
        assert {"sleep 600", "cat"} <= {each["command"] for each in seen["processes"]}
        assert seen["idle_s"] is not None
        answer = world.standby.agent("quiesce", "--cut")
        assert answer["guard"]["quiesced"] is True
        assert "sleep 600" in answer["ended"]
        job.wait(timeout=10)
        _, errors = session.communicate(timeout=10)
        assert session.returncode == 255
        assert b"closed" in errors.lower()
        assert world.where() == ""
        world.standby.agent("unquiesce")
        assert world.where() == "standby"
        world.standby.agent("quiesce", "--cut")
        assert world.hand_back(6)["guard"]["quiesced"] is False
        assert world.where() == "primary"
    finally:
        job.kill()
        session.kill()


def test_a_standby_that_waits_for_its_first_primary(world: World) -> None:
    assert world.apply(primary=None)["guard"]["authority"] == "standby"
    assert world.where() == "standby"
    world.apply()
    assert world.guard()["authority"] == "standby"
    world.hand_back(5)
    assert world.where() == "primary"
    assert world.sync(5).returncode == 0


def test_stop_ends_the_endpoint_and_resume_brings_it_back(world: World) -> None:
    world.apply()
    haproxy = world.haproxy()
    world.standby.agent("stop")
    wait_until("HAProxy ended", lambda: not haproxy.is_running())
    assert world.where() == ""
    world.standby.agent("resume")
    wait_until("it serves again", lambda: world.where() == "primary")


def _json(document: object) -> str:
    import json

    return json.dumps(document)
