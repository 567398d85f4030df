"""The sweep over leftovers: gathers what is there and both witnesses; the domain decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

from temporalio import activity

from activities.heartbeat import heartbeating
from activities.sweep import DescribeOwner
from dumont.domain.errors import RequestRefused
from dumont.domain.instances import Message
from dumont.domain.leftovers import (
    Fate,
    Leftover,
    LeftoverKind,
    LeftoverLimits,
    LeftoverPlan,
    decide,
    sightings_of,
    suspicion,
)
from dumont.domain.machine import MachineState
from dumont.domain.reconcile import Owner
from dumont.ports import LeftoverStore, MachineStore

FindLeftovers = Callable[[str], Awaitable[Sequence[Leftover]]]
"""What is left at one source, for an environment. Complete, or it raises."""

EndLeftover = Callable[[Leftover], Awaitable[None]]
"""Ends one; one that is gone is success. Raises RequestRefused when something uses it."""


class LeftoverSurvey(Message):
    """Input of `survey_leftovers`."""

    env: str
    limits: LeftoverLimits = LeftoverLimits()


class EndAsk(Message):
    """Input of `end_leftover`."""

    env: str
    leftover: Leftover


class EndAnswer(Message):
    """What became of it."""

    ended: bool
    said: str = ""
    """Why not."""


class LeftoverActivities:
    """Looks at one source, and ends what has no owner there.

    Args:
        source: Names it: what was found there is kept under this name.
        find: What is left there.
        end: Ends one of those that are not instances.
        machines: One witness.
        describe_owner: The other one.
        store: Where what was found is shown from.
    """

    def __init__(
        self,
        *,
        source: str,
        find: FindLeftovers,
        end: EndLeftover,
        machines: MachineStore,
        describe_owner: DescribeOwner,
        store: LeftoverStore,
    ) -> None:
        self._source = source
        self._find = find
        self._end = end
        self._machines = machines
        self._describe_owner = describe_owner
        self._store = store

    @activity.defn
    async def survey_leftovers(self, ask: LeftoverSurvey) -> LeftoverPlan:
        """Find, price and judge what is left; returns what there is to do or to tell.

        Whatever does not answer fails the whole survey: then nothing is decided, and what the last
        one found stays on show with its time.
        """
        async with heartbeating():
            now = datetime.now(UTC)
            found = list(await self._find(ask.env))
            records = await self._records({each.machine_id for each in found if _is_asked(each)})
            # A machine that lives has its schedules: nothing to show, and nobody to ask.
            found = [each for each in found if not _belongs(each, records)]
            owners = await self._owners(
                {each.machine_id for each in found if _is_asked(each)}, records
            )
            first_seen = await self._machines.record_sightings(
                provider=f"leftovers/{self._source}",
                keys=sightings_of(found, owners, env=ask.env),
                at=now,
            )
            plan = decide(found, owners, first_seen, env=ask.env, now=now, limits=ask.limits)
            if plan.blocked:
                activity.logger.error("sweep over leftovers blocked: %s", plan.blocked)
            await self._store.record_survey(self._source, plan, at=now)
            to_tell = tuple(each for each in plan.found if each.fate is not Fate.KEPT)
            return plan.model_copy(update={"found": to_tell})

    @activity.defn
    async def end_leftover(self, ask: EndAsk) -> EndAnswer:
        """End one, after both witnesses were asked once more. Safe to repeat."""
        async with heartbeating():
            whose = {ask.leftover.machine_id}
            owners = await self._owners(whose, await self._records(whose))
            owner = owners.get(ask.leftover.machine_id)
            if suspicion(ask.leftover, env=ask.env, owner=owner) is None:
                return EndAnswer(ended=False, said="it has an owner again")
            try:
                await self._end(ask.leftover)
            except RequestRefused as error:
                return EndAnswer(ended=False, said=error.message)
            return EndAnswer(ended=True)

    async def _records(self, machine_ids: set[str]) -> dict[str, MachineState]:
        found = await self._machines.owned_machines(sorted(machine_ids))
        return {each.spec.machine_id: each.state for each in found}

    async def _owners(
        self, machine_ids: set[str], records: Mapping[str, MachineState]
    ) -> dict[str, Owner]:
        owners = {}
        for machine_id in sorted(machine_ids):
            status, generation = await self._describe_owner(machine_id)
            owners[machine_id] = Owner(
                workflow=status,
                workflow_generation=generation,
                record=records.get(machine_id),
            )
        return owners


def _is_asked(leftover: Leftover) -> bool:
    return leftover.kind is not LeftoverKind.BUCKET_PREFIX


def _belongs(leftover: Leftover, records: Mapping[str, MachineState]) -> bool:
    record = records.get(leftover.machine_id)
    lives = record is not None and not record.phase.final
    return lives and leftover.kind is LeftoverKind.SCHEDULE
