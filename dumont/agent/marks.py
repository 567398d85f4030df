"""The lag, measured: a numbered mark is written into the workspace and looked for on the standby.

A mark that arrived says that the mirror works and how long it takes. It does not say that a bigger
file, in another lane, has arrived too; so the age of the oldest transfer under way is part of the lag.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from dumont.agent import store
from dumont.agent.context import timestamp

if TYPE_CHECKING:
    from pathlib import Path

_REMEMBERED = 4096


class Marks:
    """Writes marks and knows which of them arrived.

    Attributes:
        sequence: Of the newest mark written.
    """

    def __init__(self, *, product: Path, epoch: int) -> None:
        self._product = product
        self._epoch = epoch
        self._written: deque[tuple[int, float, float]] = deque(maxlen=_REMEMBERED)
        self._arrived: tuple[int, float, float] | None = None
        self._delay_s: float | None = None
        self.sequence = self._last_sequence()

    def write(self) -> int:
        """Write the next mark; returns its number. Raises OSError."""
        self._product.mkdir(exist_ok=True)
        number = self.sequence + 1
        mark = {"epoch": self._epoch, "sequence": number, "written_at": timestamp()}
        temporary = self._product / "mark.tmp"
        temporary.write_text(json.dumps(mark) + "\n")
        self._written.append((number, time.monotonic(), time.time()))
        os.replace(str(temporary), str(self._product / "mark"))
        self.sequence = number
        return number

    def take_over(self) -> None:
        """Go on from the mark that a restore brought."""
        self.sequence = max(self.sequence, self._last_sequence())

    def saw(self, text: str | None) -> bool:
        """Take note of what the standby has; returns whether that is the newest mark."""
        number = read(text, epoch=self._epoch)
        if number is None:
            return False
        while self._written and self._written[0][0] <= number:
            mark = self._written.popleft()
            self._arrived = mark
            self._delay_s = time.monotonic() - mark[1]
        return number == self.sequence and not self._written

    def age_s(self) -> float | None:
        """For how long no mark has arrived that should have; None: none ever arrived."""
        if self._arrived is None:
            return None
        return time.monotonic() - self._written[0][1] if self._written else 0.0

    def lag_s(self, oldest_transfer_s: float | None) -> float | None:
        """How far the standby is behind; None: unknown, no mark arrived yet."""
        waiting, delay = self.age_s(), self._delay_s
        if waiting is None or delay is None:
            return None
        return round(max(waiting, delay if not self._written else 0.0, oldest_transfer_s or 0.0), 3)

    def replicated_at(self, oldest_transfer_s: float | None) -> float | None:
        """The moment (seconds since 1970) up to which everything is on the standby."""
        if self._arrived is None:
            return None
        moment = self._arrived[2]
        if oldest_transfer_s is not None:
            moment = min(moment, time.time() - oldest_transfer_s)
        return moment

    def _last_sequence(self) -> int:
        """Numbers go on where an earlier worker stopped."""
        try:
            number = read(store.read_text(self._product / "mark"), epoch=None)
        except OSError:
            number = None
        return number or 0


def read(text: str | None, *, epoch: int | None) -> int | None:
    """The number of a mark of this epoch, or None."""
    try:
        mark: Any = json.loads(text or "")
        number = mark["sequence"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(number, int) or (epoch is not None and mark.get("epoch") != epoch):
        return None
    return number
