"""LZ4, zstd and bitshuffle from the one shared object in the `bitshuffle` wheel, called without the GIL.

The wheel's Python package is not imported: it would want numpy and h5py. Every pointer that goes in here
has a length that was checked before.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NEEDED = (
    "LZ4_compress_fast",
    "LZ4_compressBound",
    "LZ4_decompress_safe",
    "ZSTD_compressBound",
    "ZSTD_compressCCtx",
    "ZSTD_createCCtx",
    "ZSTD_createDCtx",
    "ZSTD_decompressDCtx",
    "ZSTD_freeCCtx",
    "ZSTD_freeDCtx",
    "ZSTD_getFrameContentSize",
    "ZSTD_isError",
    "bshuf_compress_lz4",
    "bshuf_compress_lz4_bound",
    "bshuf_decompress_lz4",
    "bshuf_trans_byte_elem_SSE",
    "bshuf_trans_byte_elem_scal",
    "bshuf_using_AVX2",
)
_ZSTD_UNKNOWN = 1 << 63
"""Lengths from here on mean that the frame does not say, or is none."""


_CPU_INFO = Path("/proc/cpuinfo")
_ENOUGH_CPU_INFO = 16 << 10
"""Bytes that describe the first core; there may be hundreds."""


def load(where: list[str]) -> ctypes.CDLL:
    """The library in the package's folders.

    Raises:
        ImportError: It is not there, is another version, or is not for this processor.
    """
    for folder in where:
        for found in sorted(Path(folder).glob("ext*.so")):
            with _one_thread():
                loaded = _opened(found)
            missing = [name for name in _NEEDED if not hasattr(loaded, name)]
            if missing:
                raise ImportError(f"{found} has no {', '.join(missing)}: another version is needed")
            if loaded.bshuf_using_AVX2() and not _has_avx2():
                # The first call of anything else would end the process.
                raise ImportError(f"{found} needs a processor with AVX2, which this one has not")
            return loaded
    raise ImportError("the package bitshuffle is not installed: pip install bitshuffle")


def _opened(path: Path) -> ctypes.CDLL:
    """The library, its symbols bound as they are used.

    It is an extension module, made for one version of Python, of which we call nothing: bound at once, it
    could not be loaded into another one.

    Raises:
        ImportError: It is not for this Python, or not for this machine.
    """
    system = ctypes.CDLL(None)
    system.dlopen.restype, system.dlopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    system.dlerror.restype = ctypes.c_char_p
    handle = system.dlopen(os.fsencode(path), os.RTLD_LAZY | os.RTLD_LOCAL)
    if not handle:
        raise ImportError((system.dlerror() or b"unknown").decode("utf-8", "replace"))
    return ctypes.CDLL(str(path), handle=handle)


def folders() -> list[str]:
    """Where the package lies; none when it is not installed."""
    spec = importlib.util.find_spec("bitshuffle")
    return list(spec.submodule_search_locations or []) if spec is not None else []


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have a library that is loaded meanwhile use one thread a call: its callers are many already.

    OpenMP reads this as it is loaded; other libraries and child processes are to see what was set.
    """
    name = "OMP_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _has_avx2() -> bool:
    with _CPU_INFO.open("rb") as file:
        return b" avx2" in file.read(_ENOUGH_CPU_INFO)


library = load(folders())
_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


def _declare(name: str, result: type[ctypes._SimpleCData[int]] | type, *arguments: type) -> None:
    function = getattr(library, name)
    function.restype, function.argtypes = result, list(arguments)


_declare("LZ4_compressBound", _int, _int)
_declare("LZ4_compress_fast", _int, _pointer, _pointer, _int, _int, _int)
_declare("LZ4_decompress_safe", _int, _pointer, _pointer, _int, _int)
_declare("ZSTD_compressBound", _size, _size)
_declare("ZSTD_createCCtx", _pointer)
_declare("ZSTD_createDCtx", _pointer)
_declare("ZSTD_freeCCtx", _size, _pointer)
_declare("ZSTD_freeDCtx", _size, _pointer)
_declare("ZSTD_isError", ctypes.c_uint, _size)
_declare("ZSTD_getFrameContentSize", ctypes.c_ulonglong, _pointer, _size)
_declare("ZSTD_compressCCtx", _size, _pointer, _pointer, _size, _pointer, _size, _int)
_declare("ZSTD_decompressDCtx", _size, _pointer, _pointer, _size, _pointer, _size)
_declare("bshuf_compress_lz4_bound", _size, _size, _size, _size)
_declare("bshuf_compress_lz4", ctypes.c_int64, _pointer, _pointer, _size, _size, _size)
_declare("bshuf_decompress_lz4", ctypes.c_int64, _pointer, _pointer, _size, _size, _size)
_declare("bshuf_trans_byte_elem_SSE", ctypes.c_int64, _pointer, _pointer, _size, _size)
_declare("bshuf_trans_byte_elem_scal", ctypes.c_int64, _pointer, _pointer, _size, _size)


