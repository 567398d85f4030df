"""Cells of tables that people open in a spreadsheet."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula's beginning; names are anybody's choice."""


def cell(value: object) -> object:
    """A value as a CSV writer should have it: a text stays a text, and exact numbers have no exponent."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, str) and value[:1] in _FORMULA:
        return f"'{value}"
    return value
