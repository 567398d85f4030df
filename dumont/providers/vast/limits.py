"""How fast Vast.ai lets one account go, and how we divide that.

Intervals are the documented thresholds (docs.vast.ai, API rate limits) plus a tenth, because the
network may bring two calls closer together than they were sent. The daily number of searches that
Vast.ai allows is not published: ours only keeps browsing from using up what machines need.
"""

from __future__ import annotations

from dumont.providers.gateway import Limit, Urgency

VAST_LIMITS: dict[str, Limit] = {
    "search": Limit(interval_s=0.5, max_wait_s=30, background_per_day=2_000),
    "create": Limit(interval_s=4.95, max_wait_s=120),
    "get": Limit(interval_s=2.2),
    "list": Limit(interval_s=1.1),
    "update": Limit(interval_s=1.1),
    "reboot": Limit(interval_s=1.1),
    "destroy": Limit(interval_s=3.3, urgency=Urgency.DESTROY, max_wait_s=300),
    "bid": Limit(interval_s=6.05),
    "ssh": Limit(interval_s=1.1),
    "logs": Limit(interval_s=1.1, urgency=Urgency.BACKGROUND),
    "account": Limit(interval_s=1.1, urgency=Urgency.BACKGROUND),
    "charges": Limit(interval_s=1.1, urgency=Urgency.BACKGROUND),
}
"""Limits by operation; Vast.ai counts each separately."""
