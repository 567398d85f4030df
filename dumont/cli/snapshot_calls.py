"""Snapshots and restores as typed calls: one method for each thing a command asks of the API."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from pydantic import BaseModel

from dumont.cli.calls import Calls, body, part
from dumont.domain.errors import InvalidInput
from dumont.domain.snapshot_resources import (
    ChangeList,
    FileList,
    PinOrder,
    PruneOrder,
    RestoreOrder,
    RunStarted,
    RunView,
    SnapshotDetail,
    SnapshotList,
    SnapshotOrder,
    SnapshotPolicyOrder,
)
from dumont.domain.snapshots import LATEST, SNAPSHOT_ID, SnapshotRecord

PAGE: Final = 200
"""Entries, or changes, asked for at once."""

_FULL = re.compile(SNAPSHOT_ID)
_BEGINNING = re.compile(r"\d[0-9TZa-f.-]{0,31}")
"""What an id can begin with. It never reads as another path: `..` or `policy`."""


class SnapshotCalls(Calls):
    """The calls below `/machines/{machine}` that are about snapshots.

    In each, `ref` is the machine's name or id, and a snapshot is its id, the beginning of one, or
    `latest`, unless it is said otherwise.
    """

    def list(self, *, ref: str) -> SnapshotList:
        """A machine's snapshots, newest first, with its policy and how they are going."""
        return self._read(_at(ref), SnapshotList)

    def make(self, *, ref: str, order: SnapshotOrder) -> RunStarted:
        """Begin a snapshot; asked twice by a lost answer, one is made."""
        return self._begin(_at(ref), order)

    def get(self, *, ref: str, snapshot: str) -> SnapshotDetail:
        """One snapshot, and how much changed since the one before."""
        return self._read(_at(ref, snapshot), SnapshotDetail)

    def full_id(self, *, ref: str, snapshot: str) -> str:
        """The id that is meant: what changes or deletes must not go by a beginning alone."""
        if _FULL.fullmatch(snapshot):
            return snapshot
        return self.get(ref=ref, snapshot=snapshot).snapshot.snapshot_id

    def files(
        self, *, ref: str, snapshot: str, path: str = "", cursor: str | None = None
    ) -> FileList:
        """One page of what is in a folder of a snapshot.

        Args:
            ref: The machine.
            snapshot: Which.
            path: The folder; empty for the top.
            cursor: Where the page before ended.
        """
        where = f"{_at(ref, snapshot)}/files"
        return self._read(where, FileList, path=path, cursor=cursor, limit=PAGE)

    def pages(self, *, ref: str, snapshot: str, path: str = "") -> Iterator[FileList]:
        """All of a folder, page by page."""
        cursor: str | None = None
        while True:
            page = self.files(ref=ref, snapshot=snapshot, path=path, cursor=cursor)
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return

    def changes(self, *, ref: str, snapshot: str, since: str | None = None) -> ChangeList:
        """What is another than in an older snapshot.

        Args:
            ref: The machine.
            snapshot: The newer one.
            since: The full id of the older one; the one before when None.
        """
        return self._read(f"{_at(ref, snapshot)}/changes", ChangeList, since=since, limit=PAGE)

    def pin(self, *, ref: str, snapshot: str, order: PinOrder) -> SnapshotRecord:
        """Let no rule delete a snapshot, or let rules decide again."""
        response = self._http.call(
            "PUT", f"{_at(ref, snapshot)}/pin", json=body(order), repeatable=True
        )
        return self._parse(response, SnapshotRecord)

    def forget(self, *, ref: str, snapshot: str) -> None:
        """Delete a snapshot. The space it took is freed by a prune."""
        self._http.call("DELETE", _at(ref, snapshot), repeatable=True)

    def set_policy(self, *, ref: str, order: SnapshotPolicyOrder) -> SnapshotList:
        """Say when snapshots are made, of what, and how long they stay."""
        response = self._http.call("PUT", f"{_at(ref)}/policy", json=body(order), repeatable=True)
        return self._parse(response, SnapshotList)

    def prune(self, *, ref: str, order: PruneOrder) -> RunStarted:
        """Begin to free what no snapshot of the owner needs."""
        return self._begin(f"{_at(ref)}/prune", order)

    def restore(self, *, ref: str, order: RestoreOrder) -> RunStarted:
        """Begin to bring a snapshot back into a machine."""
        return self._begin(f"/machines/{part(ref)}/restore", order)

    def run(self, *, ref: str, run: str) -> RunView:
        """How far a snapshot, a restore or a prune is."""
        return self._read(f"/machines/{part(ref)}/runs/{quote(run, safe='')}", RunView)

    def _begin(self, path: str, order: BaseModel) -> RunStarted:
        response = self._http.call(
            "POST",
            path,
            json=body(order),
            headers={"Idempotency-Key": str(uuid.uuid4())},
            repeatable=True,
        )
        return self._parse(response, RunStarted)


def _at(ref: str, snapshot: str | None = None) -> str:
    place = f"/machines/{part(ref)}/snapshots"
    return place if snapshot is None else f"{place}/{_snapshot(snapshot)}"


def _snapshot(text: str) -> str:
    if text != LATEST and not _BEGINNING.fullmatch(text):
        raise InvalidInput(
            f"{text!r} is not a snapshot's id",
            field="SNAPSHOT",
            hint=f"give `{LATEST}`, an id that `dumont snapshots NAME` lists, or the beginning of one",
        )
    return text
