"""Google's words and their meaning, and what importing the adapter costs."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from dumont.domain.errors import (
    AuthFailed,
    InstanceGone,
    InsufficientCredit,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
    RequestRefused,
)
from dumont.domain.instances import InstanceState, Rental
from dumont.ports import VmOrder
from dumont.providers.gcp.errors import NameTaken, api_error, operation_error, translate
from dumont.providers.gcp.mapping import instance_from, instance_resource, moment, request_id

GONE = "The resource 'projects/p/zones/z/instances/n' was not found"


@pytest.mark.parametrize(
    ("status", "message", "reasons", "expected"),
    [
        (404, GONE, ["notFound"], InstanceGone),
        (404, GONE, [], ProviderUnavailable),
        (404, "The resource 'projects/p' was not found", ["notFound"], RequestRefused),
        (404, "The resource 'projects/p/zones/z' was not found", ["notFound"], RequestRefused),
        (409, "already exists", ["alreadyExists"], NameTaken),
        (401, "Invalid Credentials", ["authError"], AuthFailed),
        (401, "<html>", [], AuthFailed),
        (403, "Required 'compute.instances.list' permission", ["forbidden"], AuthFailed),
        (403, "blocked", [], ProviderUnavailable),
        (403, "Quota 'CPUS' exceeded", ["quotaExceeded"], QuotaExceeded),
        (403, "Rate Limit Exceeded", ["rateLimitExceeded"], RateLimited),
        (403, "This API method requires billing to be enabled", ["forbidden"], InsufficientCredit),
        (429, "slow down", [], RateLimited),
        (400, "The resource is not ready", ["resourceNotReady"], ProviderUnavailable),
        (400, "Invalid value", ["invalid"], RequestRefused),
        (503, "backend", ["backendError"], ProviderUnavailable),
        (200, "not JSON", [], ProviderUnavailable),
    ],
)
def test_an_answer_becomes_the_right_error(
    status: int, message: str, reasons: list[str], expected: type[ProviderError]
) -> None:
    assert type(api_error(status=status, message=message, reasons=reasons)) is expected


@pytest.mark.parametrize(
    ("codes", "message", "status", "expected"),
    [
        ([], "", 0, None),
        (["ZONE_RESOURCE_POOL_EXHAUSTED"], "x", 503, ProviderUnavailable),
        (["ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"], "x", 503, ProviderUnavailable),
        (["QUOTA_EXCEEDED"], "x", 403, QuotaExceeded),
        (["RESOURCE_NOT_FOUND"], GONE, 404, InstanceGone),
        (["RESOURCE_NOT_FOUND"], "image 'x' was not found", 404, RequestRefused),
        (["PERMISSIONS_ERROR"], "x", 403, AuthFailed),
        (["INTERNAL_ERROR"], "x", 0, ProviderUnavailable),
        (["INVALID_USAGE"], "x", 400, RequestRefused),
        ([], "x", 500, ProviderUnavailable),
    ],
)
def test_a_finished_operation_can_have_failed(
    codes: list[str], message: str, status: int, expected: type[ProviderError] | None
) -> None:
    found = operation_error(codes=codes, message=message, status=status, name="n")
    assert found is None if expected is None else type(found) is expected


def test_anything_else_is_unavailable() -> None:
    for error in (OSError("reset"), TimeoutError(), ValueError("not JSON"), RuntimeError("?")):
        assert isinstance(translate(error), ProviderUnavailable)


def test_a_vm_whose_state_is_new_to_us_is_unknown() -> None:
    vm = SimpleNamespace(
        id=7, name="n", status="DREAMING", status_message="", zone="x/zones/z",
        creation_timestamp="soon", network_interfaces=[], machine_type="", disks=[],
        last_start_timestamp="", last_stop_timestamp="", last_suspended_timestamp="",
        scheduling=SimpleNamespace(provisioning_model="SPOT", preemptible=False),
    )  # fmt: skip
    found = instance_from(vm)
    assert (found.state, found.ssh, found.created_at) == (InstanceState.UNKNOWN, None, None)
    assert found.rental is Rental.SPOT
    assert found.region == "z"


def test_a_spot_vm_survives_as_a_disk_and_holds_no_rights() -> None:
    body = instance_resource(VmOrder(name="n", zone="z", ssh_keys=("k1", "k2")))
    assert body["scheduling"]["provisioning_model"] == "SPOT"
    assert body["scheduling"]["instance_termination_action"] == "STOP"
    assert "service_accounts" not in body
    items = {item["key"]: item["value"] for item in body["metadata"]["items"]}
    assert items["ssh-keys"] == "dumont:k1\ndumont:k2"
    steady = instance_resource(VmOrder(name="n", zone="z", spot=False))
    assert steady["scheduling"]["provisioning_model"] == "STANDARD"


def test_the_same_vm_has_the_same_request_id() -> None:
    one = request_id(project="p", zone="z", name="n")
    assert one == request_id(project="p", zone="z", name="n")
    assert one != request_id(project="p", zone="z", name="n2")


def test_times() -> None:
    at = moment("2026-11-23T19:09:06.515-08:00")
    assert at is not None
    assert at.isoformat() == "2026-11-24T03:09:06.515000+00:00"
    assert moment("") is None


@pytest.mark.parametrize(
    "module", ["dumont.providers.gcp.adapter", "dumont.providers.vast.adapter"]
)
def test_importing_an_adapter_does_not_import_google(module: str) -> None:
    code = f"import sys, {module}; print([m for m in sys.modules if m.startswith('google')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "google.cloud" not in done.stdout
    assert "google.auth" not in done.stdout
