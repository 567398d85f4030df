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
        Damaged: Some snapshot, or the index, cannot be read. Nothing is deleted then: what it needs is
            not known.
    """
    done = Pruned()
    on_step("reading snapshots")
    known = _all_known(
        repository, {pack for _, doomed in repository.condemned() for pack in doomed}
    )
    needed = _needed(repository, known)
    wasted = _wasted(repository, known, needed)
    done.needed = sum(place.sealed for chunk in needed if (place := known.get(chunk)))
    if dry_run:
        lengths = _lengths(repository)
        done.doomed = sum(lengths.get(pack, 0) for pack in wasted)
        done.waits_for = len(list(repository.store.list(lease.PREFIX)))
        return done
    doomed_already = {pack for _, doomed in repository.condemned() for pack in doomed}
    fresh = [pack for pack in wasted if pack not in doomed_already]
    if fresh:
        on_step("copying what is needed out of packs that are mostly waste")
        done.copied = _copy(repository, known, needed, fresh)
        repository.condemn(fresh)
    on_step("deleting")
    _sweep(repository, done)
    return done


def _all_known(repository: Repository, condemned: set[bytes]) -> Index:
    """The index with condemned packs too: older snapshots may need them. Of two copies of a chunk the one
    that stays counts."""
    known = Index()
    content = [each for found in repository.index_objects().values() for each in found]
    for pack, records in sorted(content, key=lambda each: each[0] not in condemned):
        known.add(pack, records)
    return known


def _needed(repository: Repository, known: Index) -> set[bytes]:
    """Chunks that some snapshot needs. Raises Damaged when one cannot be read."""
    snapshots, wrong = repository.snapshots()
    if wrong:
        raise Damaged(
            f"{wrong[0].message}: what it needs is not known, so nothing is deleted",
            hint="dumont-snap check; forget the snapshot if it is beyond repair",
        )
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


def _sweep(repository: Repository, done: Pruned) -> None:
    """Delete condemned packs, unless a snapshot is under way that may count on them."""
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
    objects = repository.index_objects()
    known = _all_known(repository, all_doomed)
    places = (known.get(chunk) for chunk in _needed(repository, known))
    rescued = {place.pack for place in places if place is not None and place.pack in all_doomed}
    gone = all_doomed - rescued
    kept = [
        (pack, records)
        for content in objects.values()
        for pack, records in content
        if pack not in gone
    ]
    repository.write_index(kept, supersedes=objects)
    for pack in sorted(gone):
        repository.store.delete(packs.key_of(pack))
        done.packs_deleted += 1
        done.freed += lengths.get(pack, 0)
    for key, _ in condemned:
        repository.store.delete(key)
