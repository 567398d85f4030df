"""What a machine's workflow knows and tells: its state, its events, and their record.

The workflow decides; this remembers, and projects each change beside the life itself.
"""

from __future__ import annotations

from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from dumont.domain.events import EventKind, MachineEvent
    from dumont.domain.machine import TRANSITIONS, MachinePhase, MachineSpec, MachineState
    from dumont.ports import MachineRecord
    from dumont.temporal import search_attributes as attributes
    from workflows.options import RECORD


class Chronicle:
    """The state of one machine and what is still to be written down.

    Args:
        spec: What its owner asked for.
        state: As carried through continue-as-new; None for a new machine.
    """

    def __init__(self, spec: MachineSpec, state: MachineState | None) -> None:
        self._spec = spec
        self.state = state or MachineState()
        self._events: list[MachineEvent] = []
        """Not yet recorded."""
        self._recorded_version = -1 if state is None else self.state.version

    def move(
        self,
        phase: MachinePhase,
        reason: str,
        *,
        kind: EventKind | None = None,
        data: dict[str, object] | None = None,
        **changes: object,
    ) -> None:
        """Go to another phase, or stay in it with another reason."""
        assert phase is self.state.phase or phase in TRANSITIONS[self.state.phase]
        self.state = self.state.model_copy(update={"phase": phase, "reason": reason})
        if kind is not None:
            self.note(kind, reason, data=data, **changes)
        else:
            self.change(**changes)
        self.show()

    def note(
        self,
        kind: EventKind,
        summary: str,
        *,
        data: dict[str, object] | None = None,
        **changes: object,
    ) -> None:
        """Add a line to the event log, together with the change it tells."""
        self.change(**changes)
        self._events.append(
            MachineEvent(
                key=f"{self._spec.machine_id}/v{self.state.version}",
                machine_id=self._spec.machine_id,
                kind=kind,
                at=workflow.now(),
                generation=self.state.generation,
                summary=summary,
                data={**(data or {}), "phase": self.state.phase.value},
            )
        )

    def change(self, **changes: object) -> None:
        """Change the state; the projection follows."""
        self.state = self.state.model_copy(update={**changes, "version": self.state.version + 1})

    async def keep_records(self) -> None:
        """Project each change, beside the life itself: a database that is down delays no destroy.

        It wakes only on what the main loop has changed, so its command always comes after those of
        the main loop. Were it woken by a handler, the order of the two would hang on how a replay
        groups the workflow tasks.
        """
        while True:
            await workflow.wait_condition(lambda: not self.is_recorded())
            state, events = self.state, tuple(self._events)
            await workflow.execute_activity_method(
                RecordActivities.record_machine,
                MachineRecord(spec=self._spec, state=state, at=workflow.now(), events=events),
                summary=f"record {state.phase.value}",
                **RECORD,
            )
            self._recorded_version = state.version
            del self._events[: len(events)]

    def is_recorded(self) -> bool:
        """Whether the projection shows the newest state."""
        return self._recorded_version == self.state.version and not self._events

    async def all_recorded(self) -> None:
        """Wait until it does."""
        await workflow.wait_condition(self.is_recorded)

    def show(self) -> None:
        """Tell Temporal's UI what this machine is and where it stands."""
        state, home = self.state, self.state.gpu
        workflow.upsert_search_attributes(
            [
                attributes.STATE.value_set(state.phase.value),
                attributes.OWNER.value_set(self._spec.owner_id),
                attributes.GPU.value_set(self._spec.requirement.gpu),
                attributes.PROTECTION.value_set(state.protection.value),
                attributes.GENERATION.value_set(state.generation),
                attributes.HOURLY_USD.value_set((home.usd_per_hour or 0.0) if home else 0.0),
            ]
        )
        workflow.set_current_details(_details(self._spec, state))


def _details(spec: MachineSpec, state: MachineState) -> str:
    lines = [f"### {spec.name}: {state.phase.value}", state.reason]
    home = state.gpu
    if home is not None:
        price = "unknown" if home.usd_per_hour is None else f"${home.usd_per_hour:.3f}/h"
        lines.append(
            f"`{home.label}` is {home.provider} instance `{home.instance_id}`: "
            f"{home.gpu_count}x {home.gpu}, {home.region or 'place unknown'}, {price}"
        )
    if state.next_try_at is not None:
        lines.append(f"next try {_clock(state.next_try_at)}")
    return "\n\n".join(line for line in lines if line)


def _clock(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
