"""The time on the standby: was it written to, is anybody there, may the authority go back quietly.

All of this takes its time (the whole workspace is looked at), so it has a thread of its own and holds
the guard's lock only for the moment in which something changes.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from dumont.agent import authority, guard_receivers, guard_texts
from dumont.agent import sessions as logins
from dumont.agent.context import timestamp
from dumont.agent.errors import AgentError
from dumont.agent.guard_written import changed_since, judge, newest_change

if TYPE_CHECKING:
    from dumont.agent.authority import State
    from dumont.agent.guard import Guard

QUIESCED_S = 900.0
"""A quiescing that nobody ends is ended, or a dead control plane would lock everybody out."""

_TURN_S = 0.5
_ACTIVITY_S = 2.0
_HEAL_S = (2.0, 300.0)
"""For how long the link must have been up; doubled when it was lost again soon."""
_FLAPPING_S = 600.0
_BUSY_BYTES_S = 400
"""More than an idle SSH connection sends, with VS Code's keep-alives in it."""
_BUSY_CPU = 0.2
_SCAN_SHARE = 20
"""Looking at the workspace takes at most a twentieth of the time."""


class Custody:
    """Looks after the workspace while the standby has the authority."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._closed = threading.Event()
        self._quiesced_at: float | None = None
        self._heal_after_s = _HEAL_S[0]
        self._healed_at: float | None = None
        self._next_scan = 0.0
        self._taken_at = time.monotonic()
        self._people: list[logins.Session] | None = None
        self._people_at = 0.0
        self._active_at: float | None = None
        self._sample: tuple[float, int, float] | None = None

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="custody", daemon=True).start()

    def close(self) -> None:
        """End."""
        self._closed.set()

    def standby_sessions(self) -> int | None:
        """How many people are on this machine; None: unknown."""
        if self._people is not None and time.monotonic() - self._people_at < 3 * _ACTIVITY_S:
            return len(self._people)
        look = self._guard.look
        return None if look is None else look.standby.sessions

    def sessions(self) -> dict[str, Any]:
        """Who is here and how long nobody has done anything; see `docs/protection.md`."""
        guard = self._guard
        look = guard.fresh_look()
        self._observe()
        workers = self.workers()
        people = self._people or []
        return {
            "sessions": [each.document() for each in people],
            "endpoint_sessions": None if look is None else look.sessions,
            "standby_sessions": len(people),
            "idle_s": None if look is None else self._idle_s(),
            "processes": [{"pid": pid, "command": logins.command_of(pid)} for pid in workers[:50]],
        }

    def workers(self) -> list[int]:
        """Processes of people that work in the workspace."""
        spare = [pid for pid, _, _ in guard_receivers.living(self._guard.paths.run)]
        return logins.working(self._guard.paths.workspace, spare=spare)

    def _run(self) -> None:
        while not self._closed.wait(_TURN_S):
            try:
                self._turn()
            except AgentError as error:
                self._guard.log.warning("custody: %s", error.message)
            except Exception:
                self._guard.log.exception("custody")

    def _turn(self) -> None:
        state = self._guard.state
        if state is None or state.authority != authority.STANDBY:
            self._people = self._active_at = self._sample = self._quiesced_at = None
            self._next_scan = 0.0
            self._taken_at = time.monotonic()
            return
        self._end_quiescing(state)
        if time.monotonic() - self._people_at >= _ACTIVITY_S:
            self._observe()
        if state.written is not True and time.monotonic() >= self._next_scan:
            self._judge()
        self._heal()
        self._guard.publish()

    def _end_quiescing(self, state: State) -> None:
        if not state.quiesced:
            self._quiesced_at = None
        elif self._quiesced_at is None:
            self._quiesced_at = time.monotonic()
        elif time.monotonic() - self._quiesced_at > QUIESCED_S:
            self._guard.log.warning("nobody handed back: logins again")
            after = self._guard.change(lambda s: authority.unquiesce(s, lapsed=True))
            self._guard.settle(after)

    def _judge(self) -> None:
        guard = self._guard
        began = time.monotonic()
        state = guard.state
        if state is None:
            return
        written = judge(state.baseline, guard.fresh_look(), guard.paths.workspace)
        since = state.since
        guard.change(lambda s: authority.observe_written(s, written) if s.since == since else s)
        took = time.monotonic() - began
        self._next_scan = time.monotonic() + max(1.0, _SCAN_SHARE * took)

    def _heal(self) -> None:
        """Give the authority back when nobody will notice."""
        guard = self._guard
        state = guard.state
        flapping = self._healed_at is not None and time.monotonic() - self._healed_at < _FLAPPING_S
        patience = self._heal_after_s if flapping else _HEAL_S[0]
        if (
            state is None
            or not authority.may_heal(state)
            or guard.preemption.preempting
            or min(guard.link.up_for(), time.monotonic() - self._taken_at) < patience
        ):
            return
        before = guard.fresh_look()
        if before is None or before.standby.sessions or guard.logins() or self.workers():
            return
        if judge(state.baseline, before, guard.paths.workspace) is not False:
            return
        with guard.lock:
            # Nobody may come in between the last look and the move.
            guard.endpoint.admit(False)
            try:
                now = guard.endpoint.look()
                if (now.pid, now.standby.total) != (before.pid, before.standby.total):
                    return
                if now.standby.sessions or guard.state != state:
                    return
                after = guard.change(lambda s: authority.heal(s, now=timestamp()))
                guard.settle(after)
            finally:
                guard.endpoint.admit(True)
        self._heal_after_s = min(2 * patience, _HEAL_S[1])
        self._healed_at = time.monotonic()
        guard.log.warning("healed: the link came back and nothing was written")
        guard.told(guard_texts.healed(guard.context.config.name))

    def _observe(self) -> None:
        """Note who is here and whether anybody did something since the last time."""
        guard = self._guard
        self._people = guard.logins()
        self._people_at = time.monotonic()
        look = guard.fresh_look()
        workers = self.workers()
        if look is None:
            self._sample = None
            return
        sample = (time.monotonic(), look.standby.bytes_in, logins.cpu_seconds(workers))
        before, self._sample = self._sample, sample
        idle = [each.idle_s for each in self._people if each.idle_s is not None]
        if idle:
            self._active(time.time() - min(idle))
        if before is not None and sample[0] - before[0] > 0.2:
            seconds = sample[0] - before[0]
            typed = (sample[1] - before[1]) / seconds > _BUSY_BYTES_S
            if typed or (sample[2] - before[2]) / seconds > _BUSY_CPU:
                self._active(time.time())

    def _idle_s(self) -> float | None:
        """Seconds since anybody typed, computed or wrote; since the redirect when nobody did."""
        state = self._guard.state
        if state is None or state.authority != authority.STANDBY:
            return None
        began = time.time() - (time.monotonic() - self._taken_at)
        if isinstance(state.baseline, dict):
            began = float(state.baseline["wall"])
        latest = max(began, self._active_at or 0.0)
        if changed_since(self._guard.paths.workspace, latest) is not False:
            changed = newest_change(self._guard.paths.workspace)
            if changed is None:
                return None
            latest = max(latest, changed)
        return round(max(0.0, time.time() - latest), 1)

    def _active(self, moment: float) -> None:
        self._active_at = max(moment, self._active_at or 0.0)
