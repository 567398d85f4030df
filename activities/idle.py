"""Watching for machines that nobody uses: judging them, warning on them, and seeing that it still holds.

Unknown is active throughout: a machine that cannot be looked at, a minute without a word, a clock that
jumped or a sweep that was missed never ends anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from temporalio import activity

from activities.heartbeat import heartbeating
from activities.orders import Answer, Order, Verb
from dumont.domain.errors import DumontError
from dumont.domain.idle import (
    MINUTE,
    IdlePolicy,
    IdleState,
    Judgement,
    KeepAlive,
    Sample,
    Says,
    Step,
    next_step,
    refused,
)
from dumont.domain.idle_watch import (
    judge_now,
    looks_back,
    reading_of,
    refusal,
    warning,
    withdrawal,
)
from dumont.domain.instances import Message, SshAddress
from dumont.domain.machine import MachinePhase, MachineState
from dumont.ports import ActivityStore, MachineAgent, MachineStore, OwnedMachine

ACTOR: Final = "idleness"

_SILENT_S: Final = 30.0
"""A machine that was not seen for this long is looked at: its daemon, where there is one, beats every
5 s. Shorter than the time between our own looks of two sweeps."""
_FRESH_S: Final = 10.0
"""The same right before an order."""
_LOOK_S: Final = 20.0
_ALL_LOOKS_S: Final = 40.0
_AT_ONCE: Final = 50
"""Machines looked at over SSH at the same time."""
_TELL_S: Final = 15.0
_BATCH: Final = 500
_MOST: Final = 200
"""Moves of one sweep; the others wait a minute."""
_URGENT: Final = {Step.WITHDRAW: 0, Step.ACT: 1, Step.WARN: 2}


class IdleMove(Message):
    """What is to be done about one machine."""

    machine_id: str
    name: str
    generation: int
    step: Step
    judgement: Judgement
    state: IdleState
    """As it is to be noted when the step is done; of a withdrawal, as it was."""
    ssh: SshAddress


class OrderGiven(Message):
    """Input of `note_idle_order`."""

    move: IdleMove
    answer: Answer


class _Known(NamedTuple):
    """What is stored about the machines of a batch."""

    now: datetime
    policies: dict[str, IdlePolicy]
    keep_alives: dict[str, KeepAlive]
    states: dict[str, IdleState]


class IdleActivities:
    """Looks, warns and takes notes.

    Args:
        store: The machines and their events.
        watched: What they do, and what owners want.
        agent: Reaches those that do not report by themselves.
        can_hibernate: Whether this deployment can: without, nobody is looked at, warned or ordered.
    """

    def __init__(
        self,
        *,
        store: MachineStore,
        watched: ActivityStore,
        agent: MachineAgent,
        can_hibernate: bool,
    ) -> None:
        self._store = store
        self._watched = watched
        self._agent = agent
        self._can_hibernate = can_hibernate

    @activity.defn
    async def look_for_idle(self) -> list[IdleMove]:
        """Judge every machine that runs; returns what is to be done, the most urgent first."""
        async with heartbeating():
            await self._watched.settle()
            if not self._can_hibernate:
                return []
            running = [each for each in await self._store.live_machines() if _runs(each)]
            policies = await self._watched.policies(_ids(running))
            await self._observe_silent(
                [each for each in running if _policy(policies, each).enabled], silent_s=_SILENT_S
            )
            moves: list[IdleMove] = []
            for start in range(0, len(running), _BATCH):
                moves += await self._judge(running[start : start + _BATCH])
        return sorted(moves, key=lambda move: _URGENT[move.step])[:_MOST]

    @activity.defn
    async def warn_idle(self, move: IdleMove) -> None:
        """Warn on the machine itself and in its events; only then does the time run."""
        assert move.state.act_at is not None
        async with heartbeating():
            terminals = await self._tell(
                move,
                f"Nobody seems to use {move.name}: it hibernates at {move.state.act_at:%H:%M} UTC, "
                "with every file. To keep it up press a key, or run: dumont-keep-alive 2h",
            )
        event = warning(
            move.judgement,
            move.state,
            machine_id=move.machine_id,
            name=move.name,
            generation=move.generation,
            terminals=terminals,
        )
        await self._store.record_events([event])
        await self._watched.set_state(move.machine_id, move.state, generation=move.generation)

    @activity.defn
    async def withdraw_warning(self, move: IdleMove) -> None:
        """Tell those who were warned that nothing will happen."""
        used = "It was used after the warning."
        why = used if move.judgement.idle else move.judgement.reason
        event = withdrawal(
            move.state,
            why,
            machine_id=move.machine_id,
            name=move.name,
            generation=move.generation,
            at=await self._watched.now(),
        )
        await self._store.record_events([event])
        await self._watched.set_state(move.machine_id, IdleState(), generation=move.generation)
        async with heartbeating():
            await self._tell(move, f"{move.name} stays up. {why}")

    @activity.defn
    async def confirm_idle(self, move: IdleMove) -> Order | None:
        """Judge once more, on what is known by now; returns the order if everything still holds."""
        async with heartbeating():
            owned = await self._store.owned_machines([move.machine_id])
            if not owned or not _runs(owned[0]) or owned[0].state.generation != move.generation:
                return None
            await self._observe_silent(owned, silent_s=_FRESH_S)
            heard = await self._watched.last_heard([move.machine_id])
            if heard.get(move.machine_id, _SILENT_S) >= _SILENT_S:
                return None
            again = await self._judge(owned)
        if not again or again[0].step is not Step.ACT:
            return None
        state = again[0].state
        assert state.warned_at is not None
        return Order(
            machine_id=move.machine_id,
            verb=Verb.HIBERNATE,
            actor=ACTOR,
            reason=again[0].judgement.reason,
            order_id=f"idle/{move.machine_id}/{state.warned_at.isoformat()}",
        )

    @activity.defn
    async def note_idle_order(self, given: OrderGiven) -> None:
        """Note what the machine said. One that does not hibernate in spite of it is asked again later.

        A machine that took the order and is still up later failed to hibernate, which its own events
        explain; once it woke it is another generation, and all of this is forgotten.
        """
        move, answer = given.move, given.answer
        now = await self._watched.now()
        why = answer.why_not or "it said no" if not answer.accepted else "it was ordered and is up"
        if not answer.accepted and not move.state.refusals:
            event = refusal(
                why,
                machine_id=move.machine_id,
                name=move.name,
                generation=move.generation,
                warned_at=move.state.warned_at,
                at=now,
            )
            await self._store.record_events([event])
        await self._watched.set_state(
            move.machine_id, refused(move.state, why, now), generation=move.generation
        )

    async def _judge(self, machines: Sequence[OwnedMachine]) -> list[IdleMove]:
        """What is to be done about these machines. Notes what changed where nothing is to be done."""
        ids = _ids(machines)
        known = _Known(
            await self._watched.now(),
            await self._watched.policies(ids),
            await self._watched.keep_alives(ids),
            await self._watched.states({m.spec.machine_id: m.state.generation for m in machines}),
        )
        concerned = [
            each
            for each in machines
            if _policy(known.policies, each).enabled or each.spec.machine_id in known.states
        ]
        moves = []
        for each, judgement in await self._judgements(concerned, known):
            machine_id = each.spec.machine_id
            before = known.states.get(machine_id, IdleState())
            step, state = next_step(judgement, before, _policy(known.policies, each), known.now)
            if step is not Step.NOTHING:
                moves.append(
                    _move(each, step, judgement, before if step is Step.WITHDRAW else state)
                )
            elif state != before:
                await self._watched.set_state(machine_id, state, generation=each.state.generation)
        return moves

    async def _judgements(
        self, machines: Sequence[OwnedMachine], known: _Known
    ) -> list[tuple[OwnedMachine, Judgement]]:
        """Most machines are in use, which the last minutes show; only for the others is more read."""
        short = max(
            (timedelta(seconds=_policy(known.policies, m).stale_s) for m in machines),
            default=timedelta(0),
        )
        found: list[tuple[OwnedMachine, Judgement]] = []
        rest: list[OwnedMachine] = []
        for each, judgement in await self._over(machines, known, short + MINUTE):
            if any(signal.says is Says.ACTIVE for signal in judgement.signals):
                found.append((each, judgement))
            else:
                rest.append(each)
        long = max((looks_back(_policy(known.policies, m)) for m in rest), default=short)
        return found + await self._over(rest, known, long)

    async def _over(
        self, machines: Sequence[OwnedMachine], known: _Known, span: timedelta
    ) -> list[tuple[OwnedMachine, Judgement]]:
        if not machines:
            return []
        since = (known.now - span).replace(second=0, microsecond=0)
        samples = await self._watched.samples(_ids(machines), since=since)
        judged = []
        for each in machines:
            judged.append((each, _judged(each, samples, known)))
            await asyncio.sleep(0)  # thousands of machines must not hold up what else runs here
        return judged

    async def _observe_silent(self, machines: Sequence[OwnedMachine], *, silent_s: float) -> None:
        """Look at machines whose daemon does not report. What cannot be seen in time stays unknown."""
        heard = await self._watched.last_heard(_ids(machines))
        silent = [
            each for each in machines if heard.get(each.spec.machine_id, silent_s) >= silent_s
        ]
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def look(machine: OwnedMachine) -> None:
            async with at_once:
                await self._observe(machine)

        looks = [asyncio.create_task(look(each)) for each in silent]
        if looks:
            _, late = await asyncio.wait(looks, timeout=_ALL_LOOKS_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*looks, return_exceptions=True)

    async def _observe(self, machine: OwnedMachine) -> None:
        assert machine.state.instance is not None
        machine_id = machine.spec.machine_id
        try:
            host = await self._agent.call(
                machine.state.instance.ssh,
                machine_id=machine_id,
                words=["observe"],
                timeout_s=_LOOK_S,
            )
            await self._watched.add(machine_id, reading_of(host))
        except DumontError as error:
            activity.logger.info("%s cannot be looked at: %s", machine_id, error.message)

    async def _tell(self, move: IdleMove, text: str) -> int | None:
        """Say something on a machine's terminals; on how many, or None when it cannot be reached."""
        try:
            answer = await self._agent.call(
                move.ssh,
                machine_id=move.machine_id,
                words=["tell"],
                stdin=text.encode(),
                timeout_s=_TELL_S,
            )
        except DumontError as error:
            activity.logger.info("%s was not told: %s", move.machine_id, error.message)
            return None
        reached = answer.get("terminals")
        return reached if isinstance(reached, int) and 0 <= reached < 10_000 else None


