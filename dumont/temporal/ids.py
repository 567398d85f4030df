"""Workflow ids. They are public: people search for them in Temporal's UI, so they never change."""

from __future__ import annotations

from typing import Final

RECONCILE: Final = "reconcile"


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
