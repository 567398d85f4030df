"""The workspace of the snapshot benchmark: what lies on a GPU machine, and a day's work on it.

Everything follows from a seed. Weights have real layer shapes and the noise of real weights, which hardly
compresses; nothing here is easier than what it stands for.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

_LAYERS = 24
_VOCABULARY = 32_000
_SHARES = {"bf16": 0.27, "fp32": 0.04, "adam": 0.08, "tokens": 0.10, "images": 0.08, "venv": 0.20}
"""Parts of the whole; there are four arrays of Adam's."""
_IMAGES = 2_000
_NEW_IMAGES = 100
_EDITED = 400
_REWRITTEN_LAYERS = (3, 11, 19)
_ADAM_SHARE = 0.02
_INSERTED = 1024
_LARGEST_PACKAGE = 64 << 20
_AGE_S = 3.0
_PIECE = 4 << 20
_READ = 1 << 20

Digests = dict[str, str]


@dataclass(frozen=True)
class Facts:
    """What the workspace and its change are. Bytes."""

    bytes: int
    files: int
    """Links included."""
    rewritten: int
    """Bytes that are new after the change; those that only moved are not counted."""
    touched: int
    """Bytes of the files that changed, or are new."""


class Workspace:
    """A folder that can be changed and changed back as often as it takes.

    Args:
        folder: Where it is; `before` and `after` beside it hold what is not in place now.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = folder.with_name("before")
        self._after = folder.with_name("after")

    def make(self, *, gigabytes: float, seed: int, sources: Path) -> Facts:
        """Generate it and its change.

        Args:
            gigabytes: About how large.
            seed: Decides every byte.
            sources: A tree of sources to copy.
        """
        dice = np.random.default_rng(seed)
        total = gigabytes * 1e9
        size = {name: int(share * total) for name, share in _SHARES.items()}
        self.folder.mkdir(parents=True)
        _model(self.folder / "model-bf16.safetensors", size["bf16"], "BF16", dice)
        _model(self.folder / "encoder-fp32.safetensors", size["fp32"], "F32", dice)
        _adam(self.folder / "optimizer", size["adam"], dice)
        with (self.folder / "tokens.bin").open("wb") as file:
            for count in _pieces(size["tokens"] // 2):
                file.write(_tokens(count, dice))
        for number in range(_IMAGES):
            _image(self._image(number), size["images"] // _IMAGES, dice)
        _venv(self.folder / "venv", size["venv"])
        shutil.copytree(sources, self.folder / "src", symlinks=True, ignore=_junk)
        rewritten = self._prepare_change(size, dice)
        return Facts(
            bytes=_size(self.folder),
            files=sum(1 for _ in _files(self.folder)),
            rewritten=rewritten,
            touched=_size(self._after),
        )

    def change(self) -> None:
        """Three layers trained, part of an optimizer's array, text put before the tokens, new images, edits."""
        for path in self._changed():
            here = self.folder / path
            if here.exists():
                _move(here, self._before / path)
            _move(self._after / path, here)
            # Written just now: an installer would keep old times, somebody who works does not.
            os.utime(here)

    def undo(self) -> None:
        """As it was before `change`."""
        for path in self._changed():
            _move(self.folder / path, self._after / path)
            if (self._before / path).exists():
                _move(self._before / path, self.folder / path)

    def _changed(self) -> list[str]:
        found: list[str] = json.loads(self.folder.with_name("changed.json").read_text())
        return found

    def _image(self, number: int) -> Path:
        return self.folder / "images" / f"{number % 20:02d}" / f"{number:05d}.jpg"

    def _prepare_change(self, size: dict[str, int], dice: np.random.Generator) -> int:
        rewritten = 0
        model = self._copy("model-bf16.safetensors")
        with model.open("r+b") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            start = file.tell()
            for name, entry in header.items():
                if any(name.startswith(f"layers.{layer}.") for layer in _REWRITTEN_LAYERS):
                    first, last = entry["data_offsets"]
                    file.seek(start + first)
                    file.write(_numbers((last - first) // 2, "BF16", dice))
                    rewritten += last - first
        array = self._copy("optimizer/exp_avg.npy")
        count = int(_ADAM_SHARE * sum(size.values())) // 4
        count = min(count, array.stat().st_size // 8)
        with array.open("r+b") as file:
            file.seek(array.stat().st_size // 4 // 4 * 4)
            file.write(_numbers(count, "F32", dice))
        text = (self.folder / "tokens.bin").read_bytes()
        tokens = self._after / "tokens.bin"
        tokens.write_bytes(_tokens(_INSERTED // 2, dice) + text)
        for number in range(_IMAGES, _IMAGES + _NEW_IMAGES):
            path = self._after / self._image(number).relative_to(self.folder)
            rewritten += _image(path, size["images"] // _IMAGES, dice)
        edits = 0
        every = [p for p in _files(self.folder) if p.endswith(".py")]
        for index in dice.choice(len(every), size=min(_EDITED, len(every)), replace=False):
            path = self._copy(every[index])
            lines = path.read_bytes().splitlines(keepends=True)
            lines.insert(len(lines) // 2, b"# edited: %d\n" % index)
            path.write_bytes(b"".join(lines))
            edits += path.stat().st_size
        changed = list(_files(self._after))
        self.folder.with_name("changed.json").write_text(json.dumps(changed))
        return rewritten + 4 * count + _INSERTED + edits

    def _copy(self, path: str) -> Path:
        target = self._after / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder / path, target)
        return target


def settle() -> None:
    """Wait until what was changed is some seconds old, and on the disk.

    A file written within the last two seconds may change again within the clock's resolution, which ours
    takes into account by reading it a second time; people's files are older.
    """
    os.sync()
    time.sleep(_AGE_S)


def digests(folder: Path) -> Digests:
    """What every file and link below a folder is."""
    found = {}
    for path in _files(folder):
        full = folder / path
        if full.is_symlink():
            found[path] = f"-> {os.readlink(full)}"
        else:
            found[path] = _digest(full)
    return found


def _digest(path: Path) -> str:
    """Not mapped: a program that is started counts the memory of whoever starts it as its own peak."""
    hasher = blake3()
    with path.open("rb") as file:
        while data := file.read(_READ):
            hasher.update(data)
    return hasher.hexdigest()


def _files(folder: Path) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        for name in sorted(names + links):
            yield os.path.relpath(os.path.join(root, name), folder)


def _size(folder: Path) -> int:
    found = (folder / path for path in _files(folder))
    return sum(path.stat().st_size for path in found if not path.is_symlink())


def _move(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    path.rename(to)


def _junk(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("__pycache__", "node_modules") or name[0] == "."}


# The contents ---------------------------------------------------------------------------------


def _numbers(count: int, kind: str, dice: np.random.Generator, scale: float = 0.02) -> bytes:
    values = dice.standard_normal(count, dtype=np.float32) * np.float32(scale)
    if kind == "F32":
        return values.tobytes()
    bits: NDArray[np.uint32] = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype(np.uint16).tobytes()


def _model(path: Path, size: int, kind: str, dice: np.random.Generator) -> None:
    """A decoder's weights as safetensors, as wide as `size` allows."""
    width = 2 if kind == "BF16" else 4
    shapes = _shapes(_hidden(size // width))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        length = math.prod(shape) * width
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            scale = 0.02 if len(shape) == 2 else 0.1
            file.write(_numbers(math.prod(shape), kind, dice, scale))


def _hidden(parameters: int) -> int:
    hidden = 64
    while sum(math.prod(shape) for shape in _shapes(hidden + 64).values()) <= parameters:
        hidden += 64
    return hidden


def _shapes(hidden: int) -> dict[str, list[int]]:
    wide, narrow = hidden * 8 // 3 // 64 * 64, hidden // 4
    shapes = {"embed_tokens.weight": [_VOCABULARY, hidden]}
    for layer in range(_LAYERS):
        shapes |= {
            f"layers.{layer}.self_attn.q_proj.weight": [hidden, hidden],
            f"layers.{layer}.self_attn.k_proj.weight": [narrow, hidden],
            f"layers.{layer}.self_attn.v_proj.weight": [narrow, hidden],
            f"layers.{layer}.self_attn.o_proj.weight": [hidden, hidden],
            f"layers.{layer}.mlp.gate_proj.weight": [wide, hidden],
            f"layers.{layer}.mlp.up_proj.weight": [wide, hidden],
            f"layers.{layer}.mlp.down_proj.weight": [hidden, wide],
            f"layers.{layer}.input_layernorm.weight": [hidden],
            f"layers.{layer}.post_attention_layernorm.weight": [hidden],
        }
    return {**shapes, "norm.weight": [hidden]}


def _adam(folder: Path, size: int, dice: np.random.Generator) -> None:
    """Both moments, of which 15 % of the rows never got a gradient, the weights, and a copy of those."""
    folder.mkdir()
    columns = 1024
    rows = max(8, size // (4 * columns))
    dead = dice.random(rows) < 0.15
    for name, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
        values = dice.standard_normal((rows, columns), dtype=np.float32) * np.float32(1e-3)
        values **= power
        values[dead] = 0
        np.save(folder / f"{name}.npy", values)
    weights = dice.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
    np.save(folder / "master.npy", weights)
    shutil.copyfile(folder / "master.npy", folder / "master-last-epoch.npy")


def _pieces(count: int) -> Iterator[int]:
    while count > 0:
        yield min(count, _PIECE)
        count -= _PIECE


def _tokens(count: int, dice: np.random.Generator) -> bytes:
    """Ids of words, the n-th most frequent one with a frequency of 1/n; frequent ones have any id."""
    ids = np.random.default_rng(0).permutation(_VOCABULARY).astype(np.uint16)
    ranks = np.exp(dice.random(count, dtype=np.float32) * np.float32(math.log(_VOCABULARY)))
    text: NDArray[np.uint16] = ids[ranks.astype(np.int32) - 1]
    return text.tobytes()


def _image(path: Path, size: int, dice: np.random.Generator) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    start = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")
    path.write_bytes(start + dice.bytes(max(4096, size)) + b"\xff\xd9")
    return path.stat().st_size


def _venv(folder: Path, budget: int) -> None:
    """This interpreter's packages in alphabetical order, while there is room; no giants."""
    source = Path(sysconfig.get_path("purelib"))
    for package in sorted(source.iterdir()):
        files = [package] if package.is_file() else [p for p in package.rglob("*") if p.is_file()]
        size = sum(path.stat().st_size for path in files)
        if size > min(budget, _LARGEST_PACKAGE):
            continue
        budget -= size
        target = folder / "lib" / "site-packages" / package.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if package.is_dir():
            shutil.copytree(package, target, symlinks=True)
        else:
            shutil.copyfile(package, target)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to("/usr/bin/python3")
    (folder / "lib64").symlink_to("lib")
