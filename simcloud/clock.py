"""simcloud's two times: the virtual one that bills and ages, the real one that processes live in.

A test moves the virtual clock by hours to see a bill grow or a contract end; no process inside a
machine notices. Nothing else in simcloud may read the wall clock for business facts.
"""

from __future__ import annotations

import time


class Clock:
    """A wall clock with an adjustable offset and rate."""

    def __init__(self, *, offset: float = 0.0, rate: float = 1.0) -> None:
        self._rate = rate
        self._anchor_real = time.time()
        self._anchor_virtual = self._anchor_real + offset

    def now(self) -> float:
        """Return virtual time in seconds since the epoch."""
        return self._anchor_virtual + (time.time() - self._anchor_real) * self._rate

    @property
    def offset(self) -> float:
        """Seconds by which virtual time is ahead of real time at this moment."""
        return self.now() - time.time()

    @property
    def rate(self) -> float:
        """Virtual seconds that pass in one real second."""
        return self._rate

    def advance(self, *, seconds: float) -> float:
        """Jump forward.

        Args:
            seconds: How far, in virtual seconds; never negative, because bills do not shrink.

        Returns:
            The new virtual time.

        Raises:
            ValueError: If `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError("seconds: virtual time only moves forward; give a value >= 0")
        self._anchor_virtual += seconds
        return self.now()

    def set_rate(self, *, rate: float) -> None:
        """Let virtual time pass `rate` times as fast as real time from now on.

        Raises:
            ValueError: If `rate` is negative.
        """
        if rate < 0:
            raise ValueError("rate: virtual time only moves forward; give a value >= 0")
        self._anchor_virtual = self.now()
        self._anchor_real = time.time()
        self._rate = rate
