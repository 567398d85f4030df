"""simcloud's own life: its start contract, and what survives its death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.cloud import ROOT, SimCloud
from tests.support.ssh import KeyPair
from tests.support.vast_api import VastApi


def test_the_start_line_is_one_json_line_and_quick(tmp_path: Path) -> None:
    started = time.monotonic()
    with SimCloud.started(tmp_path / "state") as cloud:
        assert time.monotonic() - started < 10
        assert {"vast_url", "gcp_url", "control_url", "vast_api_key", "project"} <= set(
            cloud.summary
        )
        assert cloud.control.get("/health")["ok"] is True
        listening = [
            each.laddr.ip
            for each in psutil.Process(cloud.pid).net_connections(kind="tcp")
            if each.status == psutil.CONN_LISTEN
        ]
        assert listening
        assert all(ip.startswith("127.") for ip in listening)
        assert cloud.stop() == 0


@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_keeps_the_books_and_loses_the_machines(
    tmp_path: Path, key: KeyPair, kill: bool
) -> None:
    with SimCloud.started(tmp_path / "state", "--boot-seconds=0.05,0.1", "--no-strict") as cloud:
        cloud.control.knobs(rivals=False, search_default_limit=9)
        cloud.control.add_fault("slow", operation="never")
        with VastApi(cloud) as vast:
            vast.post("/api/v0/ssh/", ssh_key=key.public)
            row = vast.running(
                label="kept", onstart="setsid sleep 1000 & echo hi > /workspace/file"
            )
            stopped = vast.rent(target_state="stopped")
            cloud.control.advance(3600)
            cloud.control.put("/vast/account")
            spent = 100 - vast.get("/api/v0/users/current")["credit"]
            offers = {each["id"]: each["dph_base"] for each in vast.search(limit=500)}
        port = int(row["ports"]["22/tcp"][0]["HostPort"])
        inside = cloud.control.get("/machines")["machines"]
        assert inside
        old_key = cloud.vast_key
        cloud.restart(kill=kill)
        assert cloud.vast_key == old_key
        assert cloud.control.get("/machines")["machines"] == []
        assert "refused" in key.ssh(row["public_ipaddr"], port, "true").stderr
        with VastApi(cloud) as vast:
            again = vast.row(row["id"])
            assert again is not None
            assert again["label"] == "kept"
            assert again["actual_status"] == "exited"
            assert vast.row(stopped) is not None
            assert len(vast.search()) == 9
            assert {each["id"]: each["dph_base"] for each in vast.search(limit=500)} == offers
            assert 100 - vast.get("/api/v0/users/current")["credit"] == pytest.approx(
                spent, abs=0.01
            )
            assert [each["operation"] for each in cloud.control.get("/faults")["faults"]] == [
                "never"
            ]
            vast.put(f"/api/v0/instances/{row['id']}/", state="running")
            back = vast.wait(row["id"], "running")
            deadline = time.monotonic() + 10
            while True:
                done = key.ssh(back["public_ipaddr"], port, "cat /workspace/file")
                if done.returncode == 0:
                    break
                assert time.monotonic() < deadline, done.stderr
            assert done.stdout == "hi\n"


def test_a_destroy_cut_short_is_finished_at_the_next_start(tmp_path: Path) -> None:
    with SimCloud.started(tmp_path / "state", "--boot-seconds=0.05,0.1", "--no-strict") as cloud:
        cloud.control.knobs(rivals=False)
        with VastApi(cloud) as vast:
            row = vast.running()
            cloud.control.add_fault("destroyed_but_listed", parameters={"seconds": 1000})
            vast.delete(f"/api/v0/instances/{row['id']}/")
        cloud.restart(kill=True)
        with VastApi(cloud) as vast:
            assert vast.row(row["id"]) is None
            hosts = [each["machine_id"] for each in vast.search(limit=500)]
            assert row["machine_id"] in hosts
        assert not (tmp_path / f"state/machines/vast-{row['id']}").exists()


def test_one_state_belongs_to_one_simcloud(tmp_path: Path) -> None:
    with SimCloud.started(tmp_path / "state"):
        done = subprocess.run(
            [sys.executable, "-m", "simcloud", "--state", str(tmp_path / "state")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 1
        assert "in use by another simcloud" in done.stderr


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    for arguments, named in (
        (["--vast-port=99999"], "99999"),
        (["--boot-seconds=4,1"], "LO <= HI"),
        (["--market-tick=0"], "positive"),
        (["--no-such"], "--no-such"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "simcloud", "--state", str(tmp_path), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 2
        assert named in done.stderr


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with SimCloud.started(tmp_path / "one") as cloud:
        port = cloud.vast_url.rpartition(":")[2]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "simcloud",
                "--state",
                str(tmp_path / "two"),
                "--vast-port",
                port,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 1
        assert f"--vast-port: 127.0.0.1:{port}" in done.stderr


def test_without_json_it_tells_a_person(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "simcloud", "--state", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("Vast.ai API")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=20) == 0
    process.stdout.close()
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(first)
