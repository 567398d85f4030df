"""The index: which chunk lies where. Index objects add up; one may stand for several older ones."""

from __future__ import annotations

import json
import secrets
import struct
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dumont.snapshots import packs
from dumont.snapshots.crypto import Keys
from dumont.snapshots.errors import Damaged
from dumont.snapshots.packs import Record
from dumont.snapshots.zstd import compress, decompress

_PACK = struct.Struct(">16sI")
MAX_INDEX = 1 << 30
"""Largest decompressed index object that is read."""


class Place(NamedTuple):
    """Where a chunk is."""

    pack: bytes
    offset: int
    sealed: int
    raw: int
    codec: int
    element: int

    def record(self, chunk: bytes) -> Record:
        """The same as it stands in the pack."""
        return Record(chunk, *self[1:])


class Index:
    """All chunks that are known to be stored. Safe for many threads."""

    def __init__(self) -> None:
        self._places: dict[bytes, Place] = {}
        self._claimed: set[bytes] = set()
        self._lock = threading.Lock()
        self.packs: dict[bytes, int] = {}
        """How many bytes of sealed chunks each pack holds."""

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, chunk: bytes) -> bool:
        return chunk in self._places

    def get(self, chunk: bytes) -> Place | None:
        """Where a chunk is; None when it is not stored."""
        return self._places.get(chunk)

    def claim(self, chunk: bytes) -> bool:
        """Whether the caller must store this chunk; true for one caller only."""
        if chunk in self._places:
            return False
        with self._lock:
            if chunk in self._claimed:
                return False
            self._claimed.add(chunk)
            return True

    def add(self, pack: bytes, records: Iterable[Record]) -> None:
        """Know the chunks of a pack that is stored."""
        held = 0
        for record in records:
            self._places[record.chunk] = Place(pack, *record[1:])
            held += record.sealed
        self.packs[pack] = held

    def by_pack(self) -> dict[bytes, list[Record]]:
        """All records by the pack that they are in."""
        found: dict[bytes, list[Record]] = {pack: [] for pack in self.packs}
        for chunk, place in self._places.items():
            found[place.pack].append(place.record(chunk))
        for records in found.values():
            records.sort(key=lambda record: record.offset)
        return found

    def without(self, gone: Iterable[bytes]) -> Index:
        """The same without the chunks of some packs."""
        dropped = set(gone)
        kept = Index()
        for chunk, place in self._places.items():
            if place.pack not in dropped:
                kept._places[chunk] = place
        kept.packs = {pack: size for pack, size in self.packs.items() if pack not in dropped}
        return kept


def new_key() -> str:
    """Where another index object goes."""
    return f"index/{secrets.token_hex(16)}"


def write(
    keys: Keys, key: str, content: Iterable[tuple[bytes, list[Record]]], supersedes: Iterable[str]
) -> bytes:
    """An index object: some packs with their records, instead of some older objects."""
    head = json.dumps({"supersedes": sorted(supersedes)}).encode() + b"\n"
    parts = [head]
    for pack, records in content:
        parts += [_PACK.pack(pack, len(records)), packs.pack_records(records)]
    return keys.seal(b"I", key, compress(b"".join(parts)))


def read(keys: Keys, key: str, sealed: bytes) -> tuple[list[tuple[bytes, list[Record]]], list[str]]:
    """What an index object says, and which older ones it stands for. Raises Damaged."""
    plain = decompress(keys.unseal(b"I", key, sealed), limit=MAX_INDEX)
    head, newline, rest = plain.partition(b"\n")
    try:
        supersedes = [str(name) for name in json.loads(head)["supersedes"]]
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"{key} has no head") from None
    if not newline:
        raise Damaged(f"{key} ends in its head")
    return list(_content(key, rest)), supersedes


def _content(key: str, data: bytes) -> Iterator[tuple[bytes, list[Record]]]:
    at = 0
    while at < len(data):
        if at + _PACK.size > len(data):
            raise Damaged(f"{key} ends in the middle of a pack")
        pack, count = _PACK.unpack_from(data, at)
        at += _PACK.size
        end = at + count * packs.RECORD_SIZE
        if end > len(data):
            raise Damaged(f"{key} ends in the middle of a pack")
        yield pack, packs.unpack_records(data[at:end])
        at = end
