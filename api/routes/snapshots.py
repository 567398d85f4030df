"""Snapshots of a machine: making, finding, looking into and restoring them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Path, Query, Response

from activities.repository import ChangesAsk, FilesAsk, PinAsk
from activities.snapshots import PruneAsk, SnapshotOf
from api.auth import NEEDS_LOGIN, MachinesReader, MachinesWriter, Parts, Principal
from api.errors import documented
from api.routes.machines import IdempotencyKey, Limit, Reference
from api.services import Services
from api.wishes import need_life, need_store
from dumont.db.machines import MachineRow
from dumont.domain.errors import Conflict, DependencyUnavailable, InvalidInput
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
    checked_path,
    health_view,
)
from dumont.domain.snapshots import LATEST, SnapshotPolicy, SnapshotRecord
from workflows.snapshots import RestoreInput, SnapshotInput

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/machines/{machine}", tags=["snapshots"])

_NAME: Final = rf"^({LATEST}|[0-9TZ.a-f-]{{1,40}})$"
Name = Annotated[
    str,
    Path(
        alias="snapshot",
        pattern=_NAME,
        description="Its id, the beginning of it, or `latest`.",
        examples=[LATEST],
    ),
]
Run = Annotated[str, Path(alias="run", pattern=r"^(snapshot|restore|prune)-[0-9a-f-]{36}$")]

_READ: Final = (*NEEDS_LOGIN, "not_found", "invalid_input")
_STORE: Final = (*_READ, "precondition_failed", "storage_error")
_RESTORED: Final = "restored"
"""Where files go when nobody says where."""


@router.get("/snapshots", responses=documented(*_READ))
async def list_snapshots(
    reference: Reference, principal: MachinesReader, services: Parts
) -> SnapshotList:
    """A machine's snapshots, newest first, the policy that makes and deletes them, and how it goes."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    return await _listed(services, row)


@router.post("/snapshots", status_code=202, responses=documented(*_STORE, "conflict"))
async def take_snapshot(
    reference: Reference,
    principal: MachinesWriter,
    services: Parts,
    body: SnapshotOrder = SnapshotOrder(),
    idempotency_key: IdempotencyKey = None,
) -> RunStarted:
    """Keep the workspace as it is now.

    It is read from the standby where there is one that has everything, so that the GPU's link and
    processors are left alone; with `flush` the standby first gets all that was written until now.
    """
    row = await _live(services, reference, principal)
    order = SnapshotInput(
        machine_id=row.spec.machine_id,
        tags=body.tags,
        pinned=body.pinned,
        flush=body.flush,
        asked=True,
    )
    run = await services.snapshot_commands.take(order, key=idempotency_key or str(uuid.uuid4()))
    return RunStarted(run=run, machine_id=row.spec.machine_id)


@router.put("/snapshots/policy", responses=documented(*_STORE, "conflict"))
async def set_snapshot_policy(
    reference: Reference, principal: MachinesWriter, services: Parts, body: SnapshotPolicyOrder
) -> SnapshotList:
    """When snapshots are made, what is left out, and how long they stay.

    The whole policy: what is not given is the default again. Snapshots that it keeps no longer are
    deleted after the next one was made; those that are pinned are not.
    """
    row = await _live(services, reference, principal)
    policy = SnapshotPolicy.model_validate(body.model_dump())
    try:
        # First, for it may turn out that Temporal does not understand the cron line.
        await services.snapshot_commands.schedule(row.spec.machine_id, policy)
    except DependencyUnavailable as error:
        # What is wanted is written down next: a sweep brings the schedule up to date.
        log.warning("schedule_not_changed", machine=row.spec.machine_id, error=error.message)
    await services.snapshots.set_policy(row.spec.machine_id, policy)
    return await _listed(services, row)


