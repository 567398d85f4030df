"""A tree as a list of entries: what is compared when somebody says that two bodies hold the same.

Names are bytes on disk. Inside JSON between two agents they are text with `surrogateescape`, in pure
ASCII, which Python turns back into the same bytes. For people and other readers, who may refuse lone
surrogates, `shown` writes bytes that are not UTF-8 as `\\xff`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

SHA256, BLAKE2B = "sha256", "blake2b"
"""The first is twice as fast where the processor has instructions for it; the other one is spoken with
agents that do not know the first."""
_BLAKE2B_DIGITS = 40
_BLOCK = 1 << 20
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def shown(name: bytes) -> str:
    """A name for people and strict JSON readers."""
    return name.decode("utf-8", "backslashreplace")


def to_text(name: bytes) -> str:
    """A name for JSON between agents."""
    return name.decode("utf-8", "surrogateescape")


def to_bytes(name: str) -> bytes:
    """The name on disk."""
    return name.encode("utf-8", "surrogateescape")


def walk(root: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """All entries below `root` with their relative names, parents first; what vanishes is left out."""
    pending = [b""]
    base = os.fsencode(str(root))
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(os.path.join(base, folder)) as entries:
                found = list(entries)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        for entry in found:
            name = os.path.join(folder, entry.name)
            try:
                state = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield name, state
            if stat.S_ISDIR(state.st_mode):
                pending.append(name)


def describe(root: Path, name: bytes, *, hashed: bool, algorithm: str = BLAKE2B) -> dict[str, Any]:
    """One entry. `kind` is `absent` when there is none; `hash` is null when it cannot be read."""
    path = os.path.join(os.fsencode(str(root)), name)
    try:
        state = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"path": to_text(name), "kind": "absent"}
    entry: dict[str, Any] = {
        "path": to_text(name),
        "kind": _KINDS.get(stat.S_IFMT(state.st_mode), "other"),
        "mode": stat.S_IMODE(state.st_mode),
        "uid": state.st_uid,
        "gid": state.st_gid,
        "mtime_ns": state.st_mtime_ns,
    }
    if entry["kind"] == "file":
        entry["size"] = state.st_size
        if hashed:
            entry["hash"] = hash_file(path, algorithm)
    elif entry["kind"] == "link":
        with contextlib.suppress(OSError):
            entry["target"] = to_text(os.readlink(path))
    return entry


def describe_all(root: Path, names: list[bytes], *, algorithm: str) -> list[dict[str, Any]]:
    """Many entries, hashed by all cores: hashing leaves the interpreter's lock alone."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(
            pool.map(lambda name: describe(root, name, hashed=True, algorithm=algorithm), names)
        )


def algorithm_of(found: str | None) -> str:
    """What a hash was made with: an older agent at the other end knows only the older one."""
    return BLAKE2B if found is not None and len(found) == _BLAKE2B_DIGITS else SHA256


def hash_file(path: bytes, algorithm: str = BLAKE2B) -> str | None:
    """The hash of the content, or None when it cannot be read."""
    digest = hashlib.sha256() if algorithm == SHA256 else hashlib.blake2b(digest_size=20)
    try:
        with open(path, "rb", buffering=0) as file:
            block = bytearray(_BLOCK)
            view = memoryview(block)
            while True:
                count = file.readinto(block)
                if not count:
                    return digest.hexdigest()
                digest.update(view[:count])
    except OSError:
        return None


def write(root: Path, out: BinaryIO, *, hashed: bool) -> int:
    """Print the whole tree, a line of JSON an entry, sorted by name; returns an exit status."""
    names = sorted(name for name, _ in walk(root))
    for name in names:
        entry = describe(root, name, hashed=hashed)
        if entry["kind"] != "absent":
            out.write(json.dumps(entry).encode() + b"\n")
    out.flush()
    return 0
