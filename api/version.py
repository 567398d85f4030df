"""The installed version of the product."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _version() -> str:
    try:
        return version("dumont-cloud")
    except PackageNotFoundError:
        return "0.0.0+source"


VERSION: Final = _version()
