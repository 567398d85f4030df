"""Workspaces with everything that is awkward to keep, and their comparison down to the last bit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import stat
import struct
from pathlib import Path

ODD = b"not utf-8 \xff\xfe and a\nnewline"


def make(root: Path, *, seed: int = 0, small: int = 60, megabytes: int = 12) -> None:
    """Fill a folder: weights, tokens, many small files, links, holes, odd names, attributes."""
    rng = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    tensors(root / "model.safetensors", rng, megabytes=max(1, megabytes // 2))
    (root / "tokens.bin").write_bytes(_tokens(rng, megabytes << 19))
    (root / "noise.jpg").write_bytes(rng.randbytes(700_000))
    for number in range(small):
        folder = root / f"src/package{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        text = f"def f{number}():\n    return {number}\n" * (1 + number % 40)
        (folder / f"module{number}.py").write_text(text)
    (root / "empty").write_bytes(b"")
    (root / "empty folder/inside").mkdir(parents=True)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o750)
    os.symlink("src/package1", root / "link to a folder")
    os.symlink("/nowhere/at all", root / "link to nothing")
    os.link(root / "run.sh", root / "src/same as run.sh")
    with (root / "holes").open("wb") as file:
        file.seek(3 << 20)
        file.write(rng.randbytes(10_000))
        file.truncate(9 << 20)
    Path(os.fsdecode(os.fsencode(str(root)) + b"/" + ODD)).write_bytes(b"odd")
    with contextlib.suppress(OSError):  # a file system without attributes
        os.setxattr(root / "run.sh", "user.note", b"kept \x00 too")
    os.utime(root / "tokens.bin", ns=(1, 1_234_567_890_123_456_789))


def tensors(path: Path, rng: random.Random, *, megabytes: int) -> None:
    """A safetensors file of two tensors with float-like bytes."""
    half = (megabytes << 20) // 2
    values = bytearray()
    while len(values) < 2 * half:
        values += struct.pack("<1024f", *(rng.gauss(0, 0.02) for _ in range(1024)))
    header = {
        "a": {"dtype": "F32", "shape": [half // 4], "data_offsets": [0, half]},
        "b": {"dtype": "F32", "shape": [half // 4], "data_offsets": [half, 2 * half]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(values[: 2 * half]))


def listing(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything below a folder: kind, mode, owner, time, and the hash of its content.

    Two workspaces are the same when their listings are.
    """
    found: dict[bytes, tuple[object, ...]] = {}
    top = os.fsencode(str(root))
    inodes: dict[int, bytes] = {}
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted(folders + files):
            full = folder + b"/" + name
            path = full[len(top) + 1 :]
            state = os.lstat(full)
            what: tuple[object, ...] = (
                stat.S_IFMT(state.st_mode),
                stat.S_IMODE(state.st_mode),
                state.st_uid,
                state.st_gid,
                state.st_mtime_ns,
            )
            if stat.S_ISREG(state.st_mode):
                first = inodes.setdefault(state.st_ino, path)
                digest = hashlib.sha256(Path(os.fsdecode(full)).read_bytes()).hexdigest()
                what += (state.st_size, digest, first, _attributes(full))
            elif stat.S_ISLNK(state.st_mode):
                what = (what[0], *what[2:], os.readlink(full))
            found[path] = what
    return found


def _attributes(full: bytes) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(full, name) for name in os.listxattr(full)}
    except OSError:
        return {}


def _tokens(rng: random.Random, length: int) -> bytes:
    return b"".join(
        struct.pack("<512H", *(int(rng.paretovariate(1.2)) % 50_000 for _ in range(512)))
        for _ in range(length // 1024)
    )
