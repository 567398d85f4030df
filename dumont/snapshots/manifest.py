"""The object that is a snapshot: when, of what, and where its table of files is."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from dumont.snapshots import tree
from dumont.snapshots.crypto import Keys
from dumont.snapshots.errors import Damaged, NewerFormat
from dumont.snapshots.zstd import compress, decompress

VERSION = 1
PREFIX = "snapshots/"
_ID = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}")
_MAX = 1 << 30


@dataclass(frozen=True)
class Totals:
    """What a snapshot is made of. Sizes in bytes."""

    files: int = 0
    directories: int = 0
    links: int = 0
    bytes: int = 0
    """Of all files together, as `ls` shows them."""
    new_chunks: int = 0
    new_raw: int = 0
    """Bytes of files that no earlier snapshot had."""
    new_stored: int = 0
    """The same as they were sent: compressed and sealed."""
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    """Sockets, pipes and devices."""
    torn: list[str] = field(default_factory=list)
    """Files that changed each time they were read."""
    unreadable: list[str] = field(default_factory=list)
    """Files that could not be read, with the reason; they are not in the snapshot."""


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of a workspace."""

    id: str
    time: datetime
    machine: str
    host: str
    tree: tuple[bytes, ...]
    """Chunks that hold the table of files."""
    totals: Totals = Totals()
    parent: str | None = None
    tags: tuple[str, ...] = ()
    kept: bool = False
    """No retention rule deletes it."""

    @property
    def is_whole(self) -> bool:
        """Whether everything there was is in it."""
        return not self.totals.unreadable


def new_id(now: datetime) -> str:
    """An id that sorts by time."""
    return f"{now.astimezone(timezone.utc):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"


def key_of(snapshot_id: str) -> str:
    """Where a snapshot is stored."""
    return PREFIX + snapshot_id


def id_of(key: str) -> str | None:
    """The id of the snapshot stored under `key`; None when that is no snapshot's place."""
    name = key.removeprefix(PREFIX)
    return name if key.startswith(PREFIX) and _ID.fullmatch(name) else None


def write(keys: Keys, snapshot: Snapshot) -> bytes:
    """The object to store."""
    document = asdict(replace(snapshot, tree=()))
    document["version"] = VERSION
    document["time"] = snapshot.time.isoformat()
    document["tree"] = [tree.id_text(chunk) for chunk in snapshot.tree]
    return keys.seal(b"S", key_of(snapshot.id), compress(json.dumps(document).encode()))


def read(keys: Keys, key: str, sealed: bytes) -> Snapshot:
    """The reverse. Raises Damaged, NewerFormat."""
    plain = decompress(keys.unseal(b"S", key, sealed), limit=_MAX)
    try:
        document: dict[str, Any] = json.loads(plain)
        version = int(document.pop("version"))
        if version > VERSION:
            raise NewerFormat(
                f"snapshot {document.get('id')} was written by a newer version ({version})",
                hint="update dumont-snap",
            )
        known = {name: document[name] for name in Snapshot.__dataclass_fields__ if name in document}
        totals = document["totals"]
        known["totals"] = Totals(
            **{n: totals[n] for n in Totals.__dataclass_fields__ if n in totals}
        )
        known["time"] = datetime.fromisoformat(document["time"])
        known["tree"] = tuple(tree.id_bytes(text) for text in document["tree"])
        known["tags"] = tuple(document["tags"])
        return Snapshot(**known)
    except NewerFormat:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{key} cannot be read: {error}") from None
