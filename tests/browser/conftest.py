"""The browser tests stand in front of the same running demo as a newcomer's command line."""

from __future__ import annotations

from tests.integration.product.conftest import product

__all__ = ["product"]
