"""Packs: many sealed chunks in one object, with a sealed list of what is in it at the end."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dumont.snapshots.crypto import NONCE, TAG, Keys
from dumont.snapshots.errors import Damaged

START = b"DMTPACK1"
END = b"DMTPEND1"
PACK_ID = 16
TARGET = 32 << 20
"""A pack is closed when it is at least this long."""
CAPACITY = TARGET + (5 << 20)
"""Room for one more chunk of any kind, and the footer."""
_RECORD = struct.Struct(">32sIIIBB")
_SEALED_WITH = struct.Struct(">32sIIBB")
_LENGTH = struct.Struct(">I")
_TRAILER = _LENGTH.size + len(END)
_FOOTER_NONCE = 0
"""No chunk lies at offset 0: there is the magic."""
_MAX_FOOTER = 64 << 20


class Record(NamedTuple):
    """Where a chunk is within its pack, and how it is encoded."""

    chunk: bytes
    offset: int
    sealed: int
    """Length in the pack, tag included."""
    raw: int
    codec: int
    element: int


class PackWriter:
    """A pack in the making, in a buffer that is used again and again.

    Args:
        keys: Of the repository.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._buffer = bytearray(CAPACITY)
        self._view = memoryview(self._buffer)
        self.records: list[Record] = []
        self.pack_id = b""
        self._cipher: AESGCM
        self._length = 0
        self.begin()

    def begin(self) -> None:
        """Start another pack in the same buffer."""
        self.pack_id = os.urandom(PACK_ID)
        self._cipher = self._keys.pack_cipher(self.pack_id)
        self.records = []
        self._view[: len(START)] = START
        self._length = len(START)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added yet."""
        return not self.records

    @property
    def is_full(self) -> bool:
        """Whether it should be closed."""
        return self._length >= TARGET

    def add(self, chunk: bytes, encoded: memoryview, *, raw: int, codec: int, element: int) -> None:
        """Seal one encoded chunk into the pack."""
        sealed = len(encoded) + TAG
        record = Record(chunk, self._length, sealed, raw, codec, element)
        self._cipher.encrypt_into(
            _nonce(record.offset),
            encoded,
            _bound_to(record),
            self._view[self._length : self._length + sealed],
        )
        self.records.append(record)
        self._length += sealed

    def close(self) -> memoryview:
        """The finished pack: valid until `begin`."""
        footer = b"".join(_RECORD.pack(*record) for record in self.records)
        sealed = self._cipher.encrypt(_nonce(_FOOTER_NONCE), footer, self.pack_id)
        tail = sealed + _LENGTH.pack(len(sealed)) + END
        end = self._length + len(tail)
        if end > len(self._buffer):
            # Thousands of tiny chunks: their list is longer than the room that was kept for it.
            grown = bytearray(self._view[: self._length]) + tail
            return memoryview(grown)
        self._view[self._length : end] = tail
        return self._view[:end]


def key_of(pack_id: bytes) -> str:
    """Where a pack is stored."""
    name = pack_id.hex()
    return f"packs/{name[:2]}/{name}"


def id_of(key: str) -> bytes | None:
    """The id of the pack stored under `key`; None when that is no pack's place."""
    parts = key.split("/")
    if len(parts) != 3 or parts[0] != "packs" or parts[2][:2] != parts[1]:
        return None
    try:
        found = bytes.fromhex(parts[2])
    except ValueError:
        return None
    return found if len(found) == PACK_ID else None


def unseal(cipher: AESGCM, record: Record, sealed: memoryview, into: memoryview) -> memoryview:
    """Open one chunk's encoded bytes into a buffer. Raises Damaged."""
    length = record.sealed - TAG
    try:
        cipher.decrypt_into(_nonce(record.offset), sealed, _bound_to(record), into[:length])
    except (InvalidTag, ValueError):
        raise Damaged("a chunk is damaged") from None
    return into[:length]


def footer_span(size: int, trailer: bytes) -> tuple[int, int]:
    """Where the sealed footer lies, from a pack's size and its last 12 bytes. Raises Damaged."""
    if len(trailer) != _TRAILER or trailer[_LENGTH.size :] != END:
        raise Damaged("a pack does not end as a pack does")
    (length,) = _LENGTH.unpack(trailer[: _LENGTH.size])
    start = size - _TRAILER - length
    if start < len(START) or length > _MAX_FOOTER:
        raise Damaged("a pack's footer cannot be that long")
    return start, length


TRAILER = _TRAILER
"""How many bytes at its end tell where a pack's footer is."""


def read_footer(keys: Keys, pack_id: bytes, sealed: bytes) -> list[Record]:
    """The records of a pack, in the order of its chunks. Raises Damaged."""
    cipher = keys.pack_cipher(pack_id)
    try:
        plain = cipher.decrypt(_nonce(_FOOTER_NONCE), sealed, pack_id)
    except InvalidTag:
        raise Damaged(f"the footer of pack {pack_id.hex()} is damaged") from None
    return unpack_records(plain)


def pack_records(records: list[Record]) -> bytes:
    """Records as they stand in footers and indexes."""
    return b"".join(_RECORD.pack(*record) for record in records)


def unpack_records(data: bytes) -> list[Record]:
    """The reverse. Raises Damaged."""
    if len(data) % _RECORD.size:
        raise Damaged("a list of chunks ends in the middle of one")
    return [Record(*values) for values in _RECORD.iter_unpack(data)]


RECORD_SIZE = _RECORD.size


def _bound_to(record: Record) -> bytes:
    return _SEALED_WITH.pack(record.chunk, record.sealed, record.raw, record.codec, record.element)


def _nonce(offset: int) -> bytes:
    return offset.to_bytes(NONCE, "big")
