"""What both clouds and the control API share: one object, made once at the start."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from simcloud.clock import Clock
from simcloud.faults import Faults
from simcloud.machines import AddressPool, Machines
from simcloud.store import Store
from simcloud.traffic import Traffic


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How this simcloud was started."""

    state: Path
    """Directory of everything that survives a restart."""
    seed: int = 1
    """Seed of everything random."""
    boot_seconds: tuple[float, float] = (1.5, 4.0)
    """Shortest and longest time an instance is loading or staging before it runs."""
    strict: bool = True
    """Whether rate limits and quotas are enforced as the real clouds do."""
    market_tick: float = 5.0
    """Real seconds between two moves of market prices."""
    gcp_anonymous: bool = True
    """Whether Google's API serves requests without credentials."""
    gcp_preempt_hours: float | None = None
    """Mean virtual hours until a running Spot VM is preempted at random; None is never."""


@dataclass(kw_only=True)
class CloudContext:
    """The parts that the clouds stand on."""

    settings: Settings
    store: Store
    clock: Clock
    faults: Faults
    machines: Machines
    """Machine names must be unique over both clouds: prefix them `vast-` and `gcp-`."""
    addresses: AddressPool
    """One pool for both clouds; claim with an owner text, release when the address is free."""
    traffic: Traffic
    """Log and counters of every request to the clouds."""
    rng: random.Random = field(default_factory=random.Random)
    vast_url: str = ""
    """Base URLs, without a trailing slash; known before the applications are made."""
    gcp_url: str = ""
    control_url: str = ""

    def boot_delay(self) -> float:
        """Return how long the next instance takes to load, in real seconds."""
        return self.rng.uniform(*self.settings.boot_seconds)
