"""Freeing space, without a moment in which a crash or another run could lose anything.

See `docs/repository-format.md`, "Deleting", for why this order is safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dumont.snapshots import lease, packs
from dumont.snapshots.errors import Damaged
from dumont.snapshots.index import Index
from dumont.snapshots.journal import Journal
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.packing import Packer, Packing
from dumont.snapshots.repository import Repository

_WORTH = 0.6
"""A pack of which less is needed is copied and deleted."""


@dataclass
class Pruned:
    """What a prune did, or would do. Bytes."""

    needed: int = 0
    freed: int = 0
    """Deleted now."""
    doomed: int = 0
    """Will be deleted once no snapshot is under way that may count on it."""
    copied: int = 0
    packs_deleted: int = 0
    waits_for: int = 0
    """How many snapshots are under way."""


def prune(
    repository: Repository,
    *,
    dry_run: bool = False,
    on_step: Callable[[str], None] = lambda words: None,
) -> Pruned:
    """Delete what no snapshot needs.

    Args:
        repository: Which.
        dry_run: Only say what would be done.
        on_step: Told what is being done.

    Raises:
        Busy: Another prune is under way.
        Damaged: Some snapshot, or the index, cannot be read. Nothing is deleted then: what it needs is
            not known.
    """
    if dry_run:
        return _plan(repository, on_step)[0]
    with lease.PruneLock(repository.store) as lock:
        done, known, needed, wasted = _plan(repository, on_step)
        done.doomed = 0
        doomed_already = {pack for _, doomed in repository.condemned() for pack in doomed}
        fresh = [pack for pack in wasted if pack not in doomed_already]
        if fresh:
            on_step("copying what is needed out of packs that are mostly waste")
            done.copied = _copy(repository, known, needed, fresh)
            repository.condemn(fresh)
        on_step("deleting")
        _sweep(repository, done, lock)
    return done


def _plan(
    repository: Repository, on_step: Callable[[str], None]
) -> tuple[Pruned, Index, set[bytes], list[bytes]]:
    """What would be done; the index; the chunks that are needed; the packs that should go."""
    on_step("reading snapshots")
    snapshots = _snapshots(repository)
    known = repository.index()
    needed = _needed(repository, snapshots, known)
    wasted = _wasted(repository, known, needed)
    lengths = _lengths(repository)
    plan = Pruned(
        needed=sum(place.sealed for chunk in needed if (place := known.get(chunk))),
        doomed=sum(lengths.get(pack, 0) for pack in wasted),
        waits_for=len(list(repository.store.list(lease.PREFIX))),
    )
    return plan, known, needed, wasted


def _snapshots(repository: Repository) -> list[Snapshot]:
    """All of them. To be read before the index, which then knows every chunk of each.

    Raises:
        Damaged: One cannot be read.
    """
    snapshots, wrong = repository.snapshots()
    if wrong:
        raise Damaged(
            f"{wrong[0].message}: what it needs is not known, so nothing is deleted",
            hint="dumont-snap check; forget the snapshot if it is beyond repair",
        )
    return snapshots


def _needed(repository: Repository, snapshots: list[Snapshot], known: Index) -> set[bytes]:
    """Chunks that some snapshot needs. Raises Damaged when its table of files cannot be read."""
    needed: set[bytes] = set()
    for snapshot in snapshots:
        needed.update(snapshot.tree)
        for entry in repository.entries(snapshot, known):
            needed.update(piece.chunk for piece in entry.pieces)
    return needed


def _wasted(repository: Repository, known: Index, needed: set[bytes]) -> list[bytes]:
    """Packs that should go: unused ones, those that are mostly waste, and those that no index knows."""
    used: dict[bytes, int] = {}
    for chunk in needed:
        place = known.get(chunk)
        if place is not None:
            used[place.pack] = used.get(place.pack, 0) + place.sealed
    wasted = [
        pack for pack, held in known.packs.items() if used.get(pack, 0) < _WORTH * held or not held
    ]
    return wasted + [pack for pack in _lengths(repository) if pack not in known.packs]


def _lengths(repository: Repository) -> dict[bytes, int]:
    return {
        pack: listed.size
        for listed in repository.store.list("packs/")
        if (pack := packs.id_of(listed.key)) is not None
    }


def _copy(repository: Repository, known: Index, needed: set[bytes], wasted: list[bytes]) -> int:
    """Store the needed chunks of wasted packs again, elsewhere; returns their bytes."""
    doomed = set(wasted)
    move = [
        (place.pack, place.offset, chunk)
        for chunk in needed
        if (place := known.get(chunk)) is not None and place.pack in doomed
    ]
    packing = Packing(repository, known.without(doomed), Journal(None), uploaders=2, spare=1)
    packer = Packer(packing)
    try:
        for _, _, chunk in sorted(move):
            packer.store(memoryview(repository.chunk(chunk, known)), hint=None)
        packer.flush()
        packing.finish()
    except BaseException as error:
        packing.fail(error)
        packing.abandon()
        raise
    return packer.new_stored


def _sweep(repository: Repository, done: Pruned, lock: lease.PruneLock) -> None:
    """Delete condemned packs, unless a snapshot is under way that may count on them."""
    done.waits_for = 0
    condemned = repository.condemned()
    if not condemned:
        return
    lengths = _lengths(repository)
    all_doomed = {pack for _, doomed in condemned for pack in doomed}
    living = lease.living(repository.store)
    if living:
        done.waits_for = len(living)
        done.doomed = sum(lengths.get(pack, 0) for pack in all_doomed)
        return
    # Whoever begins from here on has read the lists. What was committed before is read now.
    snapshots = _snapshots(repository)
    objects = repository.index_objects()
    known = repository.index()
    places = (known.get(chunk) for chunk in _needed(repository, snapshots, known))
    rescued = {place.pack for place in places if place is not None and place.pack in all_doomed}
    gone = all_doomed - rescued
    kept = [
        (pack, records)
        for content in objects.values()
        for pack, records in content
        if pack not in gone
    ]
    lock.check()
    repository.write_index(kept, supersedes=objects)
    for pack in sorted(gone):
        repository.store.delete(packs.key_of(pack))
        done.packs_deleted += 1
        done.freed += lengths.get(pack, 0)
    for key, _ in condemned:
        repository.store.delete(key)
