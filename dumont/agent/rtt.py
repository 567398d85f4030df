"""The round trip to the other body, measured: what the endpoint's checks may be as quick as."""

from __future__ import annotations

import socket
import statistics
import time
from typing import Any

from dumont.agent.errors import AgentError

_TRIES = 7
_TIMEOUT_S = 3.0


def measure(host: str, port: int) -> dict[str, Any]:
    """Connect a few times: a TCP handshake is one round trip.

    Returns:
        `rtt_ms`, the median, and `worst_ms`.
    """
    took = []
    trouble = "no try"
    for _ in range(_TRIES):
        began = time.perf_counter()
        try:
            with socket.create_connection((host, port), timeout=_TIMEOUT_S):
                took.append((time.perf_counter() - began) * 1000)
        except OSError as error:
            trouble = str(error)
    if not took:
        raise AgentError(f"{host}:{port} cannot be reached: {trouble}", code="unreachable")
    return {"rtt_ms": round(statistics.median(took), 3), "worst_ms": round(max(took), 3)}
