"""Working hours: a machine wakes at its hour, and hibernates at its hour once nobody is cut off."""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.orders import Answer, Order, OrderActivities, Verb
    from activities.records import RecordActivities
    from activities.working_hours import HoursActivities, HoursAsk, HoursLook
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.machine import MachinePhase
    from dumont.domain.working_hours import WARNING, HoursAct, HoursCall
    from dumont.temporal.failures import error_of
    from workflows.options import READ, RECORD, Options

ACTOR = "working hours"
PATIENCE = timedelta(hours=1)
"""For so long a machine that cannot do it now is asked again; a call that comes later than this, because
nobody was there to hear it, is not heeded."""
PAUSES = tuple(timedelta(minutes=minutes) for minutes in (2, 5, 10, 15, 28))
"""Between one try and the next: five of them make up the hour."""

_LATE = timedelta(minutes=1)
_CALLED_FOR = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
_NOT_DONE = "not hibernated: "
_SOMEBODY = "somebody wants to use it"
"""How a machine's workflow says that it stayed up, and that it did so because it was woken."""

_LOOK = Options(
    start_to_close_timeout=timedelta(seconds=30),
    schedule_to_close_timeout=PATIENCE,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=60)
    ),
)
"""While nobody knows whether somebody works there, nothing is done."""
_ASK = Options(
    start_to_close_timeout=timedelta(seconds=30),
    schedule_to_close_timeout=timedelta(minutes=5),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=2), maximum_interval=timedelta(seconds=30)
    ),
)


