"""Money: what runs is metered by the second, into charges by instance and day, out of the credit.

GPU time counts only while the container runs (or is frozen) on a host that is online; the disk
counts as long as the instance exists and its host is online, in any state; traffic by the GB.
Meters and marks are committed together, so a crash neither loses nor doubles a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from simcloud.store import Store
from simcloud.vast.host import DAY, MONTH_HOURS
from simcloud.vast.instance import Instance

_START_CREDIT = 100.0


class Charge(BaseModel):
    """What one instance cost on one day (UTC)."""

    instance: int
    day: int
    label: str | None
    gpu_name: str
    num_gpus: int
    start: float
    end: float
    gpu_seconds: float = 0.0
    gpu_rate: float = 0.0
    gpu: float = 0.0
    disk_seconds: float = 0.0
    disk_rate: float = 0.0
    disk: float = 0.0
    up_gb: float = 0.0
    up: float = 0.0
    down_gb: float = 0.0
    down: float = 0.0

    @property
    def amount(self) -> float:
        """All of it, $."""
        return self.gpu + self.disk + self.up + self.down


class Payment(BaseModel):
    """Credit that came in: what Vast's invoices list."""

    id: int
    time: float
    amount: float
    description: str


class Billing:
    """The account's credit, its payments and its charges."""

    def __init__(self, store: Store, *, now: float) -> None:
        self._store = store
        self._charges = store.collection("vast.charges")
        self._payments = store.collection("vast.payments")
        self._account = store.collection("vast.account")
        if self._account.get("credit") is None:
            with store.transaction():
                self._account.put("credit", 0.0)
                self.pay(_START_CREDIT, now=now, description="Welcome credit")
        self._open: dict[str, Charge] = {}

    @property
    def credit(self) -> float:
        """What is left, $; negative is owed."""
        return float(self._account.get("credit") or 0.0)

    def set_credit(self, amount: float) -> None:
        """Set what is left, without an invoice."""
        self._account.put("credit", amount)

    def pay(self, amount: float, *, now: float, description: str) -> None:
        """Add credit, with an invoice."""
        with self._store.transaction():
            number = self._store.next_id("vast.payment", start=50_001)
            payment = Payment(id=number, time=now, amount=amount, description=description)
            self._payments.put(str(number), payment.model_dump())
            self._account.put("credit", self.credit + amount)

    def meter(
        self,
        instance: Instance,
        *,
        now: float,
        online: bool,
        gpu_name: str,
        num_gpus: int,
        save: Callable[[Instance], None],
    ) -> None:
        """Bill an instance from where it was billed last until `now` at its present state.

        Must be called before every change of state or price, and every few seconds.

        Args:
            instance: Its `billed_until` moves to `now`.
            now: Virtual time.
            online: Whether its host is; nothing is billed otherwise.
            gpu_name: For the charge's description.
            num_gpus: Likewise.
            save: Writes the instance down in the same transaction.
        """
        since = instance.billed_until
        if now <= since:
            return
        spent = 0.0
        with self._store.transaction():
            while since < now:
                until = min(now, (since // DAY + 1) * DAY)
                charge = self._charge(instance, since, gpu_name, num_gpus)
                before = charge.amount
                if online:
                    self._add_time(charge, instance, until - since)
                charge.end = until
                spent += charge.amount - before
                self._charges.put(_key(charge), charge.model_dump())
                since = until
            instance.billed_until = now
            save(instance)
            if spent:
                self._account.put("credit", self.credit - spent)

    def traffic(
        self,
        instance: Instance,
        *,
        now: float,
        up_gb: float,
        down_gb: float,
        gpu_name: str,
        num_gpus: int,
    ) -> None:
        """Bill bandwidth."""
        with self._store.transaction():
            charge = self._charge(instance, now, gpu_name, num_gpus)
            up, down = up_gb * instance.inet_up_cost, down_gb * instance.inet_down_cost
            charge.up_gb += up_gb
            charge.down_gb += down_gb
            charge.up += up
            charge.down += down
            charge.end = max(charge.end, now)
            self._charges.put(_key(charge), charge.model_dump())
            self._account.put("credit", self.credit - up - down)

    def charges(self, *, first: float, last: float) -> list[Charge]:
        """Return the charges of every day that touches the interval, oldest first."""
        rows = [Charge.model_validate(document) for document in self._charges.list()]
        wanted = [row for row in rows if row.start <= last and row.end >= first]
        return sorted(wanted, key=lambda row: (row.day, row.instance))

    def payments(self, *, first: float, last: float) -> list[Payment]:
        """Return what came in within the interval, oldest first."""
        rows = [Payment.model_validate(document) for document in self._payments.list()]
        return [row for row in rows if first <= row.time <= last]

    @staticmethod
    def _add_time(charge: Charge, instance: Instance, seconds: float) -> None:
        hours = seconds / 3600
        if instance.actual_status in ("running", "frozen"):
            charge.gpu_seconds += seconds
            charge.gpu_rate = instance.price
            charge.gpu += hours * instance.price
            instance.gpu_seconds += seconds
        rate = instance.storage_cost * instance.disk_gb / MONTH_HOURS
        charge.disk_seconds += seconds
        charge.disk_rate = rate
        charge.disk += hours * rate

    def _charge(self, instance: Instance, since: float, gpu_name: str, num_gpus: int) -> Charge:
        day = int(since // DAY)
        key = f"{instance.id}/{day}"
        charge = self._open.get(key)
        if charge is None:
            document = self._charges.get(key)
            if document is None:
                charge = Charge(
                    instance=instance.id,
                    day=day,
                    label=instance.label,
                    gpu_name=gpu_name,
                    num_gpus=num_gpus,
                    start=since,
                    end=since,
                )
            else:
                charge = Charge.model_validate(document)
            self._open[key] = charge
        charge.label = instance.label
        return charge

    def forget(self, instance_id: int) -> None:
        """Drop the cache of an instance that is gone."""
        for key in [key for key in self._open if key.startswith(f"{instance_id}/")]:
            del self._open[key]


def _key(charge: Charge) -> str:
    return f"{charge.instance}/{charge.day}"


def charge_rows(charges: list[Charge]) -> list[dict[str, Any]]:
    """Return charges as Vast's charges endpoint words them: one row an instance, days inside."""
    by_instance: dict[int, list[Charge]] = {}
    for charge in charges:
        by_instance.setdefault(charge.instance, []).append(charge)
    return [_instance_row(rows) for rows in by_instance.values()]


def _instance_row(rows: list[Charge]) -> dict[str, Any]:
    last = rows[-1]
    source = f"instance-{last.instance}"
    return {
        "start": rows[0].start,
        "end": last.end,
        "type": "instance",
        "source": source,
        "description": f"Instance {last.instance} {last.num_gpus}x {last.gpu_name}",
        "amount": round(sum(row.amount for row in rows), 6),
        "metadata": {
            "instance_id": last.instance,
            "label": last.label,
            "gpu_name": last.gpu_name,
            "num_gpus": last.num_gpus,
        },
        "items": [item for row in rows for item in _items(row)],
    }


def _items(row: Charge) -> list[dict[str, Any]]:
    gpu_hours, disk_hours = row.gpu_seconds / 3600, row.disk_seconds / 3600
    lines = (
        ("gpu", row.gpu, f"{gpu_hours:.3f} hours at ${row.gpu_rate:.4f}/hour", gpu_hours),
        ("disk", row.disk, f"{disk_hours:.3f} hours at ${row.disk_rate:.6f}/hour", disk_hours),
        ("bwu", row.up, f"{row.up_gb:.3f} GB up", row.up_gb),
        ("bwd", row.down, f"{row.down_gb:.3f} GB down", row.down_gb),
    )
    return [
        {
            "start": row.start,
            "end": row.end,
            "type": kind,
            "source": None,
            "description": description,
            "amount": round(amount, 8),
            "quantity": round(quantity, 6),
            "metadata": {"day": row.day * DAY},
            "items": [],
        }
        for kind, amount, description, quantity in lines
        if amount or kind in ("gpu", "disk")
    ]