@router.post("/snapshots/prune", status_code=202, responses=documented(*_STORE))
async def prune_snapshots(
    reference: Reference,
    principal: MachinesWriter,
    services: Parts,
    body: PruneOrder = PruneOrder(),
    idempotency_key: IdempotencyKey = None,
) -> RunStarted:
    """Free what no snapshot of any of your machines needs; by default only say what would be freed.

    Your machines share one repository. Nothing that a snapshot needs is ever deleted, and what is
    not needed is deleted once no snapshot is under way that may count on it.
    """
    row = await _found(services, reference, principal)
    ask = PruneAsk(owner_id=row.spec.owner_id, dry_run=body.dry_run)
    key = idempotency_key or str(uuid.uuid4())
    run = await services.snapshot_commands.prune(row.spec.machine_id, ask, key=key)
    return RunStarted(run=run, machine_id=row.spec.machine_id)


@router.get("/snapshots/{snapshot}", responses=documented(*_STORE))
async def show_snapshot(
    reference: Reference, name: Name, principal: MachinesReader, services: Parts
) -> SnapshotDetail:
    """One snapshot, and how much changed since the one before."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    record = await services.snapshots.find(row.spec.machine_id, name)
    before = await services.snapshots.before(row.spec.machine_id, record.snapshot_id)
    changes = None
    if before is not None:
        ask = ChangesAsk(
            owner_id=row.spec.owner_id, old=before.snapshot_id, new=record.snapshot_id, limit=0
        )
        changes = (await services.snapshot_commands.changes(ask)).totals
    return SnapshotDetail(
        snapshot=record,
        before=before.snapshot_id if before is not None else None,
        changes=changes,
    )


@router.get("/snapshots/{snapshot}/files", responses=documented(*_STORE))
async def list_snapshot_files(
    reference: Reference,
    name: Name,
    principal: MachinesReader,
    services: Parts,
    path: Annotated[str, Query(max_length=4_096, description="A folder; the top.")] = "",
    cursor: Annotated[str | None, Query(max_length=4_096)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
) -> FileList:
    """What is in one folder of a snapshot, by name."""
    row, record = await _snapshot(services, reference, name, principal)
    folder = _checked(path) if path.strip("/") else ""
    found = await services.snapshot_commands.files(
        FilesAsk(
            owner_id=row.spec.owner_id,
            snapshot_id=record.snapshot_id,
            folder=folder,
            after=cursor,
            limit=limit + 1,
        )
    )
    items = found.items[:limit]
    more = len(found.items) > limit
    return FileList(path=folder, items=items, next_cursor=items[-1].path if more else None)


@router.get("/snapshots/{snapshot}/changes", responses=documented(*_STORE, "conflict"))
async def list_snapshot_changes(
    reference: Reference,
    name: Name,
    principal: MachinesReader,
    services: Parts,
    since: Annotated[
        str | None, Query(pattern=_NAME, description="Another one; the one before.")
    ] = None,
    limit: Limit = 200,
) -> ChangeList:
    """What changed between two snapshots of a machine."""
    row, record = await _snapshot(services, reference, name, principal)
    machine_id = row.spec.machine_id
    old = (
        await services.snapshots.find(machine_id, since)
        if since is not None
        else await services.snapshots.before(machine_id, record.snapshot_id)
    )
    if old is None:
        raise Conflict(f"{record.snapshot_id} is the first snapshot of {row.name}")
    found = await services.snapshot_commands.changes(
        ChangesAsk(
            owner_id=row.spec.owner_id,
            old=old.snapshot_id,
            new=record.snapshot_id,
            limit=limit + 1,
        )
    )
    return ChangeList(
        old=old.snapshot_id,
        new=record.snapshot_id,
        totals=found.totals,
        items=found.items[:limit],
        more=len(found.items) > limit,
    )


@router.put("/snapshots/{snapshot}/pin", responses=documented(*_STORE))
async def pin_snapshot(
    reference: Reference, name: Name, principal: MachinesWriter, services: Parts, body: PinOrder
) -> SnapshotRecord:
    """Let no rule delete a snapshot, or let rules decide again."""
    row, record = await _snapshot(services, reference, name, principal)
    await services.snapshot_commands.pin(PinAsk(which=_which(row, record), pinned=body.pinned))
    return await services.snapshots.find(row.spec.machine_id, record.snapshot_id)


@router.delete("/snapshots/{snapshot}", status_code=204, responses=documented(*_STORE, "conflict"))
async def forget_snapshot(
    reference: Reference, name: Name, principal: MachinesWriter, services: Parts
) -> Response:
    """Delete a snapshot for good; a prune frees its space. One that is pinned must be unpinned first."""
    row, record = await _snapshot(services, reference, name, principal)
    if record.pinned:
        raise Conflict(
            f"{record.snapshot_id} is pinned",
            hint=f"unpin it first: dumont snapshot-pin {row.name} {record.snapshot_id} --off",
        )
    await services.snapshot_commands.forget(_which(row, record))
    return Response(status_code=204)


@router.post("/restore", status_code=202, responses=documented(*_STORE, "conflict"))
async def restore_snapshot(
    reference: Reference,
    principal: MachinesWriter,
    services: Parts,
    body: RestoreOrder = RestoreOrder(),
    idempotency_key: IdempotencyKey = None,
) -> RunStarted:
    """Bring files of a snapshot back onto this machine, each verified.

    They go to `restored/<snapshot>` in the workspace unless `into` names another folder. With
    `in_place` they take the place of what is there, which is kept in a snapshot first; files that
    the snapshot does not have stay.
    """
    row = await _live(services, reference, principal)
    if body.in_place and body.into is not None:
        raise InvalidInput("give either `into` or `in_place`", field="into")
    source = row if body.of is None else await _found(services, body.of, principal)
    record = await services.snapshots.find(source.spec.machine_id, body.snapshot)
    folder = "" if body.in_place else body.into or f"{_RESTORED}/{record.snapshot_id}"
    order = RestoreInput(
        machine_id=row.spec.machine_id,
        snapshot_id=record.snapshot_id,
        paths=body.paths,
        folder=folder,
        total_files=record.files,
        total_bytes=record.bytes,
    )
    run = await services.snapshot_commands.restore(order, key=idempotency_key or str(uuid.uuid4()))
    return RunStarted(run=run, machine_id=row.spec.machine_id)


@router.get("/runs/{run}", responses=documented(*_READ))
async def show_run(
    reference: Reference, run: Run, principal: MachinesReader, services: Parts
) -> RunView:
    """How far a snapshot, a restore or a prune is, or how it ended."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    return await services.snapshot_commands.run(row.spec.machine_id, run)