@workflow.defn
class KeepHours:
    """One call of a schedule: wake, or warn and hibernate, and be patient for an hour."""

    @workflow.init
    def __init__(self, call: HoursCall) -> None:
        self._call = call
        scheduled = workflow.info().typed_search_attributes.get(_CALLED_FOR)
        self._called_at: datetime = call.called_at or scheduled or workflow.now()
        self._announced: datetime | None = None
        """When people were told that it hibernates."""
        self._asked = 0
        self._taken_by: int | None = None
        """The generation that took the order."""
        self._why_not = ""
        """What the machine said last when it did not."""

    @workflow.run
    async def run(self, call: HoursCall) -> str:
        """Do it; returns what became of it, for Temporal's UI."""
        look = await self._look()
        if look is None:
            return "nothing is planned for this moment"
        if workflow.now() > look.at + PATIENCE and not self._is_done(look):
            await self._tell(look, "missed", f"{_not(call.act)} at {look.words}: nobody was there")
            return "too late"
        tries, patient_until = 0, look.at + PATIENCE
        while not self._is_done(look):
            now, due = workflow.now(), self._due(look)
            if look.until is not None and due >= look.until:
                why = "kept up longer" if due == look.kept_until else "the next hour comes first"
                await self._tell(look, "left-up", f"{_not(call.act)} at {look.words}: {why}")
                return why
            if due > now:
                await self._announce(look, due)
                tries, patient_until, pause = 0, due + PATIENCE, due - now
            else:
                end = min(patient_until, look.until or patient_until)
                if tries == len(PAUSES) or now >= end:
                    return await self._give_up(look)
                await self._try(look)
                if call.act is HoursAct.WAKE and self._taken_by is not None:
                    break  # what the market says to it is the machine's to tell
                pause = min(PAUSES[tries], end - now)
                tries += 1
            await workflow.sleep(pause, summary=self._why_not or f"for {look.words}")
            found = await self._look()
            if found is None:
                return "not planned any more"
            look = found
        return "done" if self._asked else "it was so already"

    async def _look(self) -> HoursLook | None:
        ask = HoursAsk(
            machine_id=self._call.machine_id, act=self._call.act, called_at=self._called_at
        )
        return await workflow.execute_activity_method(HoursActivities.look_at_hours, ask, **_LOOK)

    def _is_done(self, look: HoursLook) -> bool:
        """Whether there is nothing left to do: what a hand does in between stays as it is."""
        if self._call.act is HoursAct.WAKE:
            return not look.asleep
        if look.asleep:
            return self._taken_by is None or look.phase is MachinePhase.HIBERNATED
        # It took the order and is up: it could not, or it was woken since.
        return self._taken_by is not None and not (
            _failed(look) and look.generation == self._taken_by
        )

    def _due(self, look: HoursLook) -> datetime:
        """When it may be done: not while it is kept up, and nobody is put to sleep without a word."""
        if self._call.act is HoursAct.WAKE:
            return look.at
        due = max(look.at, look.kept_until or look.at)
        if self._announced is None and _runs(look):
            warned = workflow.now() + WARNING
            # A call is heard some moments late: its hour stays its hour.
            return warned if warned - due > _LATE else due
        return due

    async def _announce(self, look: HoursLook, due: datetime) -> None:
        if _runs(look) and (self._announced is None or due > self._announced):
            self._announced = due
            await self._tell(look, f"due-{due:%Y%m%dT%H%M%S}", _warning(look, due), due=due)

    async def _try(self, look: HoursLook) -> None:
        """Ask the machine, unless it is on its way already."""
        if self._call.act is HoursAct.HIBERNATE and self._announced is None:
            self._why_not = f"the machine is {look.phase.value}"
            return
        if self._taken_by is not None and look.asleep:
            return
        self._asked += 1
        answer = await self._order(look)
        self._why_not = answer.why_not
        if answer.accepted:
            self._taken_by = look.generation

    async def _give_up(self, look: HoursLook) -> str:
        if self._taken_by is not None and look.asleep:
            return "on its way"
        why = look.reason.removeprefix(_NOT_DONE) if self._taken_by is not None else self._why_not
        words = f"{_not(self._call.act)} at {look.words}, nor in the hour after: {why}"
        await self._tell(look, "given-up", words)
        return f"given up: {why}"

    async def _order(self, look: HoursLook) -> Answer:
        order = Order(
            machine_id=self._call.machine_id,
            verb=Verb(self._call.act.value),
            actor=ACTOR,
            reason=f"it is {look.words}",
            order_id=f"hours-{workflow.info().run_id}-{self._asked}",
        )
        try:
            return await workflow.execute_activity_method(
                OrderActivities.order_machine, order, summary=order.verb.value, **_ASK
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            return Answer(accepted=False, why_not=error_of(failure).message)

    async def _tell(
        self, look: HoursLook, what: str, summary: str, *, due: datetime | None = None
    ) -> None:
        act, machine_id = self._call.act.value, self._call.machine_id
        event = MachineEvent(
            key=f"{machine_id}/hours/{act}/{look.at:%Y%m%dT%H%M}/{what}",
            machine_id=machine_id,
            kind=EventKind.HOURS,
            at=workflow.now(),
            generation=look.generation,
            summary=summary,
            data={"act": act, "hour": look.at.isoformat()}
            | ({"due": due.isoformat()} if due is not None else {}),
        )
        await workflow.execute_activity_method(
            RecordActivities.record_events, [event], summary=what, **RECORD
        )


@workflow.defn
class HourSchedules:
    """Each live machine has the schedules that its hours want; a destroyed one has none."""

    @workflow.run
    async def run(self) -> int:
        """Look once; returns of how many machines they had to be changed."""
        return await workflow.execute_activity_method(HoursActivities.align_hours, **READ)


def _runs(look: HoursLook) -> bool:
    return look.phase is MachinePhase.RUNNING


def _failed(look: HoursLook) -> bool:
    """Whether the machine says that it could not hibernate, which nobody wanted of it."""
    said = look.reason.startswith(_NOT_DONE) and _SOMEBODY not in look.reason
    return _runs(look) and said


def _not(act: HoursAct) -> str:
    return "not woken" if act is HoursAct.WAKE else "not hibernated"


def _warning(look: HoursLook, due: datetime) -> str:
    minutes = round((due - workflow.now()) / timedelta(minutes=1))
    if due == look.kept_until:
        return f"kept up: it hibernates in {minutes} minutes, not at {look.words}"
    return (
        f"working hours end at {look.words}: it hibernates in {minutes} minutes "
        f"(dumont keep-alive {look.name} postpones it)"
    )
