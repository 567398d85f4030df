"""A receipt as a failover leaves it, to change for a test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dumont.domain.receipts import Body, Cost, Moment, Receipt, Testimony, Unreplicated

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def receipt(**changes: Any) -> Receipt:
    """A replacement: the GPU was killed, 41.2 s later the address led to another one."""
    steps = {
        "detected": 0.0,
        "redirected": 41.0,
        "reported": 180.5,
        "fenced": 950.0,
        "provisioned": 30_000.0,
        "restored": 40_000.0,
        "verified": 41_100.0,
        "failed_back": 41_200.0,
    }
    whole: dict[str, Any] = {
        "machine_id": "m0123456789ab",
        "machine_name": "my-box",
        "number": 1,
        "cause": "the standby lost its link to the GPU",
        "drill": False,
        "outcome": "replaced",
        "detected_at": AT,
        "closed_at": AT + timedelta(seconds=41.2),
        "timeline": tuple(
            Moment.model_validate(
                {"phase": phase, "at": AT + timedelta(milliseconds=ms), "ms": ms}
            )
            for phase, ms in steps.items()
        ),
        "witnesses": (
            Testimony(witness="link", said="the standby's link to it is down", at=AT),
            Testimony(witness="provider", said="no answer", at=None),
        ),
        "former": Body(
            provider="vast", instance_id="7", label="dmt-test-m0123456789ab-g1-a1", generation=1,
            host_id="h1", gpu="RTX 4090", usd_per_hour=0.4,
        ),
        "adopted": Body(
            provider="vast", instance_id="8", label="dmt-test-m0123456789ab-g2-a1", generation=2,
            host_id="h2", gpu="RTX 4090", usd_per_hour=0.44,
        ),
        "standby": Body(
            provider="gcp", instance_id="9", label="dmt-test-m0123456789ab-s1",
            region="us-west1-b", usd_per_hour=0.0123,
        ),
        "epoch_before": 1,
        "epoch_after": 2,
        "unreplicated": Unreplicated(
            last_point_at=AT - timedelta(seconds=0.3), sequence=812, files=1, bytes=4096,
            names=("run/out.log",),
        ),
        "files_restored": 1200,
        "bytes_restored": 2_000_000_000,
        "entries_verified": 1300,
        "cost": Cost(replacement_usd=0.00137, standby_usd=None),
    }  # fmt: skip
    return Receipt.model_validate(whole | changes)
