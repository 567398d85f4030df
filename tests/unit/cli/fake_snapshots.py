"""The fake API's snapshots: records, runs that a test scripts, and what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dumont.domain.snapshot_resources import (
    ChangeList,
    RunError,
    RunView,
    SnapshotDetail,
    SnapshotHealthView,
    SnapshotList,
)
from dumont.domain.snapshots import (
    ChangeTotals,
    FileChange,
    FileEntry,
    PruneResult,
    RestoreResult,
    SnapshotPolicy,
    SnapshotRecord,
    TransferProgress,
)

T0 = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OLD = "20261123T120000.000000Z-0a1b2c3d"
NEW = "20261124T120000.000000Z-ffeeddcc"


def record(snapshot_id: str = NEW, **changes: Any) -> SnapshotRecord:
    """A snapshot of my-box."""
    given = {
        "machine_id": "m000000000001",
        "snapshot_id": snapshot_id,
        "taken_at": T0,
        "source": "standby",
        "files": 1200,
        "bytes": 4_000_000_000,
        "new_bytes": 120_000_000,
        "stored_bytes": 40_000_000,
        "seconds": 12.3,
    }
    return SnapshotRecord.model_validate(given | changes)


def restored(**changes: Any) -> RestoreResult:
    """What a restore of it brought back."""
    given = {
        "snapshot_id": NEW,
        "folder": f"restored/{NEW}",
        "body": "primary",
        "files": 1200,
        "bytes": 4_000_000_000,
        "unchanged": 300,
        "fetched_bytes": 2_000_000_000,
        "usable_s": 3.1,
        "seconds": 21.0,
    }
    return RestoreResult.model_validate(given | changes)


def pruned(**changes: Any) -> PruneResult:
    """What a prune freed."""
    given = {"dry_run": False, "needed": 9_000_000, "freed": 0, "doomed": 0, "waits_for": 0}
    return PruneResult.model_validate(given | changes)


def view(kind: str, state: str = "done", **more: Any) -> RunView:
    """How a run stands."""
    ended = None if state == "running" else T0
    given = {
        "run": "run-1",
        "kind": kind,
        "state": state,
        "started_at": T0,
        "ended_at": ended,
        "progress": None,
        "tries": 1,
    }
    return RunView.model_validate(given | more)


def under_way(kind: str, step: str, *, tries: int = 1, **progress: Any) -> RunView:
    """A run that goes on."""
    return view(kind, "running", progress=TransferProgress(step=step, **progress), tries=tries)


def failed(kind: str, code: str, message: str, hint: str | None = None) -> RunView:
    """A run that did not do it."""
    return view(kind, "failed", error=RunError(code=code, message=message, hint=hint))


@dataclass
class FakeSnapshots:
    """The state; tests read and change it."""

    records: list[SnapshotRecord] = field(default_factory=list)
    """Newest first."""
    policy: SnapshotPolicy | None = field(default_factory=SnapshotPolicy)
    health: dict[str, Any] = field(default_factory=dict)
    folders: dict[str, list[FileEntry]] = field(default_factory=dict)
    totals: ChangeTotals = field(default_factory=ChangeTotals)
    changed: list[FileChange] = field(default_factory=list)
    more_changes: bool = False
    run: list[RunView] = field(default_factory=list)
    """What the run says when it is looked at, one after another; the last one stays."""
    queries: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    page: int = 2
    """Entries of a folder given at once."""

    def routes(self) -> list[tuple[str, str, Any]]:
        """Method, path and handler of each."""
        base = "/machines/{ref}/snapshots"
        one = f"{base}/{{snapshot}}"
        return [
            ("GET", base, self._list),
            ("POST", base, self._begin),
            ("PUT", f"{base}/policy", self._set_policy),
            ("POST", f"{base}/prune", self._begin),
            ("GET", one, self._get),
            ("GET", f"{one}/files", self._files),
            ("GET", f"{one}/changes", self._changes),
            ("PUT", f"{one}/pin", self._pin),
            ("DELETE", one, self._forget),
            ("POST", "/machines/{ref}/restore", self._begin),
            ("GET", "/machines/{ref}/runs/{run}", self._run),
        ]

    def _found(self, request: Request) -> SnapshotRecord | None:
        wanted = request.path_params["snapshot"]
        if wanted == "latest":
            return self.records[0] if self.records else None
        return next((r for r in self.records if r.snapshot_id.startswith(wanted)), None)

    async def _list(self, request: Request, body: Any) -> Response:
        newest = self.records[0].taken_at if self.records else None
        health = {
            "newest_at": newest,
            "age_s": 754.0 if newest else None,
            "stale": False,
            "failures": 0,
            "error": "",
        }
        health_view = SnapshotHealthView.model_validate(health | self.health)
        return _json(
            SnapshotList(items=self.records, policy=self.policy, next_at=T0, health=health_view)
        )

    async def _begin(self, request: Request, body: Any) -> Response:
        return JSONResponse({"run": "run-1", "machine_id": "m000000000001"}, 202)

    async def _run(self, request: Request, body: Any) -> Response:
        return _json(self.run.pop(0) if len(self.run) > 1 else self.run[0])

    async def _get(self, request: Request, body: Any) -> Response:
        found = self._found(request)
        if found is None:
            return _missing(request)
        older = [r.snapshot_id for r in self.records if r.snapshot_id < found.snapshot_id]
        before = max(older, default=None)
        changes = self.totals if before else None
        return _json(SnapshotDetail(snapshot=found, before=before, changes=changes))

    async def _files(self, request: Request, body: Any) -> Response:
        query = dict(request.query_params)
        self.queries.append((request.url.path.removeprefix("/api/v1"), query))
        entries, start = self.folders[query["path"]], int(query.get("cursor", 0))
        end = start + self.page
        return JSONResponse(
            {
                "path": query["path"],
                "items": [e.model_dump(mode="json") for e in entries[start:end]],
                "next_cursor": str(end) if end < len(entries) else None,
            }
        )

    async def _changes(self, request: Request, body: Any) -> Response:
        query = dict(request.query_params)
        self.queries.append((request.url.path.removeprefix("/api/v1"), query))
        found = self._found(request)
        if found is None:
            return _missing(request)
        return _json(
            ChangeList(
                old=query["since"],
                new=found.snapshot_id,
                totals=self.totals,
                items=self.changed,
                more=self.more_changes,
            )
        )

    async def _pin(self, request: Request, body: Any) -> Response:
        found = self._found(request)
        return _json(found.model_copy(update=body)) if found else _missing(request)

    async def _forget(self, request: Request, body: Any) -> Response:
        found = self._found(request)
        if found is None:
            return _missing(request)
        self.records.remove(found)
        return Response(status_code=204)

    async def _set_policy(self, request: Request, body: Any) -> Response:
        self.policy = SnapshotPolicy.model_validate(body)
        return await self._list(request, body)


def _json(model: Any) -> JSONResponse:
    return JSONResponse(model.model_dump(mode="json"))


def _missing(request: Request) -> JSONResponse:
    detail = f"no snapshot begins with {request.path_params['snapshot']!r}"
    return JSONResponse(
        {"title": "not_found", "status": 404, "detail": detail, "code": "not_found"},
        404,
        media_type="application/problem+json",
    )
