"""A machine's readiness ladder as its row keeps it: every attempt of the newest generation."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from dumont.domain.instances import Message
from dumont.domain.ladder import Rung
from dumont.ports import LadderRecord


class Ladder(Message):
    """When which attempt reached which rung."""

    generation: int = 0
    attempts: dict[int, dict[Rung, datetime]] = Field(default_factory=dict)

    def climbed(self, record: LadderRecord) -> Ladder:
        """The ladder with one more rung; the same one when that was known or is out of date."""
        if record.generation < self.generation:
            return self
        attempts = self.attempts if record.generation == self.generation else {}
        rungs = attempts.get(record.attempt, {})
        if record.rung in rungs:
            return self
        return Ladder(
            generation=record.generation,
            attempts={**attempts, record.attempt: {**rungs, record.rung: record.at}},
        )

    def shown(self, *, generation: int, attempt: int | None) -> dict[Rung, datetime]:
        """The rungs to show: of the attempt that won, else of the one that climbed highest."""
        if generation != self.generation:
            return {}
        if attempt is not None:
            return self.attempts.get(attempt, {})
        best = max(self.attempts.items(), key=lambda item: (len(item[1]), item[0]), default=None)
        return best[1] if best else {}
