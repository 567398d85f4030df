"""Task queues: what a worker role polls.

Providers have queues of their own because their client libraries are heavy and because all calls of
one provider account must pass through one rate-limit gateway, which lives in one process.
"""

from __future__ import annotations

from typing import Final

CONTROL: Final = "control"
"""Workflows, database writes and SSH probes. Any number of workers."""
PROVIDER_VAST: Final = "provider-vast"
"""Everything that talks to Vast.ai. One worker per account."""
PROVIDER_GCP: Final = "provider-gcp"
"""Everything that talks to Google Compute. One worker per project."""

ALL: Final = (CONTROL, PROVIDER_VAST, PROVIDER_GCP)
