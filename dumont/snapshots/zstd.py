"""zstd for whole objects: indexes, snapshots, blocks of the local cache."""

from __future__ import annotations

from dumont.snapshots import native
from dumont.snapshots.errors import Damaged


def compress(data: bytes) -> bytes:
    """One zstd frame that knows its length."""
    return native.zstd_compress(data)


def decompress(data: bytes, *, limit: int) -> bytes:
    """The reverse.

    Raises:
        Damaged: It is no frame, or would be longer than `limit`.
    """
    try:
        return native.zstd_decompress(data, limit=limit)
    except ValueError as error:
        raise Damaged(str(error)) from None
