"""How fast chunks are packed and unpacked in memory, by each codec of a snapshot, beside memcpy and gzip.

Chunks of 4 MiB, buffers that are used again, one or two threads that each have their own. Medians
of interleaved rounds after one that is not counted. On a busy machine the rates are a lower bound, and what a
second of CPU does is the figure that holds.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import _harness
from benchmarks._harness import Report, Section, Target, Value
from dumont.snapshots.choose import choose
from dumont.snapshots.chunking import cuts
from dumont.snapshots.codecs import BITSHUFFLE_LZ4, LZ4, RAW, SHUFFLE_ZSTD, ZSTD, Coder, bound
from dumont.snapshots.native import address

CHUNK = 4 << 20
_COPY, _GZIP = "memcpy", "gzip 6"
_FOR_GZIP = 2 << 20
"""Bytes that gzip gets of each kind: it needs a minute for what the others do in two seconds."""
_KINDS = {
    "lz4": (LZ4, 1),
    "bitshuffle+lz4": (BITSHUFFLE_LZ4, 4),
    "zstd 1": (ZSTD, 1),
    "shuffle+zstd 1": (SHUFFLE_ZSTD, 4),
}
_NAMES = {(RAW, 1): "raw", **{kind: name for name, kind in _KINDS.items()}}
_THREADS = (1, 2)


def data(name: str, chunks: int) -> list[bytes]:
    """So many chunks of a kind, the same in every run (sources: those of this Python)."""
    rng = np.random.default_rng(0)
    count = chunks * CHUNK // 4
    match name:
        case "weights fp32":
            whole = rng.normal(0, 0.02, count).astype("f4").tobytes()
        case "weights bf16":
            wide = rng.normal(0, 0.02, 2 * count).astype("f4")
            whole = (wide.view("u4") >> 16).astype("u2").tobytes()
        case "Adam states fp32":
            rows = rng.normal(0, 1e-3, count).astype("f4").reshape(-1, 1024)
            rows[rng.random(len(rows)) < 0.15] = 0
            whole = rows.tobytes()
        case "sources":
            folder = Path(os.__file__).parent
            texts = (path.read_bytes() for path in sorted(folder.rglob("*.py")))
            some = b""
            while len(some) < chunks * CHUNK and (text := next(texts, b"")):
                some += text
            whole = (some * (1 + chunks * CHUNK // len(some)))[: chunks * CHUNK]
        case _:
            whole = rng.bytes(chunks * CHUNK)
    return [whole[at : at + CHUNK] for at in range(0, len(whole), CHUNK)]


DATA = ("weights fp32", "weights bf16", "Adam states fp32", "sources", "incompressible")


@dataclass
class Speeds:
    """Of one codec on one kind of data: GB of raw data a second, of every round."""

    ratio: float
    encode: dict[int, list[float]] = field(default_factory=lambda: {n: [] for n in _THREADS})
    decode: dict[int, list[float]] = field(default_factory=lambda: {n: [] for n in _THREADS})
    encode_cpu: list[float] = field(default_factory=list)
    """GB a second of CPU, of one thread."""
    decode_cpu: list[float] = field(default_factory=list)


class _Hand:
    """What one thread owns."""

    def __init__(self) -> None:
        self._coder = Coder()
        self._packed = memoryview(bytearray(bound(CHUNK)))
        self.raw = memoryview(bytearray(CHUNK))

    def encode(self, chunk: memoryview, name: str) -> memoryview:
        """Pack a chunk."""
        if name == _COPY:
            return _copied(chunk, self._packed)
        if name == _GZIP:
            return memoryview(zlib.compress(chunk, 6))
        codec, element = _KINDS[name]
        size = self._coder.encode(chunk, codec=codec, element=element, into=self._packed)
        return self._packed[:size]

    def decode(self, packed: memoryview, name: str) -> None:
        """The reverse."""
        if name == _COPY:
            _copied(packed, self.raw)
        elif name == _GZIP:
            raw = zlib.decompress(packed)
            self.raw[: len(raw)] = raw
        else:
            codec, element = _KINDS[name]
            self._coder.decode(packed, codec=codec, element=element, into=self.raw)


def _copied(data: memoryview, into: memoryview) -> memoryview:
    """Copied without the GIL, as the codecs work."""
    ctypes.memmove(address(into), address(data), len(data))
    return into[: len(data)]


def _seconds(
    pool: ThreadPoolExecutor, threads: int, work: Callable[[int], object]
) -> tuple[float, float]:
    """Wall and CPU seconds of threads that each do their `work`."""

    def one(number: int) -> float:
        began = time.thread_time()
        work(number)
        return time.thread_time() - began

    began = time.perf_counter()
    cpu = sum(pool.map(one, range(threads)))
    return time.perf_counter() - began, cpu


class Trial:
    """One codec on one kind of data.

    Args:
        pool: Of as many threads as are tried.
        hands: One for each thread.
        codec: Its name.
        chunks: The data.
    """

    def __init__(
        self, pool: ThreadPoolExecutor, hands: Sequence[_Hand], codec: str, chunks: list[bytes]
    ) -> None:
        self._pool, self._hands, self._codec, self._chunks = pool, hands, codec, chunks
        self._length = sum(map(len, chunks))
        self._packed = [bytes(hands[0].encode(memoryview(chunk), codec)) for chunk in chunks]
        self.speeds = Speeds(ratio=self._length / sum(map(len, self._packed)))

    def run(self, *, counts: bool = True) -> None:
        """One round."""
        speeds = self.speeds
        for threads in _THREADS:
            for work, rates, cpu_rates in (
                (self._encode, speeds.encode, speeds.encode_cpu),
                (self._decode, speeds.decode, speeds.decode_cpu),
            ):
                wall, cpu = _seconds(self._pool, threads, work)
                if counts:
                    rates[threads].append(threads * self._length / wall / 1e9)
                if counts and threads == 1:
                    cpu_rates.append(self._length / cpu / 1e9)
        last = self._chunks[-1]
        if any(hand.raw[: len(last)] != last for hand in self._hands):
            raise RuntimeError(f"{self._codec}: what came back is not what went in")

    def _encode(self, number: int) -> None:
        for chunk in self._chunks:
            self._hands[number].encode(memoryview(chunk), self._codec)

    def _decode(self, number: int) -> None:
        for one in self._packed:
            self._hands[number].decode(memoryview(one), self._codec)


def _choices(chunks: dict[str, list[bytes]]) -> list[Sequence[Value]]:
    """What the engine would take, knowing nothing, and what it costs to find out."""
    coder = Coder()
    rows: list[Sequence[Value]] = []
    for name, of_kind in chunks.items():
        view = memoryview(of_kind[0])
        took = []
        found = (RAW, 1)
        for _ in range(9):
            began = time.perf_counter()
            found = choose(coder, view, hint=None, dense=False)
            took.append(time.perf_counter() - began)
        cutting = []
        for _ in range(5):
            began = time.perf_counter()
            cuts(view, last=True)
            cutting.append(CHUNK / (time.perf_counter() - began) / 1e9)
        rows.append([name, _NAMES.get(found, str(found)), 1000 * median(took), median(cutting)])
    return rows


def _row(name: str, codec: str, speeds: Speeds) -> list[Value]:
    return [
        name,
        codec,
        speeds.ratio,
        *(median(speeds.encode[threads]) for threads in _THREADS),
        median(speeds.encode_cpu),
        *(median(speeds.decode[threads]) for threads in _THREADS),
        max(speeds.decode[_THREADS[-1]]),
        median(speeds.decode_cpu),
    ]


def targets(measured: dict[str, dict[str, Speeds]]) -> list[Target]:
    """What P6 promises of codecs."""

    def decode(name: str, codec: str, threads: int) -> float:
        return median(measured[name][codec].decode[threads])

    ours, fp32, bf16 = "bitshuffle+lz4", "weights fp32", "weights bf16"
    promised = [
        ("bitshuffle+LZ4 decoding fp32 on 2 cores", decode(fp32, ours, 2), 5.0, "GB/s"),
        ("bitshuffle+LZ4 decoding bf16 on 2 cores", decode(bf16, ours, 2), 4.2, "GB/s"),
        ("bitshuffle+LZ4 decoding fp32 on 1 core", decode(fp32, ours, 1), 3.0, "GB/s"),
        ("the same, times gzip's", decode(fp32, ours, 1) / decode(fp32, _GZIP, 1), 8.0, "x"),
    ]
    found = [
        Target(name=name, measured=figure, target=target, unit=unit, better="more")
        for name, figure, target, unit in promised
    ]
    for codec, limit in ((ours, 0.78), ("shuffle+zstd 1", 0.70)):
        share = 1 / measured[bf16][codec].ratio
        name = f"bf16 weights stored by {codec}, of their size"
        found.append(Target(name=name, measured=share, target=limit, unit="", better="less"))
    return found


def main() -> None:
    """Run it."""
    parser = _harness.parser(__doc__)
    parser.add_argument("--mb", type=int, default=32, metavar="N", help="of each kind of data")
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    given: argparse.Namespace = parser.parse_args()
    report = Report(name="codecs", question="how fast are the codecs of a chunk?", arguments=given)
    chunks = {name: data(name, max(1, given.mb * (1 << 20) // CHUNK)) for name in DATA}
    report.say("data made")
    with ThreadPoolExecutor(max(_THREADS)) as pool:
        hands = [_Hand() for _ in range(max(_THREADS))]
        trials = {
            (name, codec): Trial(pool, hands, codec, [of[0][:_FOR_GZIP]] if codec == _GZIP else of)
            for name, of in chunks.items()
            for codec in (_COPY, *_KINDS, _GZIP)
        }
        for number in range(given.rounds + 1):
            for trial in trials.values():
                trial.run(counts=number > 0)
            report.say(f"round {number} of {given.rounds}")
    measured: dict[str, dict[str, Speeds]] = {name: {} for name in DATA}
    for (name, codec), trial in trials.items():
        measured[name][codec] = trial.speeds
    report.add(
        Section(
            title="GB of raw data a second",
            columns=["data", "codec", "ratio", "encode 1 thread", "2 threads", "a CPU second",
                     "decode 1 thread", "2 threads", "best of 2", "a CPU second"],
            rows=[_row(name, codec, speeds) for name, of in measured.items()
                  for codec, speeds in of.items()],
            note=f"medians of {given.rounds}; gzip on {_FOR_GZIP >> 20} MiB; shuffle+zstd is the profile `dense`",
        )
    )  # fmt: skip
    report.add(
        Section(
            title="What the engine takes when a file says nothing",
            columns=["data", "codec", "ms to find out, of 4 MiB", "content cuts, GB/s"],
            rows=_choices(chunks),
        )
    )
    report.targets += targets(measured)
    report.figures["libraries"] = {name: version(name) for name in ("bitshuffle", "pyfastcdc")}
    report.figures["decode_gb_s"] = {
        name: {codec: speeds.decode for codec, speeds in of.items()}
        for name, of in measured.items()
    }
    report.finish()


if __name__ == "__main__":
    main()
