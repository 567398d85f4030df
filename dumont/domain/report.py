"""What news about its instance means for a machine: a pure decision."""

from __future__ import annotations

from dumont.domain.events import EventKind
from dumont.domain.fleet import InstanceReport, Presence
from dumont.domain.instances import InstanceState, Message
from dumont.domain.machine import ActiveInstance, MachinePhase


class Consequence(Message):
    """What to do about a report."""

    changes_nothing: bool = False
    phase: MachinePhase | None = None
    """The phase to go to; None stays."""
    kind: EventKind = EventKind.INSTANCE_CHANGED
    summary: str = ""
    instance: ActiveInstance | None = None
    """The instance as it is now, when its facts changed."""
    may_start_again: bool = False
    """It is there and does not run: its provider can be asked to start it."""
    gone: bool = False
    """The provider has it no longer: what only its disk had is lost."""


_NOTHING = Consequence(changes_nothing=True)


def consequence(phase: MachinePhase, home: ActiveInstance, report: InstanceReport) -> Consequence:
    """Decide what a report about `home` means.

    Nothing here ends or replaces an instance: its disk may hold the only copy of somebody's work.

    Args:
        phase: RUNNING or STUCK; in any other phase nobody asks.
        home: The instance that the machine lives on.
        report: News from the provider; about another instance it changes nothing.
    """
    if report.instance_id != home.instance_id:
        return _NOTHING
    if report.presence is Presence.GONE:
        return _stuck(
            f"the provider no longer has instance {home.instance_id}; what was only on it is lost",
            kind=EventKind.INSTANCE_LOST,
            gone=True,
        )
    instance = report.instance
    if instance is None or instance.state is InstanceState.UNKNOWN:
        return _NOTHING
    if instance.state is InstanceState.RUNNING:
        now = home.model_copy(
            update={
                "ssh": instance.ssh or home.ssh,
                "usd_per_hour": instance.usd_per_hour
                if instance.usd_per_hour is not None
                else home.usd_per_hour,
            }
        )
        if phase is MachinePhase.STUCK:
            return Consequence(
                phase=MachinePhase.RUNNING, summary="its instance runs again", instance=now
            )
        if now == home:
            return _NOTHING
        return Consequence(summary=_difference(home, now), instance=now)
    if instance.state is InstanceState.STARTING and home.ready_at and report.at < home.ready_at:
        return _NOTHING  # news from before it was ready, delivered late
    return _stuck(
        _INTERRUPTED.get(instance.state, "the provider does not run it"),
        may_start_again=instance.state in (InstanceState.STOPPED, InstanceState.FAILED),
    )


def moved_home(home: ActiveInstance | None, report: InstanceReport) -> ActiveInstance | None:
    """The instance that a machine lived on, when it runs at another address now."""
    seen = report.instance
    if home is None or seen is None or seen.instance_id != home.instance_id:
        return None
    if seen.state is not InstanceState.RUNNING or seen.ssh in (None, home.ssh):
        return None
    return home.model_copy(update={"ssh": seen.ssh})


def why_unusable(report: InstanceReport) -> str | None:
    """Why an instance that nobody has used yet is not worth waiting for; None while it may be.

    An instance that a machine lives on is another matter: see `consequence`.
    """
    if report.presence is Presence.GONE:
        return f"instance {report.instance_id} vanished while starting"
    return _STILLBORN.get(report.instance.state) if report.instance is not None else None


_STILLBORN = {
    InstanceState.STOPPED: "stopped before it was usable: outbid, or it exited",
    InstanceState.OFFLINE: "its host went offline before it was usable",
    InstanceState.FAILED: "the provider reports an error before it was usable",
}

_INTERRUPTED = {
    InstanceState.STOPPED: "its instance is stopped (outbid, out of credit, or it exited); its disk is"
    " kept and goes on billing; it is started again, or resumes when its bid wins again",
    InstanceState.OFFLINE: "the provider lost contact with its host; often it comes back by itself",
    InstanceState.FAILED: "the provider reports an error on its instance",
    InstanceState.STARTING: "its instance is starting again",
}


def _stuck(
    summary: str,
    *,
    kind: EventKind = EventKind.INSTANCE_CHANGED,
    may_start_again: bool = False,
    gone: bool = False,
) -> Consequence:
    return Consequence(
        phase=MachinePhase.STUCK,
        kind=kind,
        summary=summary,
        may_start_again=may_start_again,
        gone=gone,
    )


def _difference(home: ActiveInstance, now: ActiveInstance) -> str:
    parts = []
    if now.ssh != home.ssh:
        parts.append(f"SSH is at {now.ssh.host}:{now.ssh.port} now")
    if now.usd_per_hour != home.usd_per_hour:
        parts.append(f"it costs ${now.usd_per_hour:.4f}/h now")
    return "; ".join(parts)
