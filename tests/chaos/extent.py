"""How much chaos a run has: what `make test` has time for, and what a long run adds.

`DUMONT_CHAOS_DEATHS=all` kills a worker at every point that is listed here, not only at those where
its death costs most. `DUMONT_CHAOS_FAILOVERS=100` fails over so often in a row.
"""

from __future__ import annotations

import os

FAILOVERS = int(os.environ.get("DUMONT_CHAOS_FAILOVERS", "2"))
"""How many in a row."""
_ALL_DEATHS = os.environ.get("DUMONT_CHAOS_DEATHS") == "all"


def deaths(*always: str, long_run: tuple[str, ...]) -> tuple[str, ...]:
    """The points `when:activity` at which workers die in this run."""
    return always + (long_run if _ALL_DEATHS else ())


SNAPSHOT_KILLS = int(os.environ.get("DUMONT_CHAOS_SNAPSHOT_KILLS", "20"))
"""How often a snapshot, a prune or a restore is killed; the full run is 200."""
