"""The end of a machine: everything that it ever rented, however long it takes."""

from __future__ import annotations

import asyncio
from functools import partial

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from dumont.domain.events import EventKind
    from dumont.domain.machine import MachinePhase, MachineSpec, Timing
    from dumont.temporal.queues import PROVIDER_GCP, PROVIDER_VAST
    from workflows.chronicle import Chronicle
    from workflows.end_instances import end_everything
    from workflows.standby_peer import StandbyPeer

_BOTH_END_TOGETHER = "GPU and standby end at the same time"
"""Patch: machines that were alive before it replay as they were."""


async def end_machine(
    spec: MachineSpec, timing: Timing, life: Chronicle, peer: StandbyPeer, *, why: str
) -> None:
    """End what a machine rents, see that it is gone, and close its life.

    Args:
        spec: Whose machine it is.
        timing: How patient it is.
        life: Its state and events.
        peer: The workflow that keeps its standby.
        why: For people.
    """
    life.move(
        MachinePhase.DESTROYING,
        f"ending what it rents: {why}",
        kind=EventKind.DESTROYING,
        next_try_at=None,
    )
    home, standby = life.state.instance, life.state.standby
    end = partial(end_everything, spec, confirm_s=timing.gone_confirm_s)
    ends = [end(known=home.instance_id if home else None, queue=PROVIDER_VAST)]
    if spec.protection is not None:
        if not workflow.patched(_BOTH_END_TOGETHER):
            await ends.pop()
        # Its workflow rents nothing any more; what it has rented is ended here.
        await peer.release()
        ends.append(end(known=standby.instance_id if standby else None, queue=PROVIDER_GCP))
    await asyncio.gather(*ends)
    life.move(
        MachinePhase.DESTROYED,
        "everything it rented is ended and verified gone",
        kind=EventKind.DESTROYED,
        instance=None,
        **({"standby": None} if standby is not None else {}),
    )
