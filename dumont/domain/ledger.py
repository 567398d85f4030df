"""The ledger's line: what one thing cost on one day, and how we know.

A day is a day of UTC, as providers bill. One resource has one line for each item and day, so that
reading a bill again changes a line and never doubles it.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

from pydantic import Field

from dumont.domain.instances import Message


class Item(StrEnum):
    """What is paid for. Names are public and stable."""

    GPU = "gpu"
    """The GPU instance while it runs."""
    DISK = "disk"
    """The GPU instance's disk, in any state of the instance."""
    TRAFFIC = "traffic"
    """What the GPU's host bills for bytes."""
    VM = "vm"
    """The standby's cores and memory."""
    VM_DISK = "vm_disk"
    ADDRESS = "address"
    """The standby's public address."""
    EGRESS = "egress"
    """Bytes that leave Google."""
    STORAGE = "storage"
    """Snapshots in the object store."""
    OTHER = "other"
    """A line of a provider's bill that is none of these."""


class Basis(StrEnum):
    """How a line is known."""

    BILLED = "billed"
    """The provider's own bill says so."""
    METERED = "metered"
    """Time seen by us at the price seen at that time: an estimate until there is a bill."""
    LISTED = "listed"
    """Time seen by us at a dated list price: an estimate, and no bill follows."""


class Entry(Message):
    """One line of the ledger."""

    provider: str
    resource_id: str
    """The provider's id of what is paid for; an owner's repository for `storage`."""
    item: Item
    day: date
    """Of UTC."""
    machine_id: str | None
    """None: of an owner, not of one machine."""
    owner_id: str
    label: str = ""
    basis: Basis
    start: datetime
    """When the first second that is paid for on this day began."""
    end: datetime
    seconds: float = Field(default=0.0, ge=0)
    """Seconds paid for; 0 where it is not time that is paid."""
    quantity: float | None = None
    """Gigabytes, where those are paid."""
    usd: float | None
    """None: the price is unknown. Never counted as zero."""
    gpu: str | None = None
    gpu_count: int | None = None
    region: str | None = None
    rental: str | None = None
    """`spot` or `on_demand`."""
    source: str
    """Where the price comes from, for people: a bill, or a list with its date."""
