"""Zones without a free machine: instances there cannot be started until the stock-out is lifted."""

from __future__ import annotations

from simcloud.store import Store


class Stockouts:
    """The zones that are out of machines, durable."""

    def __init__(self, store: Store) -> None:
        self._documents = store.collection("gcp_stockouts")

    def declare(self, zone: str, *, times: int | None = None) -> None:
        """Let the next `times` boots in `zone` fail, or all of them."""
        self._documents.put(zone, {"times": times})

    def lift(self, zone: str) -> bool:
        """End a stock-out; return whether there was one."""
        return self._documents.delete(zone)

    def list(self) -> dict[str, int | None]:
        """Return the zones concerned, each with how many more boots fail (None: all)."""
        return {zone: document["times"] for zone, document in self._documents.items()}

    def strikes(self, zone: str) -> bool:
        """Whether this boot in `zone` fails; counts it."""
        document = self._documents.get(zone)
        if document is None:
            return False
        times = document["times"]
        if times is not None:
            if times <= 1:
                self._documents.delete(zone)
            else:
                self._documents.put(zone, {"times": times - 1})
        return True
