"""The event stream (SSE)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from api.auth import NEEDS_LOGIN, MachinesReader, Parts
from api.errors import documented
from api.stream import Audience, Hub
from dumont.domain.errors import InvalidInput

router = APIRouter(tags=["events"])

PING_S: Final = 10
_RECONNECT_MS: Final = 1_000
_MAX_SEQ: Final = 2**63 - 1


@router.get(
    "/events",
    response_class=EventSourceResponse,
    responses=documented(*NEEDS_LOGIN, "invalid_input", "not_found")
    | {
        200: {
            "description": "`id` is the event's seq, `event` its kind, `data` an EventView. "
            "`event: machine` carries a MachineView whenever one changed, without an id. "
            "`event: reset` says that changes of machines were missed: read them again. "
            "A comment comes at least every 10 s.",
            "content": {
                "text/event-stream": {
                    "example": "id: 42\nevent: machine.ready\ndata: "
                    '{"seq":42,"machine_id":"m3f9c2a71b0de","machine_name":"my-box",'
                    '"kind":"machine.ready","at":"2026-11-23T12:00:00Z","generation":1,'
                    '"summary":"ready: 1x RTX 4090","data":{}}\n\n'
                }
            },
        }
    },
)
async def stream_events(
    principal: MachinesReader,
    services: Parts,
    after: Annotated[
        int | None, Query(ge=0, le=_MAX_SEQ, description="Start behind this seq; now if not given.")
    ] = None,
    machine: Annotated[
        str | None, Query(max_length=80, description="Only this machine's, by name or id.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(max_length=20, description="Sent by browsers; wins over `after`.")
    ] = None,
) -> EventSourceResponse:
    """What happens to your machines, as it happens.

    A reader that comes back with the last id it saw misses nothing. The server ends a stream after
    the life of an access token, so that credentials are checked again; come back with the last id.
    """
    user = principal.user
    machine_id = None
    if machine is not None:
        row = await services.machines.find(machine, owner_id=user.user_id)
        machine_id = row.spec.machine_id
    place = _seq(last_event_id) if last_event_id else after
    if place is None:
        place = await services.event_log.newest_seq()
    audience = Audience(user.user_id, sees_unowned=user.is_admin, machine_id=machine_id)
    return EventSourceResponse(
        _messages(
            services.hub, after=place, audience=audience, life_s=services.settings.access_token_s
        ),
        ping=PING_S,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _seq(last_event_id: str) -> int:
    if not (last_event_id.isascii() and last_event_id.isdigit()):
        raise InvalidInput("not an id of this stream", field="Last-Event-ID")
    return min(int(last_event_id), _MAX_SEQ)


async def _messages(
    hub: Hub, *, after: int, audience: Audience, life_s: float
) -> AsyncGenerator[ServerSentEvent]:
    # Its id tells a reader that began at "now" where now was: it loses nothing when it comes back.
    yield ServerSentEvent(comment="dumont", retry=_RECONNECT_MS, id=str(after))
    ends_at = asyncio.get_running_loop().time() + life_s
    async with aclosing(hub.follow(after=after, audience=audience)) as frames:
        while True:
            try:
                async with asyncio.timeout_at(ends_at):
                    frame = await anext(frames)
            except (StopAsyncIteration, TimeoutError):
                return
            yield ServerSentEvent(
                frame.data,
                event=frame.event,
                id=str(frame.seq) if frame.seq is not None else None,
            )
