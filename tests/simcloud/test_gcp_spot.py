"""Spot and other ends: preemption with its notice, time limits, failing hosts, bills, stock-outs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cloud import SimCloud
from tests.support.google import ZONE, Google, instance_body, until
from tests.support.ssh import KeyPair


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds", "0.2,0.3") as cloud:
        client = Google(cloud)
        yield client
        client.close()


def metadata(key: KeyPair, **more: str) -> Any:
    items = [{"key": "ssh-keys", "value": f"root:{key.public}"}]
    return {"items": items + [{"key": k.replace("_", "-"), "value": v} for k, v in more.items()]}


def endpoint(google: Google, name: str, *, zone: str = ZONE) -> tuple[str, int]:
    rows = google.cloud.control.get("/gcp/instances")["instances"]
    (row,) = [r for r in rows if r["name"] == name and r["zone"] == zone]
    return row["address"], row["ssh_port"]


def run(google: Google, name: str, key: KeyPair, command: str) -> str:
    where, port = endpoint(google, name)
    answer = until(lambda: key.ssh(where, port, command), lambda found: found.returncode != 255)
    return str(answer.stdout)


def console(google: Google, name: str) -> str:
    return str(google.get(f"zones/{ZONE}/instances/{name}/serialPort")["contents"])


def test_preemption_gives_notice_then_kills(google: Google, key: KeyPair) -> None:
    # a guest that defies the shutdown signal has the notice's time, and no more
    stubborn = "trap 'echo got TERM' TERM\necho ready\nwhile :; do sleep 0.1; done\n"
    google.make("stubborn", metadata=metadata(key, startup_script=stubborn))
    until(lambda: console(google, "stubborn"), lambda text: "startup-script: ready" in text)
    where, port = endpoint(google, "stubborn")
    began = time.monotonic()
    google.control("stubborn", "preempt")
    assert google.instance("stubborn")["status"] == "STOPPING"
    (event,) = google.events("compute.instances.preempted")
    assert (event["user"], event["statusMessage"]) == ("system", "Instance was preempted.")
    assert event["targetLink"].endswith("/instances/stubborn")
    google.post(f"zones/{ZONE}/instances/stubborn/start", expect=400)
    google.until_status("stubborn", "TERMINATED", timeout_s=60)
    took = time.monotonic() - began
    assert 29 <= took <= 32
    assert "startup-script: got TERM" in console(google, "stubborn")
    with socket.socket() as probe:
        assert probe.connect_ex((where, port)) != 0
    disk = google.get(f"zones/{ZONE}/disks/stubborn")  # STOP keeps the disk
    assert disk["users"]
    google.wait(google.post(f"zones/{ZONE}/instances/stubborn/start"))
    assert google.instance("stubborn")["status"] == "RUNNING"
    # not again for half a minute
    google.control("stubborn", "kill")


def test_guest_that_obeys_is_gone_at_once_and_runs_its_shutdown_script(
    google: Google, key: KeyPair
) -> None:
    google.make("obedient", metadata=metadata(key, shutdown_script="echo bye > /workspace/bye\n"))
    began = time.monotonic()
    google.wait(google.post(f"zones/{ZONE}/instances/obedient/simulateMaintenanceEvent"))
    google.until_status("obedient", "TERMINATED")
    assert time.monotonic() - began < 10
    google.wait(google.post(f"zones/{ZONE}/instances/obedient/start"))
    assert run(google, "obedient", key, "cat /workspace/bye").strip() == "bye"


def test_termination_action_delete_removes_instance_and_disk(google: Google) -> None:
    google.make(
        "vanishes",
        scheduling={"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"},
    )
    google.control("vanishes", "preempt")
    google.until_gone("vanishes")
    google.get(f"zones/{ZONE}/disks/vanishes", expect=404)


def test_notice_asked_for_comes_before_the_signal(google: Google, key: KeyPair) -> None:
    google.make(
        "noticed",
        metadata=metadata(key),
        scheduling={"provisioningModel": "SPOT", "preemptionNoticeDuration": {"seconds": "3"}},
    )
    run(google, "noticed", key, "true")
    google.control("noticed", "preempt")
    assert google.instance("noticed")["status"] == "RUNNING"
    seen = run(
        google,
        "noticed",
        key,
        "curl -s -H Metadata-Flavor:Google http://$METADATA/computeMetadata/v1/instance/preempted".replace(
            "$METADATA", "metadata.google.internal"
        ),
    )
    if google.cloud.summary["isolation"] == "namespaces":
        assert seen == "TRUE"
    google.until_status("noticed", "TERMINATED")


def test_only_spot_can_be_preempted(google: Google) -> None:
    google.make("standard", spot=False)
    with pytest.raises(AssertionError, match="Only Spot"):
        google.control("standard", "preempt")
    # maintenance moves an ordinary instance without a stop
    google.wait(google.post(f"zones/{ZONE}/instances/standard/simulateMaintenanceEvent"))
    assert google.instance("standard")["status"] == "RUNNING"
    assert google.events("compute.instances.migrateOnHostMaintenance")


def test_host_error_kills_at_once_and_restarts_what_asks_for_it(
    google: Google, key: KeyPair
) -> None:
    google.make("restarts", spot=False, metadata=metadata(key))
    google.make("stays-down")
    run(google, "restarts", key, "echo kept > /workspace/x")
    old = endpoint(google, "restarts")
    google.control("restarts", "kill")
    google.control("stays-down", "kill")
    until(lambda: google.events("compute.instances.automaticRestart"), bool)
    until(
        lambda: google.instance("restarts"),
        lambda found: found["status"] == "RUNNING" and endpoint(google, "restarts") != old,
    )
    assert run(google, "restarts", key, "cat /workspace/x").strip() == "kept"
    google.until_status("stays-down", "TERMINATED")
    targets = [row["targetLink"] for row in google.events("compute.instances.hostError")]
    assert any(target.endswith("/stays-down") for target in targets)


def test_frozen_machine_takes_connections_but_answers_nothing(google: Google, key: KeyPair) -> None:
    google.make("frozen", metadata=metadata(key))
    run(google, "frozen", key, "true")
    where, port = endpoint(google, "frozen")
    google.control("frozen", "freeze")
    assert google.instance("frozen")["status"] == "RUNNING"
    with socket.create_connection((where, port), timeout=2) as link:
        link.settimeout(0.5)
        with pytest.raises(TimeoutError):
            link.recv(1)
    google.control("frozen", "thaw")
    with socket.create_connection((where, port), timeout=2) as link:
        link.settimeout(5)
        assert link.recv(4) == b"SSH-"


def test_run_time_limit_stops_or_deletes_when_the_clock_says_so(google: Google) -> None:
    limit = {"maxRunDuration": {"seconds": "3600"}}
    google.make("limited", spot=False, scheduling={**limit, "instanceTerminationAction": "STOP"})
    google.make(
        "limited-spot",
        scheduling={
            **limit, "provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"
        },
    )  # fmt: skip
    found = google.instance("limited")
    assert found["scheduling"]["maxRunDuration"] == {"seconds": "3600"}
    assert "terminationTimestamp" in found["resourceStatus"]["scheduling"]
    google.cloud.control.advance(3000)
    assert google.instance("limited")["status"] == "RUNNING"
    google.cloud.control.advance(700)
    google.until_status("limited", "TERMINATED")
    google.until_gone("limited-spot")


def test_older_preemptible_instances_live_for_a_day_at_most(google: Google) -> None:
    google.make("legacy", spot=False, scheduling={"preemptible": True})
    google.cloud.control.advance(24 * 3600 + 60)
    google.until_status("legacy", "TERMINATED")
    targets = [row["targetLink"] for row in google.events("compute.instances.preempted")]
    assert any(target.endswith("/legacy") for target in targets)


def test_random_preemption_follows_the_rate(google: Google) -> None:
    zone = "us-west2-a"
    for number in range(3):
        google.make(f"lottery-{number}", zone=zone)
    google.make("no-lottery", zone=zone, spot=False)
    google.cloud.control.post("/gcp/settings", preempt_mean_hours=10)
    try:
        # 300 hours at one in ten: all but certainly each is taken within a few looks
        google.cloud.control.advance(300 * 3600)
        for number in range(3):
            google.until_status(f"lottery-{number}", "TERMINATED", zone=zone)
    finally:
        google.cloud.control.post("/gcp/settings", preempt_mean_hours="never")
    assert google.instance("no-lottery", zone=zone)["status"] == "RUNNING"


def test_stockout_fails_the_operation_and_leaves_nothing(google: Google) -> None:
    zone = "us-east1-b"
    google.make("before", zone=zone)
    google.wait(google.post(f"zones/{zone}/instances/before/stop"))
    google.cloud.control.post("/gcp/stockout", zone=zone)
    failed = google.wait_any(
        google.post(f"zones/{zone}/instances", instance_body("unlucky", zone=zone))
    )
    assert failed["error"]["errors"][0]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert (failed["httpErrorStatusCode"], failed["httpErrorMessage"]) == (
        503,
        "SERVICE UNAVAILABLE",
    )
    google.get(f"zones/{zone}/instances/unlucky", expect=404)
    google.get(f"zones/{zone}/disks/unlucky", expect=404)
    restart = google.wait_any(google.post(f"zones/{zone}/instances/before/start"))
    assert restart["error"]["errors"][0]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert google.instance("before", zone=zone)["status"] == "TERMINATED"
    google.make("elsewhere", zone="us-east1-c")
    google.cloud.control.post("/gcp/stockout", zone=zone, lift=True)
    google.wait(google.post(f"zones/{zone}/instances/before/start"))


def test_bill_is_kept_by_the_second_and_knows_spot_from_standard(google: Google) -> None:
    zone = "us-central1-f"
    google.make("spot-bill", zone=zone)
    google.make("standard-bill", zone=zone, spot=False)

    def dollars(name: str) -> float:
        meters = google.cloud.control.get("/gcp/ledger")["meters"]
        return sum(m["dollars"] for m in meters if m["resource"] == f"instances/{zone}/{name}")

    google.cloud.control.advance(730 * 3600)
    # e2-small: half a core and 2 GB, and an address, for a month
    assert dollars("spot-bill") == pytest.approx(0.01547 / 2 * 730 + 0.0025 * 730, rel=1e-3)
    assert dollars("standard-bill") == pytest.approx(12.23 + 0.005 * 730, rel=1e-3)
    google.wait(google.post(f"zones/{zone}/instances/spot-bill/stop"))
    stopped = dollars("spot-bill")
    google.cloud.control.advance(100 * 3600)
    assert dollars("spot-bill") == stopped
    disks = [
        m
        for m in google.cloud.control.get("/gcp/ledger")["meters"]
        if m["resource"] == f"disks/{zone}/spot-bill"
    ]
    # the disk of a stopped instance goes on costing
    assert disks[0]["dollars"] == pytest.approx(0.04 * 10 * 830 / 730, rel=1e-3)


@pytest.mark.parametrize(
    ("effect", "symptom"), [("no_ssh", "refused"), ("wrong_key", "Permission denied")]
)
def test_running_without_a_way_in(google: Google, key: KeyPair, effect: str, symptom: str) -> None:
    name = effect.replace("_", "-")
    google.cloud.control.add_fault(
        effect, provider="gcp", operation="machine.boot", instance=name, times=1
    )
    google.make(name, metadata=metadata(key))
    where, port = endpoint(google, name)
    answer = until(
        lambda: key.ssh(where, port, "true"),
        lambda found: effect == "no_ssh" or "refused" not in found.stderr,
    )
    assert symptom in answer.stderr


def test_stuck_boot_can_be_deleted(google: Google) -> None:
    google.cloud.control.add_fault(
        "stuck", provider="gcp", operation="machine.boot", instance="stuck", times=1
    )
    operation = google.post(f"zones/{ZONE}/instances", instance_body("stuck"))
    google.until_status("stuck", "STAGING")
    scope = operation["selfLink"].partition(google.cloud.project + "/")[2]
    assert google.get(scope)["status"] == "RUNNING"
    google.wait(google.delete(f"zones/{ZONE}/instances/stuck"))
    google.get(f"zones/{ZONE}/instances/stuck", expect=404)


def test_api_faults_in_googles_shape_and_in_none(google: Google) -> None:
    control = google.cloud.control
    path = f"zones/{ZONE}/instances"
    control.add_fault("google_error", provider="gcp", operation="instances.list", times=1)
    limited = google.get(path, expect=403)
    assert limited["error"]["errors"][0]["reason"] == "rateLimitExceeded"
    control.add_fault(
        "google_error",
        provider="gcp",
        operation="instances.list",
        times=1,
        parameters={"code": 503, "reason": "backendError", "message": "Backend Error"},
    )
    assert google.get(path, expect=503)["error"]["message"] == "Backend Error"
    control.add_fault("html", provider="gcp", operation="instances.list", times=1)
    answer = google.http.get(f"{google.root}/{path}")
    assert answer.headers["content-type"].startswith("text/html")
    google.get(path)
    control.add_fault(
        "operation_error", provider="gcp", operation="machine.boot", instance="broken", times=1
    )
    failed = google.wait_any(google.post(path, instance_body("broken")))
    assert failed["error"]["errors"][0]["code"] == "INTERNAL_ERROR"
    google.get(f"{path}/broken", expect=404)


def test_fault_in_one_zone_leaves_the_others_alone(google: Google) -> None:
    rule = google.cloud.control.add_fault("server_error", provider="gcp", zone="us-west1-*")
    broken = google.http.get(f"{google.root}/zones/us-west1-b/instances")
    assert broken.status_code == 503
    google.get("zones/us-west2-a/instances")
    google.get("aggregated/instances")
    google.cloud.control.delete(f"/faults/{rule}")
    google.get("zones/us-west1-b/instances")
