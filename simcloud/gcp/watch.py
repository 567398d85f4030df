"""What happens by the clock: run times that end, random preemptions, the mark of being alive.

Time limits and preemption rates are in virtual time, so that moving the clock moves them.
"""

from __future__ import annotations

import asyncio
import math

from simcloud.context import CloudContext
from simcloud.gcp import errors
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.lifecycle import Lifecycle
from simcloud.gcp.scheduling import is_preemptible

_TICK_S = 0.25
_MARK_EVERY_S = 2.0


class Watch:
    """Looks at all instances a few times a second."""

    def __init__(
        self, context: CloudContext, *, inventory: Inventory, lifecycle: Lifecycle
    ) -> None:
        self._clock = context.clock
        self._rng = context.rng
        self._inventory = inventory
        self._lifecycle = lifecycle
        self._settings = context.store.collection("gcp_settings")
        self._mean_hours = context.settings.gcp_preempt_hours
        self._marked = 0.0

    @property
    def preempt_mean_hours(self) -> float | None:
        """Mean virtual hours until a running Spot instance is preempted; None is never."""
        return self._mean_hours

    def set_preempt_mean_hours(self, hours: float | None) -> None:
        """Choose how often Spot instances are preempted at random, until the next start."""
        self._mean_hours = hours

    def last_seen(self) -> float:
        """Return when a simcloud with this state was last known to run."""
        marked = self._settings.get("last_seen")
        return self._clock.now() if marked is None else float(marked)

    async def run(self) -> None:
        """Watch until cancelled."""
        before = self._clock.now()
        while True:
            await asyncio.sleep(_TICK_S)
            now = self._clock.now()
            self.look(now=now, elapsed=now - before)
            before = now

    def look(self, *, now: float, elapsed: float) -> None:
        """Act on what has come due.

        Args:
            now: Virtual time.
            elapsed: Virtual seconds since the previous look.
        """
        if now - self._marked >= _MARK_EVERY_S:
            self._marked = now
            self._settings.put("last_seen", now)
        chance = 0.0
        if self._mean_hours is not None:
            chance = 1 - math.exp(-elapsed / (self._mean_hours * 3600))
        for instance in self._inventory.instances():
            if instance.status != "RUNNING":
                continue
            due = instance.termination_time
            struck = is_preemptible(instance.scheduling) and self._rng.random() < chance
            try:
                if due is not None and now >= due:
                    self._lifecycle.expire(instance)
                elif struck:
                    self._lifecycle.preempt(instance)
            except errors.GoogleError:
                # it is on its way out already
                continue
