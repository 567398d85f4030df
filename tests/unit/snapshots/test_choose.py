"""Each kind of data gets the codec that suits it, whatever its file's name claims."""

from __future__ import annotations

import random
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.snapshots.choose import choose
from dumont.snapshots.codecs import (
    BITSHUFFLE_LZ4,
    LZ4,
    RAW,
    SHUFFLE_ZSTD,
    ZSTD,
    Coder,
    bound,
)

CHUNK = 1 << 20
RNG = random.Random(1)
NOISE = random.Random(0).randbytes(CHUNK)
TEXT = (Path(__file__).read_bytes() * 600)[:CHUNK]


FP32 = array("f", (RNG.gauss(0, 0.02) for _ in range(CHUNK // 4))).tobytes()
BF16 = b"".join(FP32[n + 2 : n + 4] for n in range(0, CHUNK, 4))
DOUBLES = array("d", (RNG.gauss(0, 1) for _ in range(CHUNK // 8))).tobytes()
IDS = array("q", (RNG.randrange(50_000) for _ in range(CHUNK // 8))).tobytes()


def chosen(data: bytes, *, hint: int | None = None, dense: bool = False) -> tuple[int, int]:
    return choose(Coder(), memoryview(data), hint=hint, dense=dense)


def size(data: bytes, kind: tuple[int, int]) -> int:
    codec, element = kind
    into = memoryview(bytearray(bound(len(data))))
    return Coder().encode(memoryview(data), codec=codec, element=element, into=into)


@pytest.mark.parametrize("hint", [None, 4])
def test_weights_are_shuffled_whether_the_header_says_so_or_not(hint: int | None) -> None:
    assert chosen(FP32, hint=hint) == (BITSHUFFLE_LZ4, 4)
    assert chosen(FP32, hint=hint, dense=True) == (SHUFFLE_ZSTD, 4)


@pytest.mark.parametrize("hint", [None, 2])
def test_half_precision_is_shuffled_in_pairs(hint: int | None) -> None:
    assert chosen(BF16, hint=hint) == (BITSHUFFLE_LZ4, 4)
    assert size(BF16, (BITSHUFFLE_LZ4, 4)) < 0.78 * len(BF16)
    assert chosen(BF16, hint=hint, dense=True) == (SHUFFLE_ZSTD, 4)
    assert size(BF16, (SHUFFLE_ZSTD, 4)) < 0.70 * len(BF16)


def test_wide_numbers_are_shuffled_as_such() -> None:
    assert chosen(IDS, hint=8) == (BITSHUFFLE_LZ4, 8)
    assert chosen(DOUBLES) == (BITSHUFFLE_LZ4, 8)


@pytest.mark.parametrize("hint", [None, 0, 4])
@pytest.mark.parametrize("dense", [False, True])
def test_text_gets_zstd_and_noise_stays_as_it_is(hint: int | None, dense: bool) -> None:
    assert chosen(TEXT, hint=hint, dense=dense) == (ZSTD, 1)
    assert chosen(NOISE, hint=hint, dense=dense) == (RAW, 1)


def test_a_name_that_says_compressed_saves_the_search_for_numbers() -> None:
    assert chosen(FP32, hint=0) == (RAW, 1)


def test_what_a_header_calls_numbers_may_be_noise() -> None:
    assert chosen(NOISE, hint=2) == (RAW, 1)


@pytest.mark.parametrize("hint", [None, 0, 2, 4, 8])
def test_zeros_become_nothing(hint: int | None) -> None:
    assert size(bytes(CHUNK), chosen(bytes(CHUNK), hint=hint)) < CHUNK / 150


def test_a_bundle_of_sources_around_an_image_is_compressed() -> None:
    """One look at its middle would have called it noise."""
    third = len(TEXT) // 3
    bundle = TEXT[:third] + NOISE[:third] + TEXT[-third:]
    codec, element = chosen(bundle)
    assert codec in (LZ4, ZSTD)
    assert size(bundle, (codec, element)) < 0.7 * len(bundle)


@given(
    data=st.binary(max_size=2000),
    times=st.integers(1, 200),
    hint=st.sampled_from([None, 0, 2, 4, 8]),
    dense=st.booleans(),
)
def test_whatever_is_chosen_works(data: bytes, times: int, hint: int | None, dense: bool) -> None:
    whole = (data or b"x") * times
    coder, into = Coder(), memoryview(bytearray(bound(len(whole))))
    codec, element = choose(coder, memoryview(whole), hint=hint, dense=dense)
    length = coder.encode(memoryview(whole), codec=codec, element=element, into=into)
    back = bytearray(len(whole))
    coder.decode(into[:length], codec=codec, element=element, into=memoryview(back))
    assert back == whole
    assert length <= len(whole) + len(whole) // 8 + 64
