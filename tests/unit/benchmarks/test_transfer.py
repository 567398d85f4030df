"""The transfer benchmark's sums."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import transfer
from benchmarks._snapshot_tools import Cost


def found(put_s: float, get_s: float, cpu_s: float) -> transfer.Found:
    made = transfer.Found()
    for way, wall in (("put", put_s), ("get", get_s)):
        made.costs[way] = [Cost(wall * factor, cpu_s, 100.0, 1.0) for factor in (1.0, 9.0, 0.5)]
    return made


def test_medians_against_the_promises() -> None:
    given = {"dumont": found(1.0, 2.0, 0.6), "s5cmd": found(4.0, 2.5, 5.0)}
    by_name = {target.name: target for target in transfer.targets(given, 2_000_000_000)}
    assert by_name["put, faster than s5cmd"].measured == 4.0
    assert by_name["put, faster than s5cmd"].met
    assert by_name["put, processor time"].measured == pytest.approx(0.3)
    alone, _ = transfer.targets({"dumont": given["dumont"]}, 2_000_000_000)
    assert alone.met is None
    row = next(row for row in transfer.rows(given, 2_000_000_000) if row[:2] == ["put", "s5cmd"])
    assert row[2:] == [0.5, 4.0, 2.5, 0.5, 100.0, 4.0]


@pytest.mark.parametrize("name", ["dumont", "s5cmd"])
def test_each_client_brings_back_what_it_was_given(name: str, tmp_path: Path) -> None:
    from benchmarks import _snapshot_servers

    source = tmp_path / "source"
    transfer._fill(source, 2)
    with _snapshot_servers.running("light", tmp_path / "server") as server:
        costs = transfer._round(
            name, folder=tmp_path, source=source, server=server,
            digests=transfer._digests(source),
        )  # fmt: skip
    assert all(cost.wall_s > 0 for cost in costs.values())
