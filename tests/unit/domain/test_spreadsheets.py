"""Tables for spreadsheets: a name is never a formula, and a number never a text."""

from __future__ import annotations

from decimal import Decimal

import pytest

from dumont.domain.spreadsheets import cell


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_name_that_looks_like_a_formula_stays_a_name(name: str):
    assert cell(name) == f"'{name}"


@pytest.mark.parametrize("value", ["my-box", "", None, -1.5, 3, True])
def test_everything_else_stays_as_it_is(value: object):
    assert cell(value) is value


def test_exact_dollars_are_numbers_without_an_exponent():
    assert cell(Decimal("-0.000000001")) == "-0.000000001"
    assert cell(Decimal("1E+3")) == "1000"
