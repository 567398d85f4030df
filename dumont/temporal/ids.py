"""Workflow ids. They are public: people search for them in Temporal's UI, so they never change."""

from __future__ import annotations

from typing import Final

RECONCILE: Final = "reconcile"
RECONCILE_STANDBYS: Final = "reconcile-standbys"
LEFTOVERS: Final = "leftovers"
LEFTOVERS_VAST: Final = "leftovers-vast"
LEFTOVERS_GCP: Final = "leftovers-gcp"
SNAPSHOT_SCHEDULES: Final = "snapshot-schedules"
PRUNE: Final = "prune-repositories"
LEDGER: Final = "ledger"
HOUR_SCHEDULES: Final = "hour-schedules"
IDLE: Final = "idle"
BUDGETS: Final = "budgets"


def machine_workflow_id(machine_id: str) -> str:
    """The entity of one machine."""
    return f"machine/{machine_id}"


def provision_workflow_id(machine_id: str, generation: int) -> str:
    """The Provision of one generation."""
    return f"machine/{machine_id}/provision/g{generation}"


def end_workflow_id(label: str) -> str:
    """The ending of whatever carries a label, or of every label that starts with a prefix."""
    return f"end/{label}"


def fleet_watch_id(provider: str, account: str) -> str:
    """The watch over one provider account."""
    return f"fleet-watch/{provider}/{account}"


def standby_workflow_id(machine_id: str) -> str:
    """The standby of one machine: a peer of the entity, with a life of its own."""
    return f"standby/{machine_id}"


def failover_workflow_id(machine_id: str, number: int) -> str:
    """One failover of a machine."""
    return f"machine/{machine_id}/failover/{number}"


def retire_workflow_id(label: str) -> str:
    """The last service of a former instance: what only it has is rescued, then it is ended."""
    return f"retire/{label}"


def run_workflow_id(machine_id: str, run: str) -> str:
    """A snapshot, a restore or a prune that somebody asked for; `run` begins with its kind."""
    return f"machine/{machine_id}/run/{run}"


def snapshot_schedule_id(machine_id: str) -> str:
    """The schedule of a machine's snapshots, and its workflows' ids before Temporal adds the time."""
    return f"machine/{machine_id}/snapshot"


def hours_schedule_id(machine_id: str, act: str) -> str:
    """The schedule that wakes a machine at its hour, or lets it hibernate: `act` is which."""
    return f"machine/{machine_id}/hours/{act}"