def _runs(machine: OwnedMachine) -> bool:
    state = machine.state
    there = state.phase is MachinePhase.RUNNING and state.instance is not None
    return there and not state.stopping


def _ids(machines: Sequence[OwnedMachine]) -> list[str]:
    return [each.spec.machine_id for each in machines]


def _policy(policies: dict[str, IdlePolicy], machine: OwnedMachine) -> IdlePolicy:
    return policies.get(machine.spec.machine_id, IdlePolicy())


def _judged(machine: OwnedMachine, samples: dict[str, list[Sample]], known: _Known) -> Judgement:
    assert machine.state.instance is not None
    machine_id = machine.spec.machine_id
    return judge_now(
        samples.get(machine_id, []),
        policy=_policy(known.policies, machine),
        now=known.now,
        keep_alive=known.keep_alives.get(machine_id),
        started_at=_usable_since(machine.state),
    )


def _usable_since(state: MachineState) -> datetime | None:
    """An instance may be ready long before its files are back and people may begin."""
    home = state.instance.ready_at if state.instance is not None else None
    return max((at for at in (home, state.running_since) if at is not None), default=None)


def _move(machine: OwnedMachine, step: Step, judgement: Judgement, state: IdleState) -> IdleMove:
    assert machine.state.instance is not None
    return IdleMove(
        machine_id=machine.spec.machine_id,
        name=machine.spec.name,
        generation=machine.state.generation,
        step=step,
        judgement=judgement,
        state=state,
        ssh=machine.state.instance.ssh,
    )
