"""The codec benchmark: the same data every time, promises that can be missed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from benchmarks import codecs
from benchmarks.codecs import CHUNK, DATA, Speeds, Trial, data, targets


def speeds(*, decode: float, ratio: float = 1.5) -> Speeds:
    return Speeds(ratio=ratio, decode={1: [decode / 2], 2: [decode, decode + 9, decode - 1]})


def verdicts(*, fp32: float, bf16: float, ratio: float) -> list[bool | None]:
    others = {"gzip 6": speeds(decode=0.5), "shuffle+zstd 1": speeds(decode=2, ratio=ratio)}
    measured = {
        "weights fp32": {"bitshuffle+lz4": speeds(decode=fp32), **others},
        "weights bf16": {"bitshuffle+lz4": speeds(decode=bf16, ratio=ratio), **others},
    }
    return [target.met for target in targets(measured)]


def test_promises_are_kept_or_missed_by_the_median() -> None:
    assert verdicts(fp32=6.1, bf16=4.3, ratio=1.5) == [True] * 6
    assert verdicts(fp32=3.9, bf16=4.1, ratio=1.2) == [False, False, False, False, False, False]


@pytest.mark.parametrize("name", DATA)
def test_each_kind_of_data_is_as_long_as_asked_and_the_same_again(name: str) -> None:
    chunks = data(name, 2)
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK]
    assert all(one != other for one, other in pairwise(chunks))
    assert data(name, 2) == chunks


def test_a_codec_that_loses_data_is_no_fast_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs._Hand, "decode", lambda hand, packed, name: None)
    with ThreadPoolExecutor(2) as pool:
        trial = Trial(pool, [codecs._Hand(), codecs._Hand()], "lz4", data("sources", 1))
        with pytest.raises(RuntimeError, match="not what went"):
            trial.run()
