"""The bill: what ran from when to when at which price, by the second.

A meter runs from `open` to `close`; its price is the one at its opening. Nothing is rounded until
it is read, except Google's minimum of one minute for a machine.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from simcloud.clock import Clock
from simcloud.store import Store

_MINIMUM_S = {"core": 60.0, "ram": 60.0}


class Meter(BaseModel):
    """One thing being billed."""

    id: str
    resource: str
    """`instances/<zone>/<name>`, `disks/<zone>/<name>` or `addresses/<region>/<name>`."""
    resource_id: str
    region: str
    sku: str
    """What it is: `core`, `ram`, `address` or `disk`."""
    model: str
    """`SPOT` or `STANDARD`."""
    quantity: float
    """Cores, GB or addresses."""
    unit_price: float
    """Dollars per unit and hour."""
    opened: float
    closed: float | None = None

    def seconds(self, *, now: float) -> float:
        """Return the billable seconds so far."""
        ran = max(0.0, (self.closed if self.closed is not None else now) - self.opened)
        return max(ran, _MINIMUM_S.get(self.sku, 0.0))

    def dollars(self, *, now: float) -> float:
        """Return what it has cost so far."""
        return self.quantity * self.unit_price * self.seconds(now=now) / 3600


class Ledger:
    """Every meter that ever ran."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._documents = store.collection("gcp_meters")
        self._meters = {key: Meter.model_validate(doc) for key, doc in self._documents.items()}

    def open(
        self,
        *,
        resource: str,
        resource_id: str,
        region: str,
        sku: str,
        model: str,
        quantity: float,
        unit_price: float,
    ) -> Meter:
        """Start a meter unless the same one runs already."""
        for running in self._running(resource_id):
            if running.sku == sku:
                return running
        meter = Meter(
            id=str(self._store.next_id("gcp_meters", start=1)),
            resource=resource,
            resource_id=resource_id,
            region=region,
            sku=sku,
            model=model,
            quantity=quantity,
            unit_price=unit_price,
            opened=self._clock.now(),
        )
        self._meters[meter.id] = meter
        self._documents.put(meter.id, meter.model_dump())
        return meter

    def close(self, *, resource_id: str, at: float | None = None) -> None:
        """Stop every meter of a resource; harmless when none runs.

        Args:
            resource_id: The resource.
            at: When it stopped, if that was not just now.
        """
        for meter in self._running(resource_id):
            meter.closed = max(meter.opened, self._clock.now() if at is None else at)
            self._documents.put(meter.id, meter.model_dump())

    def report(self) -> dict[str, Any]:
        """Return all meters with their cost so far, and the total in dollars."""
        now = self._clock.now()
        rows = [
            meter.model_dump()
            | {"seconds": meter.seconds(now=now), "dollars": meter.dollars(now=now)}
            for meter in self._meters.values()
        ]
        running = sum(
            meter.quantity * meter.unit_price
            for meter in self._meters.values()
            if meter.closed is None
        )
        return {
            "at": now,
            "total_dollars": sum(row["dollars"] for row in rows),
            "dollars_per_hour_now": running,
            "meters": rows,
        }

    def _running(self, resource_id: str) -> list[Meter]:
        return [
            meter
            for meter in self._meters.values()
            if meter.closed is None and meter.resource_id == resource_id
        ]
