"""A repository: opening one, and everything that is read or written as a whole object."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from dumont.snapshots import crypto, index, manifest, packs, tree
from dumont.snapshots.codecs import Coder
from dumont.snapshots.crypto import Keys
from dumont.snapshots.errors import (
    Damaged,
    NewerFormat,
    NoRepository,
    NoSuchSnapshot,
    RepositoryExists,
    WrongKey,
)
from dumont.snapshots.index import Index
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.packs import Record
from dumont.snapshots.tree import Entry
from dumont.storage.errors import AlreadyThere, Missing, Short
from dumont.storage.store import Store

FORMAT = "dumont-snapshots"
VERSION = 1
CHUNKER = {"fixed": 4 << 20, "cdc": [256 << 10, 1 << 20, 4 << 20], "small": 256 << 10,
           "bundle": 4 << 20}  # fmt: skip
LATEST = "latest"
_READERS = 8
_TRIES = 5


class Repository:
    """A repository that is open.

    Args:
        store: Where it lies.
        keys: What its master key gives.
        repository_id: Its id.
        cache: A folder for what never changes in the store; None reads it each time.
    """

    def __init__(
        self, store: Store, keys: Keys, repository_id: str, *, cache: Path | None = None
    ) -> None:
        self.store = store
        self.keys = keys
        self.id = repository_id
        self.cache = cache / repository_id if cache is not None else None
        self._local = threading.local()

    @classmethod
    def create(
        cls, store: Store, secret: bytes, *, passphrase: bool = False, cache: Path | None = None
    ) -> Repository:
        """Make a new one. Raises RepositoryExists."""
        repository_id = secrets.token_hex(16)
        head = {
            "format": FORMAT, "version": VERSION, "repository": repository_id, "needs": [],
            "chunker": CHUNKER,
        }  # fmt: skip
        master = crypto.new_master()
        # The key first: a repository without a key would be in the way of the next try.
        key = f"keys/{secrets.token_hex(8)}.json"
        wrapped = crypto.wrap(master, secret, repository=repository_id, passphrase=passphrase)
        try:
            if store.size("format.json") is not None:
                raise AlreadyThere("format.json")
            store.put(key, json.dumps(wrapped).encode(), new=True)
            store.put("format.json", json.dumps(head, indent=1).encode(), new=True)
        except AlreadyThere:
            raise RepositoryExists("there is a repository already") from None
        return cls(store, Keys(master), repository_id, cache=cache)

    @classmethod
    def open(cls, store: Store, secret: bytes, *, cache: Path | None = None) -> Repository:
        """Open one. Raises NoRepository, NewerFormat, WrongKey, Damaged."""
        head = _head(store)
        repository_id = str(head["repository"])
        problem: WrongKey | Damaged = WrongKey(
            "the repository has no key", hint="restore keys/* from another copy of it"
        )
        for found in list(store.list("keys/")):
            try:
                document = json.loads(store.get(found.key))
                master = crypto.unwrap(document, secret, repository=repository_id)
            except (WrongKey, Damaged) as error:
                problem = error
            except ValueError:
                problem = Damaged(f"{found.key} is damaged")
            else:
                return cls(store, Keys(master), repository_id, cache=cache)
        raise problem

    # Snapshots --------------------------------------------------------------------------------

    def snapshots(self) -> tuple[list[Snapshot], list[Damaged]]:
        """All snapshots, oldest first, and what is wrong with those that cannot be read."""
        found: list[Snapshot] = []
        wrong: list[Damaged] = []
        keys = [listed.key for listed in self.store.list(manifest.PREFIX)]
        with ThreadPoolExecutor(_READERS) as readers:
            for answer in readers.map(self._read_snapshot, keys):
                if isinstance(answer, Damaged):
                    wrong.append(answer)
                elif answer is not None:
                    found.append(answer)
        return sorted(found, key=lambda snapshot: snapshot.id), wrong

    def snapshot(self, name: str) -> Snapshot:
        """One by its id, the beginning of it, or `latest`. Raises NoSuchSnapshot, Damaged."""
        ids = [manifest.id_of(listed.key) for listed in self.store.list(manifest.PREFIX)]
        meant = sorted(i for i in ids if i and (name == LATEST or i.startswith(name)))
        if name == LATEST:
            meant = meant[-1:]
        exact = [i for i in meant if i == name] or meant
        if not exact:
            raise NoSuchSnapshot(f"there is no snapshot {name}", hint="dumont-snap list")
        if len(exact) > 1:
            raise NoSuchSnapshot(f"{name} could be {', '.join(exact[:5])}", hint="say more of it")
        answer = self._read_snapshot(manifest.key_of(exact[0]))
        if answer is None:
            raise NoSuchSnapshot(f"snapshot {exact[0]} was deleted just now")
        if isinstance(answer, Damaged):
            raise answer
        return answer

    def commit(self, snapshot: Snapshot) -> None:
        """Write a snapshot. From then on it exists."""
        self.store.put(manifest.key_of(snapshot.id), manifest.write(self.keys, snapshot))

    def keep(self, snapshot_id: str, *, kept: bool) -> Snapshot:
        """Let no rule delete a snapshot, or let rules decide again. Raises NoSuchSnapshot, Damaged."""
        changed = replace(self.snapshot(snapshot_id), kept=kept)
        self.commit(changed)
        return changed

    def forget(self, snapshot_id: str) -> None:
        """Delete a snapshot; `prune` frees its space."""
        self.store.delete(manifest.key_of(snapshot_id))

    def entries(
        self,
        snapshot: Snapshot,
        known: Index,
        *,
        on_damage: Callable[[str], None] | None = None,
        skip: Container[bytes] = (),
    ) -> Iterator[Entry]:
        """Its table of files, in order.

        Args:
            snapshot: Whose.
            known: Where chunks are.
            on_damage: Told of what of the table is lost, which is left out then.
            skip: Chunks of the table that are not of interest.

        Raises:
            Damaged: Not with `on_damage`.
        """

        def lines() -> Iterator[bytes | None]:
            for chunk in snapshot.tree:
                if chunk in skip:
                    continue
                try:
                    yield from self.chunk(chunk, known).splitlines(keepends=True)
                except Damaged as error:
                    if on_damage is None:
                        raise
                    on_damage(f"a part of the table of files is lost: {error.message}")
                    yield None

        return tree.from_lines(lines(), on_damage=on_damage)

    # Chunks -----------------------------------------------------------------------------------

    def chunk(self, chunk: bytes, known: Index) -> bytes:
        """One chunk, verified. Raises Damaged when it is not what it was, or nowhere."""
        place = known.get(chunk)
        if place is None:
            raise Damaged(f"chunk {chunk.hex()[:16]} is nowhere", hint="dumont-snap repair index")
        sealed = bytearray(place.sealed)
        try:
            self.store.read_into(packs.key_of(place.pack), place.offset, memoryview(sealed))
        except Missing:
            raise Damaged(f"pack {place.pack.hex()} is missing") from None
        except Short:
            raise Damaged(f"pack {place.pack.hex()} is cut off") from None
        raw = bytearray(place.raw)
        self.open_chunk(
            self.keys.pack_cipher(place.pack), place.record(chunk), memoryview(sealed),
            memoryview(raw),
        )  # fmt: skip
        return bytes(raw)

    def open_chunk(self, cipher: Any, record: Record, sealed: memoryview, into: memoryview) -> None:
        """Decrypt, decode and verify one chunk. Raises Damaged."""
        coder = self._coder()
        scratch = self._scratch(record.sealed)
        encoded = packs.unseal(cipher, record, sealed, scratch)
        coder.decode(encoded, codec=record.codec, element=record.element, into=into)
        if self.keys.chunk_id(into) != record.chunk:
            raise Damaged("a chunk is not what it was")

    def _coder(self) -> Coder:
        coder: Coder | None = getattr(self._local, "coder", None)
        if coder is None:
            coder = self._local.coder = Coder()
        return coder

    def _scratch(self, length: int) -> memoryview:
        scratch: bytearray | None = getattr(self._local, "scratch", None)
        if scratch is None or len(scratch) < length:
            scratch = self._local.scratch = bytearray(max(length, 5 << 20))
        return memoryview(scratch)

    # Index ------------------------------------------------------------------------------------

    def index(self, *, lasting: bool = False) -> Index:
        """What is stored. Of two copies of a chunk the one that stays counts.

        Read snapshots before it: then it knows every chunk of each.

        Args:
            lasting: Without what a prune means to delete: for a new snapshot, which must not count on it.

        Raises:
            Damaged: An index object is.
        """
        # Before the index: see the format document, "Deleting".
        condemned = {pack for _, doomed in self.condemned() for pack in doomed}
        content = [each for found in self.index_objects().values() for each in found]
        known = Index()
        for pack, records in sorted(content, key=lambda each: each[0] not in condemned):
            if not (lasting and pack in condemned):
                known.add(pack, records)
        return known

    def index_objects(self) -> dict[str, list[tuple[bytes, list[Record]]]]:
        """The index objects that count, by key. Raises Damaged."""
        for _ in range(_TRIES):
            keys = [listed.key for listed in self.store.list("index/")]
            try:
                with ThreadPoolExecutor(_READERS) as readers:
                    found = dict(zip(keys, readers.map(self._read_index, keys), strict=True))
            except Missing:
                continue  # a prune replaced one between list and read
            old = {name for _, supersedes in found.values() for name in supersedes}
            return {key: content for key, (content, _) in found.items() if key not in old}
        raise Damaged("the index changes faster than it can be read")

    def write_index(
        self, content: Iterable[tuple[bytes, list[Record]]], *, supersedes: Iterable[str] = ()
    ) -> str:
        """Add an index object; returns its key. What it supersedes is deleted."""
        old = list(supersedes)
        key = index.new_key()
        self.store.put(key, index.write(self.keys, key, content, old))
        for name in old:
            self.store.delete(name)
        return key

    def _read_index(self, key: str) -> tuple[list[tuple[bytes, list[Record]]], list[str]]:
        cached = self.cache / key if self.cache is not None else None
        if cached is not None and cached.is_file():
            try:
                return index.read(self.keys, key, cached.read_bytes())
            except Damaged:
                cached.unlink(missing_ok=True)
        sealed = self.store.get(key)
        found = index.read(self.keys, key, sealed)
        if cached is not None:
            cached.parent.mkdir(parents=True, exist_ok=True)
            partial = cached.with_suffix(f".{secrets.token_hex(4)}")
            partial.write_bytes(sealed)
            partial.replace(cached)
        return found

    # What a prune means to delete -------------------------------------------------------------

    def condemned(self) -> list[tuple[str, list[bytes]]]:
        """Lists of packs that a prune means to delete, by key. Raises Damaged."""
        found = []
        for listed in list(self.store.list("condemned/")):
            try:
                sealed = self.store.get(listed.key)
            except Missing:
                continue
            plain = self.keys.unseal(b"C", listed.key, sealed)
            if len(plain) % packs.PACK_ID:
                raise Damaged(f"{listed.key} is damaged")
            ids = [plain[at : at + packs.PACK_ID] for at in range(0, len(plain), packs.PACK_ID)]
            found.append((listed.key, ids))
        return found

    def condemn(self, doomed: Iterable[bytes]) -> str:
        """Write such a list; returns its key."""
        key = f"condemned/{secrets.token_hex(16)}"
        self.store.put(key, self.keys.seal(b"C", key, b"".join(doomed)))
        return key

    def footer(self, pack: bytes) -> list[Record]:
        """The records of a pack, from the pack itself. Raises Damaged, Missing."""
        key = packs.key_of(pack)
        size = self.store.size(key)
        if size is None:
            raise Missing(f"{key} is missing")
        if size < packs.TRAILER:
            raise Damaged(f"{key} is cut off")
        trailer = bytearray(packs.TRAILER)
        self.store.read_into(key, size - len(trailer), memoryview(trailer))
        start, length = packs.footer_span(size, bytes(trailer))
        sealed = bytearray(length)
        self.store.read_into(key, start, memoryview(sealed))
        return packs.read_footer(self.keys, pack, bytes(sealed))

    def _read_snapshot(self, key: str) -> Snapshot | Damaged | None:
        if manifest.id_of(key) is None:
            return Damaged(f"{key} is no snapshot", hint="delete it")
        try:
            return manifest.read(self.keys, key, self.store.get(key))
        except Missing:
            return None
        except Damaged as error:
            return error


def _head(store: Store) -> dict[str, Any]:
    try:
        head: dict[str, Any] = json.loads(store.get("format.json"))
        version, needs = int(head["version"]), list(head["needs"])
        if head["format"] != FORMAT or not isinstance(head["repository"], str):
            raise ValueError("it is something else")
    except Missing:
        raise NoRepository("there is no repository here", hint="dumont-snap init") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"format.json cannot be read: {error}") from None
    if version > VERSION or needs:
        raise NewerFormat(
            f"the repository has format {version}{' with ' + ', '.join(map(str, needs)) if needs else ''}; "
            f"this is for format {VERSION}",
            hint="update dumont-snap",
        )
    return head
