"""What a codec wrote comes back; what it did not write is refused, and reads or writes nothing else."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.snapshots import native
from dumont.snapshots.codecs import (
    BITSHUFFLE_LZ4,
    BLOCK,
    LZ4,
    RAW,
    SHUFFLE_ZSTD,
    ZSTD,
    Coder,
    bound,
)
from dumont.snapshots.errors import Damaged

KINDS = [(RAW, 1), (LZ4, 1), (ZSTD, 1), (BITSHUFFLE_LZ4, 4), (BITSHUFFLE_LZ4, 8),
         (SHUFFLE_ZSTD, 4), (SHUFFLE_ZSTD, 8)]  # fmt: skip
LARGEST = 4 << 20


def numbers(length: int, *, seed: int = 0) -> bytes:
    """Bytes like an array's: some places of a number vary little."""
    rng = random.Random(seed)
    return bytes(b"\x3c\x00\x7f"[n % 4] if n % 4 < 3 else rng.randrange(256) for n in range(length))


def encoded(data: bytes, codec: int, element: int) -> bytes:
    into = bytearray(bound(len(data)))
    length = Coder().encode(memoryview(data), codec=codec, element=element, into=memoryview(into))
    return bytes(into[:length])


def decoded(data: bytes, codec: int, element: int, length: int) -> bytes:
    into = bytearray(length)
    Coder().decode(memoryview(data), codec=codec, element=element, into=memoryview(into))
    return bytes(into)


@pytest.mark.parametrize(("codec", "element"), KINDS)
@given(data=st.binary(min_size=1, max_size=300), times=st.integers(1, 500))
def test_every_chunk_comes_back(codec: int, element: int, data: bytes, times: int) -> None:
    whole = data * times
    assert decoded(encoded(whole, codec, element), codec, element, len(whole)) == whole


@pytest.mark.parametrize(("codec", "element"), KINDS)
def test_bound_is_enough_for_what_does_not_compress(codec: int, element: int) -> None:
    for length in (1, 63, BLOCK - 1, BLOCK + 7, LARGEST - 3, LARGEST):
        noise = random.Random(length).randbytes(length)
        assert decoded(encoded(noise, codec, element), codec, element, length) == noise


@pytest.mark.parametrize(("codec", "element"), KINDS)
def test_too_little_room_is_said_and_nothing_is_written_beyond_it(codec: int, element: int) -> None:
    data = random.Random(1).randbytes(100_000)
    for room in (0, 1, 1000, 99_999):
        into = bytearray(b"\xee" * 200_000)
        with pytest.raises(ValueError):
            Coder().encode(
                memoryview(data), codec=codec, element=element, into=memoryview(into)[:room]
            )
        assert into[room:] == b"\xee" * (200_000 - room)


@pytest.mark.parametrize(("codec", "element"), KINDS)
def test_another_length_is_damage(codec: int, element: int) -> None:
    data = numbers(100_000)
    stored = encoded(data, codec, element)
    for length in (1, 99_999, 100_001, 200_000):
        with pytest.raises(Damaged):
            decoded(stored, codec, element, length)


@pytest.mark.parametrize(("codec", "element"), [(5, 1), (255, 4), (BITSHUFFLE_LZ4, 0),
                                                (BITSHUFFLE_LZ4, 3), (SHUFFLE_ZSTD, 255)])  # fmt: skip
def test_unknown_codecs_are_refused(codec: int, element: int) -> None:
    with pytest.raises(Damaged):
        decoded(b"anything", codec, element, 8)
    with pytest.raises(ValueError, match="no "):
        encoded(b"anything", codec, element)


def test_threads_with_a_coder_each_do_not_meet() -> None:
    def work(seed: int) -> bool:
        data = numbers(200_000, seed=seed)
        coder, into, back = Coder(), memoryview(bytearray(bound(200_000))), bytearray(200_000)
        for codec, element in KINDS * 5:
            length = coder.encode(memoryview(data), codec=codec, element=element, into=into)
            coder.decode(into[:length], codec=codec, element=element, into=memoryview(back))
            if back != data:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


# The format, read by its description alone ------------------------------------------------------


@pytest.mark.parametrize("element", [4, 8])
@pytest.mark.parametrize("length", [5, 64, 1000, BLOCK + 777])
def test_bitshuffled_bytes_are_as_the_format_says(element: int, length: int) -> None:
    data = numbers(length)
    stored = encoded(data, BITSHUFFLE_LZ4, element)
    found, at = bytearray(), 0
    whole = length - length % (8 * element)
    while len(found) < whole:
        size = min(BLOCK, whole - len(found))
        packed = int.from_bytes(stored[at : at + 4], "big")
        found += bits_joined(lz4_by_hand(stored[at + 4 : at + 4 + packed]), size, element)
        at += 4 + packed
    assert bytes(found) + stored[at:] == data