def address(view: memoryview | bytes | bytearray) -> int:
    """Where a buffer's bytes are. The caller keeps the buffer alive."""
    if isinstance(view, bytes):
        return ctypes.cast(ctypes.c_char_p(view), ctypes.c_void_p).value or 0
    if len(view) == 0:
        return 0
    view = memoryview(view)
    if view.readonly:
        # ctypes gives addresses of writable buffers only; this asks the buffer itself.
        buffer = _Buffer()
        _get_buffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
        try:
            return int(buffer.start)
        finally:
            _release_buffer(ctypes.byref(buffer))
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


class _Buffer(ctypes.Structure):
    """Python's `Py_buffer`."""

    _fields_ = (
        ("start", ctypes.c_void_p),
        ("object", ctypes.py_object),
        ("length", ctypes.c_ssize_t),
        ("item", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("dimensions", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_release_buffer = ctypes.pythonapi.PyBuffer_Release


class Zstd:
    """Contexts of one thread."""

    def __init__(self) -> None:
        self._compress = library.ZSTD_createCCtx()
        self._decompress = library.ZSTD_createDCtx()
        if not (self._compress and self._decompress):
            raise MemoryError

    def __del__(self) -> None:
        library.ZSTD_freeCCtx(self._compress)
        library.ZSTD_freeDCtx(self._decompress)

    def compress(self, data: memoryview, into: memoryview, *, level: int = 1) -> int:
        """One frame; returns its length. Raises ValueError when it does not fit."""
        length: int = library.ZSTD_compressCCtx(
            self._compress, address(into), len(into), address(data), len(data), level
        )
        if library.ZSTD_isError(length):
            raise ValueError("zstd: no room")
        return length

    def decompress(self, data: memoryview, into: memoryview) -> None:
        """Exactly `len(into)` bytes. Raises ValueError."""
        length = library.ZSTD_decompressDCtx(
            self._decompress, address(into), len(into), address(data), len(data)
        )
        if library.ZSTD_isError(length) or length != len(into):
            raise ValueError("zstd: damaged")


def zstd_compress(data: bytes) -> bytes:
    """A frame that knows its length."""
    into = bytearray(zstd_bound(len(data)))
    length = Zstd().compress(memoryview(data), memoryview(into))
    return bytes(into[:length])


def zstd_decompress(data: bytes, *, limit: int) -> bytes:
    """The reverse. Raises ValueError when it is no frame, or longer than `limit`."""
    length = library.ZSTD_getFrameContentSize(address(data), len(data))
    if length >= _ZSTD_UNKNOWN or length > limit:
        raise ValueError("zstd: no frame, or too long")
    into = bytearray(length)
    if length:
        Zstd().decompress(memoryview(data), memoryview(into))
    return bytes(into)


def zstd_bound(length: int) -> int:
    """Longest frame for so many bytes."""
    return int(library.ZSTD_compressBound(length))


def lz4_bound(length: int) -> int:
    """Longest block for so many bytes."""
    return int(library.LZ4_compressBound(length))


def lz4_compress(data: memoryview, into: memoryview) -> int:
    """One block; returns its length. Raises ValueError when it does not fit."""
    length: int = library.LZ4_compress_fast(address(data), address(into), len(data), len(into), 1)
    if length <= 0 < len(data):
        raise ValueError("lz4: no room")
    return length


def lz4_decompress(data: memoryview, into: memoryview) -> None:
    """Exactly `len(into)` bytes. Raises ValueError."""
    length = library.LZ4_decompress_safe(address(data), address(into), len(data), len(into))
    if length != len(into):
        raise ValueError("lz4: damaged")


def bitshuffle_lz4_compress(data: memoryview, into: memoryview, *, element: int, block: int) -> int:
    """Blocks of `block` elements; returns the length. `into` must have room for `bitshuffle_bound`."""
    count = len(data) // element
    if len(into) < bitshuffle_bound(len(data), element=element, block=block):
        raise ValueError("bitshuffle: no room")
    length: int = library.bshuf_compress_lz4(address(data), address(into), count, element, block)
    if length < 0:
        raise ValueError(f"bitshuffle: error {length}")
    return length


def bitshuffle_lz4_decompress(
    data: memoryview, into: memoryview, *, element: int, block: int
) -> None:
    """Exactly `len(into)` bytes. The caller has checked that the blocks fill `data`. Raises ValueError."""
    count = len(into) // element
    length = library.bshuf_decompress_lz4(address(data), address(into), count, element, block)
    if length != len(data):
        raise ValueError("bitshuffle: damaged")


def bitshuffle_bound(length: int, *, element: int, block: int) -> int:
    """Longest result for so many bytes."""
    return int(library.bshuf_compress_lz4_bound(length // element, element, block))


def split_bytes(data: memoryview, into: memoryview, *, element: int) -> None:
    """All first bytes of the elements, then all second bytes, ...; whole elements only."""
    count = len(data) // element
    fast = library.bshuf_trans_byte_elem_SSE
    if fast(address(data), address(into), count, element) != len(data):
        # Built for a processor without SSE2.
        library.bshuf_trans_byte_elem_scal(address(data), address(into), count, element)


def join_bytes(data: memoryview, into: memoryview, *, element: int) -> None:
    """The reverse of `split_bytes`: the same transposition of a matrix lying on its side."""
    count = len(data) // element
    library.bshuf_trans_byte_elem_scal(address(data), address(into), element, count)
