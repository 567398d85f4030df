"""The snapshot engine as two archives that a machine's own Python runs: our sources, and the libraries.

The sources are small and change with each version of ours; the libraries are compiled, a hundred times as
large, and change seldom. A machine whose Python is of another kind than ours gets most of them from the
package index instead.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import platform
import sysconfig
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Final

import dumont

LIBRARIES: Final = {
    "bitshuffle": "==0.5.2",
    "blake3": ">=1.0.4,<2",
    "cffi": ">=1.17,<3",
    "cryptography": ">=44",
    "pyfastcdc": "==0.3.1",
    "typing-extensions": ">=4.12,<5",
}
"""Distributions that the engine imports, with what those import, and the versions that do. Where files are cut
hangs on `pyfastcdc`, so that another one would find less in common."""

_LEFT_OUT: Final = ("bitshuffle/h5", "bitshuffle/plugin/", "bitshuffle.libs/libhdf5")
"""Parts of them for HDF5, which would triple the archive."""
_EMPTIED: Final = ("bitshuffle/__init__.py",)
"""It imports numpy and h5py; the engine takes the shared object alone."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """An archive, and the name of the folder that it becomes on a machine."""

    content: bytes
    """A compressed tar archive."""
    name: str


def python_kind() -> str:
    """Which Pythons can load our compiled libraries, as a machine's Python says it of itself."""
    libc, _ = platform.libc_ver()
    return f"{sysconfig.get_config_var('SOABI')} {libc or 'other'}"


def shares_codecs(kind: str) -> bool:
    """Whether a Python of another kind can load our codecs all the same.

    They are called without Python's help; what they are linked to has been there since 3.11
    (`dumont.snapshots.native`). For Pythons newer than 3.12 the package index has none.
    """
    ours, theirs = python_kind().split("-", 2), kind.split("-", 2)
    if len(theirs) != 3 or theirs[0] != "cpython" or not theirs[1].isdigit():
        return False
    return theirs[2] == ours[2] and int(theirs[1]) >= 311


def wanted(kind: str) -> list[str]:
    """What a Python of another kind needs from the package index."""
    left_out = ("bitshuffle",) if shares_codecs(kind) else ()
    return [f"{name}{versions}" for name, versions in LIBRARIES.items() if name not in left_out]


@functools.cache
def sources() -> Folder:
    """Our own part."""
    # Found by its place, not by import: nothing here may depend on the engine's code.
    root = Path(dumont.__file__).resolve().parent
    files = {"dumont/__init__.py": b""}
    for package in ("snapshots", "storage"):
        for path in (root / package).glob("*.py"):
            files[f"dumont/{package}/{path.name}"] = path.read_bytes()
    return _folder("engine", files)


@functools.cache
def libraries() -> Folder:
    """The compiled libraries that are installed here."""
    return _folder("libs", dict(_installed()))


def _installed() -> Iterator[tuple[str, bytes]]:
    for name in LIBRARIES:
        for file in metadata.files(name) or ():
            path = PurePosixPath(file)
            if ".." in path.parts or not (path.suffix == ".py" or ".so" in path.suffixes):
                continue
            if "tests" in path.parts or str(path).startswith(_LEFT_OUT):
                continue
            content = b"" if str(path) in _EMPTIED else Path(str(file.locate())).read_bytes()
            yield str(path), content


def _folder(kind: str, files: dict[str, bytes]) -> Folder:
    """The same files always make the same archive, so that its hash tells whether a machine has it."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if ".so" in name else 0o644
            archive.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha256(plain.getvalue()).hexdigest()[:16]
    content = gzip.compress(plain.getvalue(), compresslevel=6, mtime=0)
    return Folder(content=content, name=f"{kind}-{digest}")