@pytest.mark.parametrize("element", [4, 8])
@pytest.mark.parametrize("length", [3, 64, 1001])
def test_shuffled_bytes_are_as_the_format_says(element: int, length: int) -> None:
    data = numbers(length)
    split = native.zstd_decompress(encoded(data, SHUFFLE_ZSTD, element), limit=length)
    count = length // element
    joined = b"".join(bytes(split[n::count][:element]) for n in range(count))
    assert joined + split[count * element :] == data


def bits_joined(shuffled: bytes, size: int, element: int) -> bytes:
    """Bit b of byte k of all numbers come one after the other, eight to a byte, lowest first."""
    assert len(shuffled) == size
    count = size // element
    found = bytearray(size)
    for row in range(8 * element):
        for n in range(count):
            bit = shuffled[row * count // 8 + n // 8] >> n % 8 & 1
            found[n * element + row // 8] |= bit << row % 8
    return bytes(found)


def lz4_by_hand(block: bytes) -> bytes:
    found, at = bytearray(), 0

    def longer(length: int) -> int:
        nonlocal at
        if length == 15:
            while True:
                at += 1
                length += block[at - 1]
                if block[at - 1] != 255:
                    break
        return length

    while at < len(block):
        token = block[at]
        at += 1
        literals = longer(token >> 4)
        found += block[at : at + literals]
        at += literals
        if at == len(block):
            break
        back = int.from_bytes(block[at : at + 2], "little")
        at += 2
        for _ in range(longer(token & 15) + 4):
            found.append(found[-back])
    return bytes(found)


# Damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "element"), KINDS[1:])
def test_damaged_bytes_touch_no_memory_but_their_own(codec: int, element: int) -> None:
    """In a process of its own, with memory before and after each buffer that ends who touches it."""
    process = multiprocessing.get_context("spawn").Process(target=attack, args=(codec, element))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def attack(codec: int, element: int) -> None:
    rng = random.Random(f"{codec} {element}")
    coder, refused = Coder(), 0
    for number in range(1500):
        length = rng.choice([1, 8, 31, 64, 500, 4096, BLOCK, BLOCK + 64, 3 * BLOCK + 13])
        data = (
            numbers(length, seed=number % 7) if length < 5000 else os.urandom(64) * (length // 64)
        )
        hostile = damaged(rng, encoded(data, codec, element))
        if not hostile:
            continue
        into_length = rng.choice([len(data), len(data), max(1, len(data) - 1), len(data) + 8])
        source, into = (
            guarded(len(hostile), at_end=True),
            guarded(into_length, at_end=number % 2 == 0),
        )
        source[:] = hostile
        try:
            coder.decode(source, codec=codec, element=element, into=into)
        except Damaged:
            refused += 1
    if refused < 300:
        os._exit(7)  # it was no attack


def damaged(rng: random.Random, stored: bytes) -> bytes:
    made = bytearray(stored)
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(made[: rng.randrange(len(made) + 1)])
    if kind == 1:
        return rng.randbytes(rng.randrange(1, 2 * len(made) + 8))
    if kind == 2:  # a length or an offset that is far too large
        at = rng.randrange(len(made))
        made[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"])
    if kind == 3:
        return bytes(made) + rng.randbytes(rng.randrange(1, 9))
    for _ in range(rng.choice([1, 1, 2, 8])):
        made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made)


_kept: list[mmap.mmap] = []


def guarded(length: int, *, at_end: bool) -> memoryview:
    """A buffer right before (or right after) memory that nobody may touch."""
    page = mmap.PAGESIZE
    inner = -(-length // page) * page
    area = mmap.mmap(-1, inner + 2 * page)
    _kept[:] = [*_kept[-3:], area]
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None, use_errno=True)
    for guard in (start, start + page + inner):
        if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = page + (inner - length if at_end else 0)
    return memoryview(area)[offset : offset + length]


# The library ------------------------------------------------------------------------------------


def test_without_the_package_it_says_what_to_install() -> None:
    with pytest.raises(ImportError, match="pip install bitshuffle"):
        native.load([])


def test_an_old_processor_is_named_instead_of_dying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native.library.bshuf_using_AVX2():
        pytest.skip("this build runs on every processor")
    (tmp_path / "cpuinfo").write_text("flags : fpu sse sse2 avx\n")
    monkeypatch.setattr(native, "_CPU_INFO", tmp_path / "cpuinfo")
    with pytest.raises(ImportError, match="AVX2"):
        native.load(native.folders())


@pytest.mark.parametrize("before", [None, "7"])
def test_how_many_threads_others_use_is_not_our_business(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    native.load(native.folders())
    assert os.environ.get("OMP_NUM_THREADS") == before
