"""Names that Temporal has stored are promises: histories out there refer to them."""

from __future__ import annotations

from typing import Any

from temporalio import activity, workflow

from activities.accounts import AccountActivities
from activities.budgets import BudgetActivities
from activities.endings import EndingActivities
from activities.evidence import EvidenceActivities, ProviderEvidence
from activities.fleet import FleetActivities
from activities.idle import IdleActivities
from activities.instances import InstanceActivities
from activities.ledger import BillActivities, LedgerActivities
from activities.leftovers import LeftoverActivities
from activities.market import MarketActivities
from activities.mirroring import MirrorActivities
from activities.readiness import ReadinessActivities
from activities.receipts import ReceiptActivities
from activities.records import RecordActivities
from activities.rentals import RentalActivities, RentalEventActivities
from activities.repository import RepositoryActivities
from activities.snapshot_upkeep import UpkeepActivities
from activities.snapshots import SnapshotActivities
from activities.sweep import SweepActivities
from activities.takeover import TakeoverActivities
from activities.vms import VmActivities
from activities.working_hours import HoursActivities
from dumont.temporal import hour_schedules, ids, queues, snapshot_schedules
from worker.roles import WORKFLOWS, KeepingActivities
from workflows.snapshots import Snapshot
from workflows.working_hours import KeepHours

ACTIVITIES = (
    AccountActivities, BillActivities, BudgetActivities, EndingActivities, EvidenceActivities, FleetActivities, HoursActivities, IdleActivities,
    InstanceActivities, LedgerActivities, LeftoverActivities, MarketActivities, MirrorActivities, ProviderEvidence, ReadinessActivities, ReceiptActivities,
    RecordActivities, RentalActivities, RentalEventActivities, RepositoryActivities, SnapshotActivities, SweepActivities, TakeoverActivities,
    UpkeepActivities, VmActivities,
)  # fmt: skip


def test_workflow_names() -> None:
    names = {workflow._Definition.must_from_class(cls).name for cls in WORKFLOWS}
    assert names == {
        "BrowseOffers", "EndInstances", "EnforceBudgets", "Failover", "FetchLogs", "FleetWatch", "Flush",
        "ForgetSnapshot", "HourSchedules", "IdleSweep", "KeepHours", "KeepLedger", "Leftovers", "ListChanges", "ListFiles", "Machine", "PinSnapshot", "ProviderAccounts",
        "Provision", "PruneRepositories", "PruneRepository", "Reconcile", "RestoreSnapshot", "Retire",
        "Snapshot", "SnapshotSchedules", "Standby",
    }  # fmt: skip


def test_activity_names() -> None:
    names = {
        found.name
        for cls in ACTIVITIES
        for member in vars(cls).values()
        if (found := activity._Definition.from_callable(member))
    }
    assert names == {
        "account_status", "align_hours", "align_schedules", "apply_guard", "apply_mirror", "barrier",
        "browse_offers", "choose_body", "close_intent", "confirm_idle", "destroy_instances", "drop_request", "end_leftover",
        "ensure_instance", "ensure_vm", "fence", "fetch_logs", "file_budget_act", "flush", "follow_events", "forget_snapshot",
        "hand_back", "import_bills", "judge_budgets", "list_changes", "list_files", "look_at_bodies", "look_at_hours", "look_for_idle", "look_for_instances",
        "look_now", "measure_rtt", "meter_lines", "move_guard", "newest_snapshot", "note_failure", "note_idle_order", "note_rentals", "pick_zones",
        "pin_snapshot", "provider_view", "prune_owner", "prune_repository", "rank_offers",
        "record_bad_host", "record_events", "record_intent", "record_machine", "record_receipt",
        "record_snapshot", "redirect", "release_budget", "repository_owners", "rescue", "reserve_budget", "restore",
        "restore_snapshot", "retire_snapshots", "revive_machine", "start_instance", "start_vm",
        "stop_vm", "survey", "survey_leftovers", "take_snapshot", "verify_snapshot", "wait_until_idle",
        "wait_until_mirrored", "wait_until_reachable", "wait_until_running", "wait_until_usable",
        "wait_until_vm_runs", "warn_idle", "watch_provider", "withdraw_warning",
    }  # fmt: skip


def test_ids_and_queues() -> None:
    assert ids.machine_workflow_id("m1") == "machine/m1"
    assert ids.provision_workflow_id("m1", 3) == "machine/m1/provision/g3"
    assert ids.end_workflow_id("dmt-prod-m1-g1-a1") == "end/dmt-prod-m1-g1-a1"
    assert ids.standby_workflow_id("m1") == "standby/m1"
    assert ids.failover_workflow_id("m1", 2) == "machine/m1/failover/2"
    assert ids.retire_workflow_id("dmt-prod-m1-g1-a1") == "retire/dmt-prod-m1-g1-a1"
    assert ids.run_workflow_id("m1", "snapshot-1") == "machine/m1/run/snapshot-1"
    assert ids.snapshot_schedule_id("m1") == "machine/m1/snapshot"
    assert (ids.SNAPSHOT_SCHEDULES, ids.PRUNE) == ("snapshot-schedules", "prune-repositories")
    assert ids.IDLE == "idle"
    assert (ids.LEFTOVERS, ids.LEFTOVERS_VAST, ids.LEFTOVERS_GCP) == (
        "leftovers", "leftovers-vast", "leftovers-gcp",
    )  # fmt: skip
    assert ids.hours_schedule_id("m1", "wake") == "machine/m1/hours/wake"
    assert ids.HOUR_SCHEDULES == "hour-schedules"
    assert ids.BUDGETS == "budgets"
    assert ids.LEDGER == "ledger"
    assert ids.fleet_watch_id("vast", "abc") == "fleet-watch/vast/abc"
    assert queues.ALL == ("control", "provider-vast", "provider-gcp")


def test_a_worker_serves_every_activity_of_snapshots() -> None:
    """One that no worker serves is waited for until its time is over."""
    classes = {
        "snapshots": SnapshotActivities,
        "repository": RepositoryActivities,
        "upkeep": UpkeepActivities,
    }
    made: dict[str, Any] = {name: object.__new__(cls) for name, cls in classes.items()}
    served = {each.__name__ for each in KeepingActivities(**made).served()}
    assert served == {
        name
        for cls in classes.values()
        for name, member in vars(cls).items()
        if activity._Definition.from_callable(member)
    }


def test_schedules_start_a_workflow_that_there_is() -> None:
    assert workflow._Definition.must_from_class(Snapshot).name == snapshot_schedules.WORKFLOW
    assert workflow._Definition.must_from_class(KeepHours).name == hour_schedules.WORKFLOW
