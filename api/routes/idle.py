"""Idleness: what is known about a machine, what its owner wants, and keeping it up."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from fastapi import APIRouter, Response
from pydantic import ValidationError

from api.auth import NEEDS_LOGIN, MachinesReader, MachinesWriter, Parts
from api.errors import documented
from api.routes.machines import Reference
from api.services import Services
from api.wishes import live
from dumont.db.machine_store import PostgresMachineStore
from dumont.db.machines import MachineRow
from dumont.domain.errors import InvalidInput
from dumont.domain.idle import LONGEST_KEEP_ALIVE, IdlePolicy, IdleState, KeepAlive
from dumont.domain.idle_resources import (
    WEEK,
    IdlePolicyOrder,
    IdleRefusal,
    IdleView,
    IdleWarning,
    KeepAliveOrder,
    last_week,
)
from dumont.domain.idle_watch import NO_STORE, judge_now, withdrawal
from dumont.domain.machine import MachinePhase

router = APIRouter(prefix="/machines/{machine}", tags=["idleness"])

_READ: Final = (*NEEDS_LOGIN, "not_found", "invalid_input")
_COMMAND: Final = (*_READ, "conflict")


@router.get("/idle", responses=documented(*_READ))
async def explain_idleness(
    reference: Reference, principal: MachinesReader, services: Parts
) -> IdleView:
    """Whether a machine is idle now and what says so, signal by signal; what happens next; and what the
    rule would have done over the last week, beside the bare rule of GPU load alone.

    What is not known counts as active.
    """
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    machine_id, state = row.spec.machine_id, row.state
    now = await services.activity.now()
    policy = await services.activity.policy(machine_id)
    keep_alive = await services.activity.keep_alive(machine_id)
    samples = (await services.activity.samples([machine_id], since=now - WEEK)).get(machine_id, [])
    home = state.instance if state.phase is MachinePhase.RUNNING else None
    judgement = (
        judge_now(samples, policy=policy, now=now, keep_alive=keep_alive, started_at=home.ready_at)
        if home is not None
        else None
    )
    noted = await services.activity.state(machine_id, generation=state.generation)
    why_not = _why_not(services, row, policy)
    gpus = row.spec.requirement.gpu_count
    return IdleView(
        machine_id=machine_id,
        name=row.name,
        at=now,
        acts=not why_not,
        why_not=why_not,
        judgement=judgement,
        policy=policy,
        keep_alive=keep_alive if keep_alive is not None and keep_alive.until > now else None,
        warning=IdleWarning(warned_at=noted.warned_at, act_at=noted.act_at)
        if home is not None and noted.warned_at is not None and noted.act_at is not None
        else None,
        refusal=IdleRefusal(why=noted.refused, at=noted.refused_at, orders=noted.refusals)
        if home is not None and noted.refused_at is not None
        else None,
        # Ten thousand minutes, twice: other requests must not wait for it.
        last_week=await asyncio.to_thread(last_week, samples, policy=policy, now=now, gpus=gpus),
    )


@router.put("/idle-policy", responses=documented(*_COMMAND))
async def set_idle_policy(
    reference: Reference, principal: MachinesWriter, services: Parts, body: IdlePolicyOrder
) -> IdlePolicy:
    """When this machine counts as idle, and how long it is warned; what is not given stays as it is.

    Switched off, a warning that stands is withdrawn at once.
    """
    row = await live(services, reference, principal)
    machine_id = row.spec.machine_id
    present = await services.activity.policy(machine_id)
    try:
        policy = IdlePolicy.model_validate({**present.model_dump(), **body.said()})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(str(first["msg"]), field=field) from None
    await services.activity.set_policy(machine_id, policy)
    if not policy.enabled:
        await _withdraw(services, row, f"{principal.actor} switched idle detection off.")
    return policy


@router.post("/keep-alive", responses=documented(*_COMMAND))
async def keep_machine_alive(
    reference: Reference, principal: MachinesWriter, services: Parts, body: KeepAliveOrder
) -> KeepAlive:
    """Keep a machine up for a while, whatever it does; a warning that stands is withdrawn at once.

    It takes the place of an earlier one. It ends by itself, after seven days at most.
    """
    row = await live(services, reference, principal)
    now = await services.activity.now()
    until = body.until if body.seconds is None else now + timedelta(seconds=body.seconds)
    assert until is not None
    if not now < until <= now + LONGEST_KEEP_ALIVE:
        days = LONGEST_KEEP_ALIVE.days
        raise InvalidInput(f"must be within the next {days} days", field="until")
    wish = KeepAlive(until=until, by=principal.actor, reason=body.reason)
    await services.activity.set_keep_alive(row.spec.machine_id, wish)
    words = f"{principal.actor} keeps it up until {until:%Y-%m-%d %H:%M} UTC"
    await _withdraw(services, row, f"{words}: {body.reason}" if body.reason else f"{words}.")
    return wish


@router.delete("/keep-alive", status_code=204, responses=documented(*_READ))
async def let_machine_rest(
    reference: Reference, principal: MachinesWriter, services: Parts
) -> Response:
    """Keep it up no longer than it is used. Without a keep-alive this changes nothing."""
    row = await services.machines.find(reference, owner_id=principal.user.user_id)
    await services.activity.set_keep_alive(row.spec.machine_id, None)
    return Response(status_code=204)


def _why_not(services: Services, row: MachineRow, policy: IdlePolicy) -> str:
    if services.settings.s3_url is None:
        return NO_STORE
    if not policy.enabled:
        return "idle detection is switched off for this machine"
    if row.state.phase is not MachinePhase.RUNNING or row.state.instance is None:
        return f"the machine is {row.state.phase.value}"
    return ""


async def _withdraw(services: Services, row: MachineRow, why: str) -> None:
    """Withdraw a warning that stands. The sweep may do the same at this moment: it is told once."""
    machine_id, generation = row.spec.machine_id, row.state.generation
    state = await services.activity.state(machine_id, generation=generation)
    if state.warned_at is None:
        return
    event = withdrawal(
        state,
        why,
        machine_id=machine_id,
        name=row.name,
        generation=generation,
        at=await services.activity.now(),
    )
    await PostgresMachineStore(services.database).record_events([event])
    await services.activity.set_state(machine_id, IdleState(), generation=generation)
