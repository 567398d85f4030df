"""The second axis of a machine's life: how safe its workspace is, as its agents and standby tell.

What was heard becomes state and events here; what is done about it is the machine's main loop.
"""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from dumont.domain.events import EventKind
    from dumont.domain.machine import MachinePhase
    from dumont.domain.protection import (
        ActiveStandby,
        AgentNews,
        Authority,
        ProtectionStatus,
        StandbyNews,
    )
    from workflows.chronicle import Chronicle
    from workflows.failover_messages import RESTING, FailoverProgress


_LIVING_ON_STANDBY = (
    MachinePhase.ON_STANDBY,
    MachinePhase.REPLACING,
    MachinePhase.HIBERNATED,
)


class ProtectionAxis:
    """Hears news about protection and keeps it in a machine's chronicle.

    Args:
        life: The machine's state and events.
    """

    def __init__(self, life: Chronicle) -> None:
        self._life = life
        self.going_standby: str | None = None
        """The VM whose own guard says that its provider takes it back, until that is passed on."""

    def hear_agent(self, news: AgentNews) -> str | None:
        """Take in what an agent said; returns why its guard has redirected, if it has."""
        state = self._life.state
        if news.epoch != state.epoch or state.stopping:
            return None
        redirected = None
        home, standby = state.instance, state.standby
        if news.guard is not None and standby and news.instance_id == standby.instance_id:
            if news.guard.preempting:
                self.going_standby = standby.instance_id
            if news.guard.authority is Authority.STANDBY:
                redirected = news.guard.cause or "the standby lost the link to the GPU"
        from_home = home is not None and news.instance_id == home.instance_id
        if news.protection is not None and from_home and state.phase is MachinePhase.RUNNING:
            self._settle(news.protection.status, news.protection.reason)
        return redirected

    def hear_standby(self, news: StandbyNews) -> None:
        """Take in where the standby is, and whether its first copy is complete."""
        complete = news.mirrored_epoch == self._life.state.epoch and news.mirrored_epoch > 0
        if news.standby != self._life.state.standby or (complete and not self._life.state.mirrored):
            # Another standby knows nothing yet; the same one at another address has its disk.
            same = (
                news.standby is not None
                and self._life.state.standby is not None
                and news.standby.instance_id == self._life.state.standby.instance_id
            )
            lost = self._life.state.standby
            self._life.change(
                standby=news.standby,
                # Whatever comes next counts on from the highest number there was.
                standbys_used=max(self._life.state.standbys_used, lost.number if lost else 0),
                mirrored=complete or news.whole or (same and self._life.state.mirrored),
            )
        if news.kept != self._life.state.kept_standby:
            self._life.change(kept_standby=news.kept)
        self._settle(news.status, news.reason)

    def hear_failover(self, progress: FailoverProgress) -> None:
        """Show how far the failover under way is."""
        if progress.number != self._life.state.failovers or self._life.state.stopping:
            return
        phase = MachinePhase.REPLACING if progress.replacing else self._life.state.phase
        resting = progress.step == RESTING
        if resting:
            phase = MachinePhase.HIBERNATED
        if self._life.state.phase in _LIVING_ON_STANDBY:
            self._life.move(
                phase,
                progress.summary,
                kind=EventKind.HIBERNATED if resting else None,
                epoch=max(progress.epoch, self._life.state.epoch),
                generations_used=max(progress.generation, self._life.state.generations_used),
            )

    def _settle(self, status: ProtectionStatus, reason: str) -> None:
        """Note how safe the workspace is, when that has changed."""
        if status is ProtectionStatus.PROTECTED and not self._life.state.mirrored:
            status, reason = ProtectionStatus.MIRRORING, "the first copy is under way"
        if (status, reason) == (self._life.state.protection, self._life.state.protection_reason):
            return
        changed = status is not self._life.state.protection
        self._life.change(protection=status, protection_reason=reason)
        if changed:
            summary = f"{status.value}: {reason}" if reason else status.value
            self._life.note(EventKind.PROTECTION_CHANGED, summary)
        self._life.show()

    def why_no_failover(self) -> str | None:
        """Why the machine could not live on its standby now; None when it could."""
        state = self._life.state
        if state.phase is not MachinePhase.RUNNING or state.instance is None:
            return f"the machine is {state.phase.value}"
        if state.standby is None:
            return f"it has no standby: {state.protection_reason or 'it is not protected'}"
        if not state.mirrored:
            return "its standby has not everything yet: the first copy is under way"
        return None

    def can_live_on(self, standby: ActiveStandby | None) -> bool:
        """Whether a machine that is stuck without its GPU has a standby again that has the files."""
        state = self._life.state
        stuck = state.phase is MachinePhase.STUCK and state.instance is not None
        return stuck and standby is not None and state.mirrored

    def why_no_drill(self) -> str | None:
        """Why nobody should fail over on purpose now; None when they may.

        Right after a failback the standby has everything up to it, which serves a GPU that is lost then;
        to lose one on purpose would lose what was written since.
        """
        state = self._life.state
        why = self.why_no_failover()
        if why is None and state.protection is ProtectionStatus.MIRRORING:
            return "its standby has not everything yet: the mirror is beginning anew"
        return why
