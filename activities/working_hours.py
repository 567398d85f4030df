"""Working hours: how a machine stands at its hour, and the schedules that call for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from temporalio import activity

from activities.heartbeat import heartbeating
from dumont.domain.instances import Message
from dumont.domain.machine import MachinePhase, MachineState
from dumont.domain.working_hours import HoursAct, WorkingHours, due_act, next_acts, zone
from dumont.ports import MachineStore, OwnedMachine

_ENDING = (MachinePhase.DESTROYING, MachinePhase.DESTROYED)

ReadHours = Callable[[Sequence[str]], Awaitable[dict[str, WorkingHours | None]]]
"""Of those machines that have any; None: what is stored cannot be read, which decides nothing."""
KeptAliveUntil = Callable[[str], Awaitable[datetime | None]]
"""Until when somebody wants a machine kept up; None: nobody said so. A moment that is past is nothing."""


async def nobody_keeps_alive(machine_id: str) -> datetime | None:
    """Where there is no such wish."""
    return None


class HoursAsk(Message):
    """Input of `look_at_hours`."""

    machine_id: str
    act: HoursAct
    called_at: datetime
    """The moment for which the schedule called."""


class HoursLook(Message):
    """What is to be done at an hour, and how the machine stands."""

    name: str
    at: datetime
    until: datetime | None
    """When the next call comes: by then this act is over. None: none comes."""
    words: str
    """The hour, for people: `19:00 (Europe/Berlin)`."""
    phase: MachinePhase
    reason: str
    generation: int
    asleep: bool
    """Whether it hibernates, or is on its way to."""
    kept_until: datetime | None = None
    """Until when somebody wants it kept up."""


class HoursActivities:
    """Working hours of all machines.

    Args:
        store: The machines.
        hours: What owners want.
        kept_alive_until: What somebody said who needs a machine longer.
        align: Makes the schedules be those; returns for how many machines it changed some.
    """

    def __init__(
        self,
        *,
        store: MachineStore,
        hours: ReadHours,
        kept_alive_until: KeptAliveUntil = nobody_keeps_alive,
        align: Callable[[Mapping[str, WorkingHours | None]], Awaitable[int]],
    ) -> None:
        self._store = store
        self._hours = hours
        self._kept_alive_until = kept_alive_until
        self._align = align

    @activity.defn
    async def look_at_hours(self, ask: HoursAsk) -> HoursLook | None:
        """What is to be done; None when nothing is: the hours, or the machine, are not those any more.

        Raises:
            DependencyUnavailable: The database does not say.
        """
        hours = (await self._hours([ask.machine_id])).get(ask.machine_id)
        machine = next(iter(await self._store.owned_machines([ask.machine_id])), None)
        if hours is None or machine is None or not _is_live(machine):
            return None
        due = due_act(hours, ask.act, ask.called_at)
        if due is None:
            return None
        state = machine.state
        local = due.at.astimezone(zone(hours.timezone))
        return HoursLook(
            name=machine.spec.name,
            at=due.at,
            until=min(
                (each.at - each.act.notice for each in next_acts(hours, due.at, 2)), default=None
            ),
            words=f"{local:%H:%M} ({hours.timezone})",
            phase=state.phase,
            reason=state.reason,
            generation=state.generation,
            asleep=_is_asleep(state),
            kept_until=await self._kept_alive_until(ask.machine_id),
        )

    @activity.defn
    async def align_hours(self) -> int:
        """Have the schedules of each live machine that has hours, and no others."""
        live = [
            machine.spec.machine_id
            for machine in await self._store.live_machines()
            if _is_live(machine)
        ]
        async with heartbeating():
            return await self._align(await self._hours(live))


def _is_live(machine: OwnedMachine) -> bool:
    return not machine.state.stopping and machine.state.phase not in _ENDING


def _is_asleep(state: MachineState) -> bool:
    on_its_way = state.phase is MachinePhase.ON_STANDBY and state.restoring is not None
    return on_its_way or state.phase in (MachinePhase.HIBERNATING, MachinePhase.HIBERNATED)
