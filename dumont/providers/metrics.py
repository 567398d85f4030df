"""Prometheus metrics of the calls to providers; `docs/providers.md` explains them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter(
    "dumont_provider_calls_total",
    "Calls to a provider by their outcome (`ok`, or the error's code).",
    ["provider", "account", "operation", "outcome"],
)
CALL_SECONDS = Histogram(
    "dumont_provider_call_seconds",
    "Time a provider took to answer.",
    ["provider", "account", "operation"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
QUEUE_SECONDS = Histogram(
    "dumont_provider_queue_seconds",
    "Time a call waited for its turn.",
    ["provider", "account", "operation", "urgency"],
    buckets=(0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120),
)
QUEUE_DEPTH = Gauge(
    "dumont_provider_queue_depth",
    "Calls that wait for their turn now.",
    ["provider", "account", "operation"],
)
THROTTLED = Counter(
    "dumont_provider_throttled_total",
    "Refusals for being too fast (429).",
    ["provider", "account", "operation"],
)
INTERVAL_SECONDS = Gauge(
    "dumont_provider_interval_seconds",
    "Least time between two calls, as configured or as refusals taught.",
    ["provider", "account", "operation"],
)
CALLS_TODAY = Gauge(
    "dumont_provider_calls_today",
    "Calls since midnight UTC of an operation that has a daily budget.",
    ["provider", "account", "operation"],
)
