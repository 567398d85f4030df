"""The API's own metrics, in Prometheus' text form at `/metrics`."""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one API process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Histogram(
            "dumont_api_request_seconds",
            "Time to answer, by route and status; streams are not counted.",
            ["method", "route", "status"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.errors = Counter(
            "dumont_api_errors_total",
            "Problem documents sent, by the error's code.",
            ["code"],
            registry=self._registry,
        )
        self.logins = Counter(
            "dumont_api_logins_total",
            "Log-in attempts: ok, refused, limited.",
            ["outcome"],
            registry=self._registry,
        )
        self.streams = Gauge(
            "dumont_api_event_streams",
            "Event streams that are open.",
            registry=self._registry,
        )
        self.stream_resets = Counter(
            "dumont_api_event_stream_resets_total",
            "Times a reader was too slow and had to start over.",
            registry=self._registry,
        )

    def text(self) -> bytes:
        """All metrics now."""
        return generate_latest(self._registry)
