"""Files are cut at the same places everywhere and for ever: that is what deduplication lives on."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumont.snapshots.chunking import LARGEST, SMALLEST, STRETCH, Stretch, cuts, stretches
from dumont.snapshots.layouts import Layout, Span, layout_of

MB = 1 << 20
NOISE = random.Random(0).randbytes(24 * MB)


def generated(length: int) -> bytes:
    """The same on every Python: hashes of numbers."""
    blocks = (hashlib.sha256(str(n).encode()).digest() for n in range(-(-length // 32)))
    return b"".join(blocks)[:length]


def pieces(data: bytes) -> list[bytes]:
    found, at = [], 0
    for length in cuts(memoryview(data), last=True):
        found.append(data[at : at + length])
        at += length
    return found


def test_the_cuts_are_those_of_the_format() -> None:
    """Other numbers here mean that nobody finds again what is stored already."""
    data = generated(12 * MB)
    assert cuts(memoryview(data), last=True) == RECORDED
    assert cuts(memoryview(bytes(9 * MB)), last=True) == ZEROS


RECORDED = [721161, 1522180, 1207545, 1632481, 1495685, 3199826, 1228920, 1575114]
ZEROS = [4194304, 4194304, 1048576]


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    length=st.integers(1, 9 * MB),
    kind=st.sampled_from(["noise", "zeros", "words"]),
)
def test_cuts_cover_everything_within_limits(seed: int, length: int, kind: str) -> None:
    start = seed * 1000
    data = {
        "noise": NOISE[start : start + length],
        "zeros": bytes(length),
        "words": (b"the same words %d\n" % seed * (length // 16 + 1))[:length],
    }[kind]
    lengths = cuts(memoryview(data), last=True)
    assert sum(lengths) == length
    assert all(SMALLEST <= one <= LARGEST for one in lengths[:-1])
    assert 0 < lengths[-1] <= LARGEST


@pytest.mark.parametrize("inserted", [1, 1024, 300_000])
def test_an_insertion_at_the_front_keeps_what_follows(inserted: int) -> None:
    before = set(pieces(NOISE))
    after = pieces(random.Random(5).randbytes(inserted) + NOISE)
    kept = sum(len(piece) for piece in after if piece in before)
    assert kept >= 0.9 * len(NOISE)


def test_a_change_in_the_middle_costs_a_chunk_or_two() -> None:
    before = set(pieces(NOISE))
    after = pieces(NOISE[: 9 * MB] + b"edited" + NOISE[9 * MB + 3 :])
    assert sum(len(piece) for piece in after if piece not in before) <= 2 * LARGEST


@pytest.mark.parametrize("window", [LARGEST + 1, 5 * MB, 8 * MB])
def test_reading_in_windows_cuts_at_the_same_places(window: int) -> None:
    found: list[int] = []
    at = 0
    while at < len(NOISE):
        view = memoryview(NOISE)[at : at + window]
        lengths = cuts(view, last=at + window >= len(NOISE))
        assert lengths
        found += lengths
        at += sum(lengths)
    assert found == cuts(memoryview(NOISE), last=True)


def test_threads_cut_at_the_same_places() -> None:
    alone = cuts(memoryview(NOISE), last=True)
    with ThreadPoolExecutor(4) as pool:
        assert all(
            one == alone
            for one in pool.map(lambda _: cuts(memoryview(NOISE), last=True), range(12))
        )


# Stretches --------------------------------------------------------------------------------------


@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 200 * MB), st.sampled_from([None, 2, 4])), min_size=1, max_size=20
    )
)
def test_stretches_cover_a_file_with_a_layout(sizes: list[tuple[int, int | None]]) -> None:
    spans, at = [], 0
    for length, element in sizes:
        spans.append(Span(at, at + length, element))
        at += length
    check(list(stretches(at, tuple(spans))), at)


@given(size=st.integers(0, 1 << 40).map(lambda size: size % (700 * MB)))
def test_stretches_cover_a_file_without_one(size: int) -> None:
    found = list(stretches(size, None))
    check(found, size)
    assert not any(stretch.fixed for stretch in found)
    assert [stretch.start for stretch in found] == list(range(0, size, STRETCH))


def check(found: list[Stretch], size: int) -> None:
    assert [s.start for s in found] == [0, *(s.end for s in found[:-1])][: len(found)]
    assert all(0 < s.end - s.start <= STRETCH for s in found)
    assert sum(s.end - s.start for s in found) == size


def test_each_large_tensor_starts_anew() -> None:
    layout = (Span(0, 100, None), Span(100, 70 * MB, 4), Span(70 * MB, 75 * MB, 2))
    assert list(stretches(75 * MB, layout)) == [
        Stretch(0, 100, True, None),
        Stretch(100, 100 + STRETCH, True, 4),
        Stretch(100 + STRETCH, 70 * MB, True, 4),
        Stretch(70 * MB, 75 * MB, True, 2),
    ]


def test_thousands_of_tiny_tensors_do_not_become_thousands_of_chunks() -> None:
    layout = tuple(Span(n * 1000, n * 1000 + 1000, 4) for n in range(5000))
    found = list(stretches(5_000_000, layout))
    check(found, 5_000_000)
    assert len(found) < 25
    assert {stretch.element for stretch in found} == {4}


def test_a_longer_header_moves_nothing() -> None:
    """A model saved again with more to say in its metadata shares all its tensors."""
    first, second = model(note="short"), model(note="much longer " * 500)
    before, after = set(fixed(first)), list(fixed(second))
    new = [chunk for chunk in after if chunk not in before]
    assert len(new) == 1
    assert len(new[0]) < 10_000


def model(*, note: str) -> bytes:
    header: dict[str, object] = {"__metadata__": {"note": note}}
    for number in range(3):
        header[f"layer{number}"] = {
            "dtype": "BF16",
            "shape": [5 * MB // 2],
            "data_offsets": [number * 5 * MB, (number + 1) * 5 * MB],
        }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + NOISE[: 15 * MB]


def fixed(content: bytes) -> Iterator[bytes]:
    def read_at(offset: int, length: int) -> bytes:
        return content[offset : offset + length]

    layout: Layout | None = layout_of(b"m.safetensors", content[: 1 << 16], len(content), read_at)
    assert layout is not None
    for stretch in stretches(len(content), layout):
        assert stretch.fixed
        for at in range(stretch.start, stretch.end, LARGEST):
            yield content[at : min(at + LARGEST, stretch.end)]
