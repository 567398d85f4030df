"""Names that Temporal has stored are promises: histories out there refer to them."""

from __future__ import annotations

from temporalio import activity, workflow

from activities.accounts import AccountActivities
from activities.fleet import FleetActivities
from activities.instances import InstanceActivities
from activities.market import MarketActivities
from activities.readiness import ReadinessActivities
from activities.records import RecordActivities
from activities.sweep import SweepActivities
from dumont.temporal import ids, queues
from worker.roles import WORKFLOWS

ACTIVITIES = (
    AccountActivities, FleetActivities, InstanceActivities, MarketActivities,
    ReadinessActivities, RecordActivities, SweepActivities,
)  # fmt: skip


def test_workflow_names() -> None:
    names = {workflow._Definition.must_from_class(cls).name for cls in WORKFLOWS}
    assert names == {
        "BrowseOffers", "EndInstances", "FetchLogs", "FleetWatch", "Machine", "ProviderAccounts",
        "Provision", "Reconcile",
    }  # fmt: skip


def test_activity_names() -> None:
    names = {
        found.name
        for cls in ACTIVITIES
        for member in vars(cls).values()
        if (found := activity._Definition.from_callable(member))
    }
    assert names == {
        "account_status", "browse_offers", "close_intent", "destroy_instances", "drop_request",
        "ensure_instance", "fetch_logs", "look_for_instances", "rank_offers", "record_bad_host",
        "record_events", "record_intent", "record_machine", "revive_machine", "survey",
        "wait_until_running", "wait_until_usable", "watch_provider",
    }  # fmt: skip


def test_ids_and_queues() -> None:
    assert ids.machine_workflow_id("m1") == "machine/m1"
    assert ids.provision_workflow_id("m1", 3) == "machine/m1/provision/g3"
    assert ids.end_workflow_id("dmt-prod-m1-g1-a1") == "end/dmt-prod-m1-g1-a1"
    assert ids.fleet_watch_id("vast", "abc") == "fleet-watch/vast/abc"
    assert queues.ALL == ("control", "provider-vast", "provider-gcp")
