"""An instance's ordinary life over the wire, and that its machine is real."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cloud import SimCloud
from tests.support.google import ZONE, Google, instance_body, until
from tests.support.ssh import KeyPair


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds", "0.3,0.6") as cloud:
        client = Google(cloud)
        yield client
        client.close()


def keys(*lines: str, **more: str) -> Any:
    """Metadata with these `user:key` lines."""
    items = [{"key": "ssh-keys", "value": "\n".join(lines)}]
    return {"items": items + [{"key": k.replace("_", "-"), "value": v} for k, v in more.items()]}


def address(instance: Any) -> str:
    return str(instance["networkInterfaces"][0]["accessConfigs"][0]["natIP"])


def ssh_port(google: Google, name: str) -> int:
    attributes = google.get(
        f"zones/{ZONE}/instances/{name}/getGuestAttributes", queryPath="simcloud/ssh-port"
    )
    return int(attributes["queryValue"]["items"][0]["value"])


def run(google: Google, name: str, key: KeyPair, command: str, *, user: str = "ada") -> str:
    """Run a command over SSH, once the sshd takes logins."""
    where = address(google.instance(name))
    port = ssh_port(google, name)
    answer = until(
        lambda: key.ssh(where, port, command, user=user), lambda found: found.returncode != 255
    )
    assert answer.returncode == 0, answer.stderr
    return str(answer.stdout)


def refuses(where: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((where, port)) != 0


def test_states_pass_in_googles_order(google: Google) -> None:
    google.get(f"zones/{ZONE}/instances")  # what follows must not miss a state by being slow
    operation = google.post(f"zones/{ZONE}/instances", instance_body("orderly"))
    assert (operation["operationType"], operation["status"]) == ("insert", "RUNNING")
    assert operation["targetLink"].endswith(f"/zones/{ZONE}/instances/orderly")
    seen: list[str] = []
    while not seen or seen[-1] != "RUNNING":
        found = google.instance("orderly")
        if not seen or seen[-1] != found["status"]:
            seen.append(found["status"])
        time.sleep(0.01)
    assert seen == ["PROVISIONING", "STAGING", "RUNNING"]
    done = google.wait(operation)
    assert done["progress"] == 100
    assert done["targetId"] == found["id"]
    google.wait(google.delete(f"zones/{ZONE}/instances/orderly"))
    google.get(f"zones/{ZONE}/instances/orderly", expect=404)
    google.get(f"zones/{ZONE}/disks/orderly", expect=404)


def test_key_from_metadata_opens_the_machine(google: Google, key: KeyPair) -> None:
    google.make("login", metadata=keys(f"ada:{key.public}"))
    assert run(google, "login", key, "id -un; hostname").split() == ["ada", "login"]
    run(google, "login", key, "echo kept > /workspace/file && echo home > ~/file")
    first = address(google.instance("login"))
    port = ssh_port(google, "login")
    google.wait(google.post(f"zones/{ZONE}/instances/login/stop"))
    stopped = google.instance("login")
    assert stopped["status"] == "TERMINATED"
    assert "natIP" not in stopped["networkInterfaces"][0]["accessConfigs"][0]
    assert "lastStopTimestamp" in stopped
    assert refuses(first, port)
    google.wait(google.post(f"zones/{ZONE}/instances/login/start"))
    assert address(google.instance("login")) != first  # ephemeral addresses do not come back
    assert run(google, "login", key, "cat /workspace/file ~/file").split() == ["kept", "home"]


def test_accounts_follow_metadata_while_running(
    google: Google, make_key: Any, key: KeyPair
) -> None:
    other = make_key("other")
    made = google.make("accounts", metadata=keys(f"ada:{key.public}", f"bob:{other.public}"))
    assert run(google, "accounts", other, "id -un", user="bob").strip() == "bob"
    assert run(google, "accounts", key, "id -un").strip() == "ada"
    change = keys(f"ada:{key.public}", f"root:{other.public}")
    google.wait(
        google.post(
            f"zones/{ZONE}/instances/accounts/setMetadata",
            {**change, "fingerprint": made["metadata"]["fingerprint"]},
        )
    )
    assert run(google, "accounts", other, "id -un", user="root").strip() == "root"
    where, port = address(google.instance("accounts")), ssh_port(google, "accounts")
    assert other.ssh(where, port, "true", user="bob").returncode == 255


def test_project_wide_keys_reach_running_machines(google: Google, make_key: Any) -> None:
    carol = make_key("carol")
    google.make("project-keys")
    before = google.get("")["commonInstanceMetadata"]
    google.wait(
        google.post(
            "setCommonInstanceMetadata",
            {**keys(f"carol:{carol.public}"), "fingerprint": before["fingerprint"]},
        )
    )
    assert run(google, "project-keys", carol, "id -un", user="carol").strip() == "carol"
    google.post("setCommonInstanceMetadata", {"fingerprint": before["fingerprint"]}, expect=412)
    now = google.get("")["commonInstanceMetadata"]
    google.wait(google.post("setCommonInstanceMetadata", {"fingerprint": now["fingerprint"]}))


def test_startup_script_runs_at_each_boot_and_shows_on_the_console(
    google: Google, key: KeyPair
) -> None:
    script = "#!/bin/sh\necho boot >> /workspace/boots\necho hello from $(hostname)\nexit 3\n"
    google.make("scripted", metadata=keys(f"ada:{key.public}", startup_script=script))

    def console(start: int = 0) -> Any:
        return google.get(f"zones/{ZONE}/instances/scripted/serialPort", start=start)

    output = until(console, lambda found: "exit status" in found["contents"])
    assert "startup-script: hello from scripted\n" in output["contents"]
    assert "startup-script exit status 3\n" in output["contents"]
    google.wait(google.post(f"zones/{ZONE}/instances/scripted/reset"))
    more = until(lambda: console(int(output["next"])), lambda found: "exit" in found["contents"])
    assert more["start"] == output["next"]
    assert run(google, "scripted", key, "cat /workspace/boots").split() == ["boot", "boot"]


def test_same_request_id_makes_one_instance(google: Google) -> None:
    request_id = str(uuid.uuid4())
    body = instance_body("once")
    first = google.post(f"zones/{ZONE}/instances", body, requestId=request_id)
    again = google.post(f"zones/{ZONE}/instances", body, requestId=request_id)
    assert again["name"] == first["name"]
    conflict = google.post(f"zones/{ZONE}/instances", body, expect=409)
    assert conflict["error"]["errors"][0]["reason"] == "alreadyExists"
    google.post(f"zones/{ZONE}/instances", body, requestId="not-a-uuid", expect=400)
    google.post(f"zones/{ZONE}/instances", instance_body("twice"), requestId=request_id, expect=400)
    google.wait(first)
    deletion = str(uuid.uuid4())
    gone = google.delete(f"zones/{ZONE}/instances/once", requestId=deletion)
    google.wait(gone)
    assert google.delete(f"zones/{ZONE}/instances/once", requestId=deletion)["name"] == gone["name"]
    google.delete(f"zones/{ZONE}/instances/once", expect=404)


def test_response_lost_then_retried_leaves_one_instance(google: Google) -> None:
    control = google.cloud.control
    control.add_fault("drop_after", provider="gcp", operation="instances.insert", times=1)
    request_id = str(uuid.uuid4())
    body = instance_body("lost-answer")
    with pytest.raises(Exception, match="disconnect"):
        google.post(f"zones/{ZONE}/instances", body, requestId=request_id)
    google.wait(google.post(f"zones/{ZONE}/instances", body, requestId=request_id))
    inserted = [
        row for row in google.events("insert") if row["targetLink"].endswith("/lost-answer")
    ]
    assert len(inserted) == 1
    assert google.instance("lost-answer")["status"] == "RUNNING"


def test_delete_during_boot_leaves_nothing(google: Google) -> None:
    inserted = google.post(f"zones/{ZONE}/instances", instance_body("short-lived"))
    deleted = google.delete(f"zones/{ZONE}/instances/short-lived")
    google.wait(deleted)
    assert "error" in google.wait_any(inserted)
    google.get(f"zones/{ZONE}/instances/short-lived", expect=404)
    google.get(f"zones/{ZONE}/disks/short-lived", expect=404)


def test_stale_fingerprints_are_refused(google: Google) -> None:
    made = google.make("prints", labels={"owner": "ada"})
    path = f"zones/{ZONE}/instances/prints"
    new = {"labels": {"owner": "bob"}, "labelFingerprint": made["labelFingerprint"]}
    google.wait(google.post(f"{path}/setLabels", new))
    changed = google.instance("prints")
    assert changed["labels"] == {"owner": "bob"}
    assert changed["labelFingerprint"] != made["labelFingerprint"]
    refused = google.post(f"{path}/setLabels", new, expect=412)
    assert refused["error"]["errors"][0]["reason"] == "conditionNotMet"
    google.post(f"{path}/setLabels", {"labels": {}}, expect=412)
    google.post(f"{path}/setMetadata", {"items": [], "fingerprint": "AAAA"}, expect=412)
    google.post(f"{path}/setTags", {"items": ["a"], "fingerprint": "AAAA"}, expect=412)
    tags = {"items": ["web", "ssh"], "fingerprint": made["tags"]["fingerprint"]}
    google.wait(google.post(f"{path}/setTags", tags))
    assert google.instance("prints")["tags"]["items"] == ["ssh", "web"]


def test_settings_of_a_stopped_instance(google: Google) -> None:
    google.make("settings", spot=False)
    path = f"zones/{ZONE}/instances/settings"
    bigger = {"machineType": f"zones/{ZONE}/machineTypes/e2-medium"}
    google.post(f"{path}/setMachineType", bigger, expect=400)
    google.wait(google.post(f"{path}/stop"))
    google.wait(google.post(f"{path}/setMachineType", bigger))
    google.wait(google.post(f"{path}/setScheduling", {"provisioningModel": "SPOT"}))
    found = google.instance("settings")
    assert found["machineType"].endswith("/e2-medium")
    assert found["scheduling"]["preemptible"] is True
    google.wait(google.post(f"{path}/setDeletionProtection", deletionProtection="True"))
    google.delete(path, expect=412)
    google.wait(google.post(f"{path}/setDeletionProtection", deletionProtection="false"))
    google.wait(
        google.post(f"{path}/setDiskAutoDelete", autoDelete="false", deviceName="persistent-disk-0")
    )
    google.wait(google.delete(path))
    left = google.get(f"zones/{ZONE}/disks/settings")
    assert "users" not in left  # a disk that is not auto-deleted stays, and costs


def test_machine_lives_on_its_boot_disk(google: Google, key: KeyPair) -> None:
    body = instance_body("first-owner", metadata=keys(f"ada:{key.public}"))
    body["disks"][0]["autoDelete"] = False
    google.wait(google.post(f"zones/{ZONE}/instances", body))
    run(google, "first-owner", key, "echo precious > /workspace/data")
    refused = google.delete(f"zones/{ZONE}/disks/first-owner", expect=400)
    assert refused["error"]["errors"][0]["reason"] == "resourceInUseByAnotherResource"
    google.wait(google.delete(f"zones/{ZONE}/instances/first-owner"))
    disks = [{"boot": True, "autoDelete": True, "source": f"zones/{ZONE}/disks/first-owner"}]
    google.make("second-owner", disks=disks, metadata=keys(f"ada:{key.public}"))
    assert run(google, "second-owner", key, "cat /workspace/data").strip() == "precious"
    google.wait(google.delete(f"zones/{ZONE}/instances/second-owner"))
    google.get(f"zones/{ZONE}/disks/first-owner", expect=404)


def test_suspend_and_resume_keep_processes(google: Google, key: KeyPair) -> None:
    google.make("sleeper", metadata=keys(f"ada:{key.public}"))
    run(google, "sleeper", key, "setsid sleep 4242 >/dev/null 2>&1 </dev/null &")
    google.wait(google.post(f"zones/{ZONE}/instances/sleeper/suspend"))
    assert google.instance("sleeper")["status"] == "SUSPENDED"
    google.post(f"zones/{ZONE}/instances/sleeper/start", expect=400)
    google.wait(google.post(f"zones/{ZONE}/instances/sleeper/resume"))
    assert run(google, "sleeper", key, "pgrep -c -f 'sleep 4242'").strip() != "0"


def test_calls_out_of_turn(google: Google) -> None:
    google.make("turns")
    path = f"zones/{ZONE}/instances/turns"
    google.wait(google.post(f"{path}/start"))  # on already: nothing to do, no error
    google.wait(google.post(f"{path}/stop"))
    google.wait(google.post(f"{path}/stop"))
    refused = google.post(f"{path}/reset", expect=400)
    assert refused["error"]["errors"][0]["reason"] == "resourceNotReady"
    google.post(f"{path}/simulateMaintenanceEvent", expect=400)


def test_guest_that_powers_off_is_terminated(google: Google, key: KeyPair) -> None:
    google.make("quits", metadata=keys(f"root:{key.public}"))
    run(google, "quits", key, "(sleep 0.2; kill -TERM 1) >/dev/null 2>&1 &", user="root")
    google.until_status("quits", "TERMINATED")
    assert google.events("compute.instances.guestTerminate")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Bad_Name"}, "resource.name"),
        ({"name": ""}, "resource.name"),
        ({"name": "a" * 64}, "resource.name"),
        ({"machineType": "e2-small"}, "resource.machineType"),
        ({"machineType": f"zones/{ZONE}/machineTypes/e2-nope"}, "resource.machineType"),
        ({"machineType": "zones/us-east1-b/machineTypes/e2-small"}, "resource.machineType"),
        ({"disks": []}, "resource.disks"),
        ({"disks": [{"boot": True}]}, "resource.disks[0]"),
        ({"disks": [{"boot": True, "initializeParams": {}}]}, "sourceImage"),
        (
            {"disks": [{"boot": True, "initializeParams": {"sourceImage": "global/images/x"}}]},
            "sourceImage",
        ),
        ({"networkInterfaces": []}, "resource.networkInterfaces"),
        ({"networkInterfaces": [{"network": "global/networks/vpc"}]}, "network"),
        ({"labels": {"Owner": "ada"}}, "resource.labels"),
        ({"labels": {"owner": "Ada Lovelace"}}, "resource.labels"),
        ({"labels": ["owner"]}, "resource.labels"),
        ({"tags": {"items": ["Not ok"]}}, "resource.tags"),
        ({"metadata": {"items": [{"key": "a b", "value": ""}]}}, "resource.metadata.items[0].key"),
        ({"metadata": {"items": [{"key": "a"}, {"key": "a"}]}}, "resource.metadata.items"),
        ({"scheduling": {"provisioningModel": "CHEAP"}}, "provisioningModel"),
        (
            {"scheduling": {"provisioningModel": "SPOT", "automaticRestart": True}},
            "resource.scheduling.preemptible",
        ),
        (
            {"scheduling": {"preemptible": True, "onHostMaintenance": "MIGRATE"}},
            "resource.scheduling.preemptible",
        ),
        ({"scheduling": {"instanceTerminationAction": "STOP"}}, "instanceTerminationAction"),
        ({"scheduling": {"maxRunDuration": {"seconds": "5"}}}, "maxRunDuration"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_bad_inserts_name_the_field_and_make_nothing(
    google: Google, changes: dict[str, Any], field: str
) -> None:
    body = {**instance_body("never-made"), **changes}
    refused = google.post(f"zones/{ZONE}/instances", body, expect=400)
    assert field in refused["error"]["message"]
    names = [row["name"] for row in google.get(f"zones/{ZONE}/instances").get("items", [])]
    disks = [row["name"] for row in google.get(f"zones/{ZONE}/disks").get("items", [])]
    assert body["name"] not in names + disks


def test_body_that_is_not_json(google: Google) -> None:
    answer = google.http.post(f"{google.root}/zones/{ZONE}/instances", content=b"{nope")
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


def test_null_values_and_short_forms_as_libcloud_sends_them(google: Google) -> None:
    body = instance_body("from-libcloud", spot=False, scheduling={"preemptible": True})
    body["disks"][0]["initializeParams"]["diskSizeGb"] = None
    body["disks"][0]["initializeParams"]["sourceImage"] = (
        f"http://127.0.0.1:1/compute/v1/projects/debian-cloud/zones/{ZONE}"
        "/imageFamilyViews/debian-12"
    )
    body["machineType"] = f"{google.cloud.gcp_url}/compute/v1/projects/x/{body['machineType']}"
    google.wait(google.post(f"zones/{ZONE}/instances", body))
    found = google.instance("from-libcloud")
    assert found["scheduling"]["provisioningModel"] == "STANDARD"
    assert found["scheduling"]["preemptible"] is True
    assert found["machineType"].startswith("https://www.googleapis.com/compute/v1/projects/")
    aggregated = google.get("aggregated/disks")["items"][f"zones/{ZONE}"]["disks"]
    assert "from-libcloud" in [disk["name"] for disk in aggregated]


def test_quota_is_regional_and_names_itself(google: Google) -> None:
    control = google.cloud.control
    zone = "europe-north2-a"
    control.post("/gcp/quota", region="europe-north2", metric="PREEMPTIBLE_CPUS", limit=3)
    google.make("within", zone=zone)
    refused = google.post(f"zones/{zone}/instances", instance_body("beyond", zone=zone), expect=403)
    assert refused["error"]["errors"][0]["reason"] == "quotaExceeded"
    assert "PREEMPTIBLE_CPUS" in refused["error"]["message"]
    region = google.get("regions/europe-north2")
    quota = next(q for q in region["quotas"] if q["metric"] == "PREEMPTIBLE_CPUS")
    assert (quota["limit"], quota["usage"]) == (3.0, 2.0)
    google.make("other-quota", zone=zone, spot=False)  # on-demand counts against CPUS
    google.wait(google.post(f"zones/{zone}/instances/within/stop"))
    google.make("instead", zone=zone)  # what is stopped uses no cores
    google.post(f"zones/{zone}/instances/within/start", expect=403)


def test_operations_can_be_listed_filtered_and_deleted(google: Google) -> None:
    made = google.make("listed")
    mine = google.get(f"zones/{ZONE}/operations", filter=f"targetId={made['id']}")["items"]
    (insert,) = mine
    assert insert["operationType"] == "insert"
    everywhere = google.get("aggregated/operations", filter=f"targetId={made['id']}")["items"]
    assert [row["name"] for row in everywhere[f"zones/{ZONE}"]["operations"]] == [insert["name"]]
    path = f"zones/{ZONE}/operations/{insert['name']}"
    assert google.get(path)["id"] == insert["id"]
    google.get(f"zones/us-east1-b/operations/{insert['name']}", expect=404)
    google.delete(path, expect=204)
    google.get(path, expect=404)