async def _listed(services: Services, row: MachineRow) -> SnapshotList:
    machine_id = row.spec.machine_id
    has_store = services.settings.s3_url is not None
    policy = await services.snapshots.policy(machine_id) if has_store else None
    next_at = None
    if policy is not None and policy.is_scheduled and not row.state.phase.final:
        try:
            next_at = await services.snapshot_commands.next_at(machine_id)
        except DependencyUnavailable as error:
            # What is kept is known without Temporal.
            log.warning("next_snapshot_unknown", machine=machine_id, error=error.message)
    health = await services.snapshots.health(machine_id)
    return SnapshotList(
        items=await services.snapshots.of_machine(machine_id),
        policy=policy,
        next_at=next_at,
        health=health_view(health, policy, now=datetime.now(UTC), since=row.created_at),
    )


async def _snapshot(
    services: Services, reference: str, name: str, principal: Principal
) -> tuple[MachineRow, SnapshotRecord]:
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    return row, await services.snapshots.find(row.spec.machine_id, name)


async def _found(services: Services, reference: str, principal: Principal) -> MachineRow:
    """A machine of somebody who wants to use the store."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    need_store(services.settings, what="snapshots")
    return row


async def _live(services: Services, reference: str, principal: Principal) -> MachineRow:
    row = await _found(services, reference, principal)
    need_life(row, hint="restore its snapshots to another machine: dumont restore OTHER --of ID")
    return row


def _which(row: MachineRow, record: SnapshotRecord) -> SnapshotOf:
    return SnapshotOf(
        owner_id=row.spec.owner_id,
        machine_id=row.spec.machine_id,
        snapshot_id=record.snapshot_id,
    )


def _checked(path: str) -> str:
    try:
        return checked_path(path)
    except ValueError as error:
        raise InvalidInput(str(error), field="path") from None
