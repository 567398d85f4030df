"""Where agents report: their heartbeats are kept, and what changed in them is told to the machine.

A rented host is not trusted. Its token opens this one route for one body under one epoch, and what it
says is bounded before it is kept or told.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.auth import Parts
from api.errors import documented
from api.services import Services
from dumont.db.heartbeats import Heard
from dumont.db.machines import Standing
from dumont.domain.errors import DumontError, Forbidden, InvalidInput, Unauthenticated
from dumont.domain.idle_watch import reading_of
from dumont.domain.protection import AgentNews, AgentRole, Heartbeat
from dumont.domain.resources import HeartbeatAnswer
from dumont.security.agent_tokens import AgentClaim, read_agent_token

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/agent", tags=["agents"])

TELL_S: Final = 2.0
"""An agent does not wait longer for Temporal; what was not told is told with its next heartbeat."""

NOTE_S: Final = 2.0
"""Nor for the figures of its host to be noted."""

_MAX_WORDS: Final = 500
"""Characters of an agent's sentences that enter a machine's history."""
_MAX_SEQUENCE: Final = 2**63 - 1

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="agent",
    description="The token in an agent's configuration: one body of one machine under one epoch.",
)


def _claim(
    services: Parts,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> AgentClaim:
    """Whom a request speaks for. Checked before its body is."""
    if bearer is None:
        raise Unauthenticated("an agent shows its token", hint="`Authorization: Bearer` with it")
    return read_agent_token(services.keys, bearer.credentials)


@router.post(
    "/heartbeat",
    responses=documented("unauthenticated", "forbidden", "invalid_input", "dependency_unavailable"),
)
async def hear_heartbeat(
    body: Heartbeat,
    services: Parts,
    claim: Annotated[AgentClaim, Depends(_claim)],
) -> HeartbeatAnswer:
    """Take an agent's heartbeat; at most 64 KB.

    Only the newest of each body is kept. `fenced` means that another body has authority: a primary
    stops mirroring for good.
    """
    if (body.machine_id, body.role, body.epoch) != claim:
        raise Forbidden("the token is for another body, or for another epoch, than it reports")
    _check_storable(body)
    standing = await services.machines.standing(claim.machine_id)
    if _is_fenced(claim, standing, instance_id=body.instance_id):
        return HeartbeatAnswer(fenced=True)
    heard = await services.heartbeats.hear(body)
    if heard is not None and standing is not None:
        await _tell(services, heard, standing)
    if heard is not None and claim.role is AgentRole.PRIMARY:
        await _note_activity(services, body)
    return HeartbeatAnswer(fenced=False)


def _check_storable(heartbeat: Heartbeat) -> None:
    """Refuse what JSON allows and PostgreSQL does not."""
    try:
        text = json.dumps(heartbeat.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)
        text.encode()
    except ValueError:
        raise InvalidInput("figures must be finite and text must be Unicode") from None
    if "\\u0000" in text:
        raise InvalidInput("text must not contain NUL")
    if heartbeat.sequence > _MAX_SEQUENCE:
        raise InvalidInput(f"must be at most {_MAX_SEQUENCE}", field="sequence")


def _is_fenced(claim: AgentClaim, standing: Standing | None, *, instance_id: str) -> bool:
    """Whether this body may not write any more.

    A standby is told its new epoch before its configuration has it, and must be heard meanwhile: it
    holds the only newest copy. It is fenced when another standby has its place.
    """
    if standing is None or standing.phase.final:
        return True
    if claim.role is AgentRole.PRIMARY:
        return standing.epoch > claim.epoch
    return standing.standby_id is not None and standing.standby_id != instance_id


async def _note_activity(services: Services, heartbeat: Heartbeat) -> None:
    """Note what the host does. Whatever goes wrong here: a minute without a word is unknown, no more."""
    try:
        async with asyncio.timeout(NOTE_S):
            await services.activity.add(heartbeat.machine_id, reading_of(heartbeat.host))
    except Exception as error:
        log.warning("activity_not_noted", machine=heartbeat.machine_id, error=str(error))


async def _tell(services: Services, heard: Heard, standing: Standing) -> None:
    """Tell the machine's workflow what changed since it was told last; nothing when nothing did."""
    heartbeat = heard.heartbeat
    now = edge_of(heartbeat, standing)
    if now == heard.told:
        return
    try:
        async with asyncio.timeout(TELL_S):
            await services.commands.tell_agent_news(
                heartbeat.machine_id,
                news_of(heartbeat, at=heard.received_at, epoch=_epoch_of(heartbeat, standing)),
            )
    except (TimeoutError, DumontError) as error:
        log.warning(
            "agent_news_not_told",
            machine=heartbeat.machine_id,
            role=heartbeat.role.value,
            error=error.message if isinstance(error, DumontError) else "Temporal is slow",
        )
        return
    await services.heartbeats.set_told(heartbeat, now)


def edge_of(heartbeat: Heartbeat, standing: Standing) -> dict[str, Any]:
    """What a machine must be told when it differs from what it was told last.

    Its own record is part of it: what came before it knew this body, or in a phase that had no use
    for it, is told again afterwards.
    """
    edge: dict[str, Any] = {
        "instance_id": heartbeat.instance_id,
        "epoch": heartbeat.epoch,
        "record": [standing.phase.value, standing.epoch, standing.standby_id],
    }
    guard, mirror = heartbeat.guard, heartbeat.protection
    if guard is not None:
        edge["guard"] = {
            "authority": guard.authority.value if guard.authority is not None else None,
            "held": guard.held,
            "link": guard.link,
            "preempting": guard.preempting,
            "wake": guard.wake,
            "epoch": guard.epoch,
        }
    if mirror is not None:
        edge["protection"] = {"status": mirror.status.value, "reason": mirror.reason[:_MAX_WORDS]}
    return edge


def _epoch_of(heartbeat: Heartbeat, standing: Standing) -> int:
    """The epoch that a body speaks under: a guard that was fenced has it before its configuration."""
    guard = heartbeat.guard
    if guard is None or guard.epoch is None:
        return heartbeat.epoch
    return max(heartbeat.epoch, min(guard.epoch, standing.epoch))


def news_of(heartbeat: Heartbeat, *, at: datetime, epoch: int) -> AgentNews:
    """A heartbeat as it enters the machine's history: without what would make that long."""
    guard, mirror = heartbeat.guard, heartbeat.protection
    return AgentNews(
        role=heartbeat.role,
        instance_id=heartbeat.instance_id,
        epoch=epoch,
        at=at,
        protection=mirror.model_copy(
            update={"reason": mirror.reason[:_MAX_WORDS], "not_mirrored": []}
        )
        if mirror is not None
        else None,
        guard=guard.model_copy(
            update={"cause": guard.cause[:_MAX_WORDS], "link": guard.link[:_MAX_WORDS]}
        )
        if guard is not None
        else None,
    )
