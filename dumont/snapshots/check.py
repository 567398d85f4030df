"""Is everything there, and is it what was written? And: what can be repaired of what is not."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dumont.snapshots import packs, tree
from dumont.snapshots.errors import Damaged
from dumont.snapshots.index import Index
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.packs import Record
from dumont.snapshots.repository import Repository
from dumont.storage.errors import Missing

_READERS = 8
_NAMED = 10_000


@dataclass
class Findings:
    """What a check found."""

    snapshots: int = 0
    chunks: int = 0
    packs: int = 0
    read: int = 0
    """Bytes of packs that were read and verified; 0 when only sizes were compared."""
    damage: list[str] = field(default_factory=list)
    """What is wrong with the repository, one sentence each."""
    files: dict[str, list[str]] = field(default_factory=dict)
    """By snapshot, the files that cannot be restored whole."""
    unused: int = 0
    """Bytes of packs that no snapshot needs; `prune` frees them."""

    @property
    def is_sound(self) -> bool:
        """Whether every snapshot can be restored whole."""
        return not self.damage and not self.files


def check(
    repository: Repository,
    *,
    read: bool = False,
    on_pack: Callable[[int, int], None] = lambda done, total: None,
) -> Findings:
    """Look at everything.

    Args:
        repository: Which.
        read: Fetch every pack and verify every chunk; otherwise only whether packs are there, as long as
            they should be.
        on_pack: Told how many packs of how many are done.
    """
    findings = Findings()
    # Before the index, which then knows every chunk of each.
    snapshots, unreadable = repository.snapshots()
    findings.damage += [error.message for error in unreadable]
    known = _index(repository, findings)
    lengths = _lengths(repository)
    contents = known.by_pack()
    bad = _lost(contents, lengths, findings)
    findings.packs, findings.chunks = len(contents), len(known)
    if read:
        done = 0
        with ThreadPoolExecutor(_READERS) as readers:
            there = [(pack, records) for pack, records in contents.items() if pack in lengths]
            for pack, wrong, length in readers.map(lambda each: _read(repository, *each), there):
                done += 1
                findings.read += length
                on_pack(done, len(there))
                if wrong:
                    findings.damage.append(f"{len(wrong)} chunks of pack {pack.hex()} are damaged")
                    bad.update(wrong)
    needed = _look_through(repository, snapshots, known, bad, findings)
    used = {place.pack for chunk in needed if (place := known.get(chunk)) is not None}
    findings.unused = sum(size for pack, size in lengths.items() if pack not in used)
    return findings


def check_one(repository: Repository, snapshot: Snapshot) -> Findings:
    """Whether the store has all that one snapshot needs, as long as it should be; reads no content.

    What is wrong with the rest of the repository is not told.
    """
    around, findings = Findings(), Findings()
    known = _index(repository, around)
    bad = _lost(known.by_pack(), _lengths(repository), around)
    _look_through(repository, [snapshot], known, bad, findings)
    return findings


def repair_index(repository: Repository) -> tuple[int, list[str]]:
    """Write the index anew from the packs themselves; returns how many packs, and what is wrong.

    Nothing is lost by it: an index only says what packs hold.
    """
    wrong: list[str] = []
    ids = [
        pack
        for listed in repository.store.list("packs/")
        if (pack := packs.id_of(listed.key)) is not None
    ]
    old = [listed.key for listed in repository.store.list("index/")]

    def content(pack: bytes) -> tuple[bytes, list[Record]] | None:
        try:
            return pack, repository.footer(pack)
        except (Damaged, Missing) as error:
            wrong.append(f"pack {pack.hex()}: {error}")
            return None

    with ThreadPoolExecutor(_READERS) as readers:
        found = [each for each in readers.map(content, ids) if each is not None]
    repository.write_index(found, supersedes=old)
    return len(found), wrong


def _lengths(repository: Repository) -> dict[bytes, int]:
    """The packs that are in the store, with their lengths."""
    return {
        pack: listed.size
        for listed in repository.store.list("packs/")
        if (pack := packs.id_of(listed.key)) is not None
    }


def _lost(
    contents: dict[bytes, list[Record]], lengths: dict[bytes, int], findings: Findings
) -> set[bytes]:
    """Chunks whose packs are missing or cut off."""
    bad: set[bytes] = set()
    for pack, records in contents.items():
        end = max((r.offset + r.sealed for r in records), default=0)
        if pack not in lengths:
            findings.damage.append(f"pack {pack.hex()} is missing")
            bad.update(record.chunk for record in records)
        elif lengths[pack] < end + packs.TRAILER:
            findings.damage.append(f"pack {pack.hex()} is cut off")
            bad.update(r.chunk for r in records if r.offset + r.sealed > lengths[pack])
    return bad


def _index(repository: Repository, findings: Findings) -> Index:
    try:
        return repository.index()
    except Damaged as error:
        findings.damage.append(f"{error.message}: dumont-snap repair index")
    # What packs say of themselves is as good.
    known = Index()
    for listed in repository.store.list("packs/"):
        pack = packs.id_of(listed.key)
        if pack is None:
            continue
        try:
            known.add(pack, repository.footer(pack))
        except (Damaged, Missing) as error:
            findings.damage.append(str(error))
    return known


def _read(
    repository: Repository, pack: bytes, records: list[Record]
) -> tuple[bytes, set[bytes], int]:
    """Which chunks of a pack are not what they should be."""
    try:
        data = memoryview(repository.store.get(packs.key_of(pack)))
    except Missing:
        return pack, {record.chunk for record in records}, 0
    cipher = repository.keys.pack_cipher(pack)
    wrong = set()
    for record in records:
        into = memoryview(bytearray(min(record.raw, tree.BLOCK)))
        try:
            sealed = data[record.offset : record.offset + record.sealed]
            repository.open_chunk(cipher, record, sealed, into)
        except Damaged:
            wrong.add(record.chunk)
    return pack, wrong, len(data)


def _look_through(
    repository: Repository,
    snapshots: list[Snapshot],
    known: Index,
    bad: set[bytes],
    findings: Findings,
) -> set[bytes]:
    """Go through every snapshot; returns the chunks that are needed."""
    findings.snapshots = len(snapshots)
    needed: set[bytes] = set()
    for snapshot in snapshots:
        needed.update(snapshot.tree)
        lost: list[str] = []
        for entry in repository.entries(snapshot, known, on_damage=findings.damage.append):
            chunks = [piece.chunk for piece in entry.pieces]
            needed.update(chunks)
            if any(chunk in bad or chunk not in known for chunk in chunks):
                lost.append(tree.shown(entry.path))
        if lost:
            findings.files[snapshot.id] = lost[:_NAMED]
    return needed
