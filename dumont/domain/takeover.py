"""What to do about a lost link, and the account of how it went: pure parts of a failover."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from dumont.domain.instances import InstanceState, Message, SshAddress
from dumont.domain.machine import ActiveInstance, MachineSpec
from dumont.domain.protection import (
    ActiveStandby,
    Authority,
    Barrier,
    GuardReport,
    ProtectionReport,
)
from dumont.domain.receipts import MAX_NAMES, Body, Receipt, Unreplicated
from dumont.domain.verdict import Sign, Source, Witness, may_replace


class BodiesSeen(Message):
    """What can be learned over the network, without the provider."""

    at: datetime
    guard: GuardReport | None = None
    """None: the standby could not be asked."""
    primary_answers: bool | None = None
    """Whether a whole SSH login from here to the primary succeeded; None was not tried."""
    primary_words: str = ""
    heartbeat_at: datetime | None = None
    """When the primary's agent was last heard, by our database's clock."""
    last_report: ProtectionReport | None = None
    """What it said of the mirror then."""


class ProviderView(Message):
    """What the provider says about one instance."""

    at: datetime
    answered: bool = False
    """False: no evidence of anything."""
    present: bool | None = None
    """False only when the list and the instance's own page agree."""
    state: InstanceState | None = None
    detail: str = ""
    ssh: SshAddress | None = None
    """Where it answers now, if it does: one that comes back may have another address."""


class Restored(Message):
    """What a restore brought back."""

    files: int = 0
    bytes: int = 0
    verified: int = 0
    """Entries compared by hash on both sides."""
    seconds: float = 0.0
    conflicts: tuple[str, ...] = ()
    """Divergent files of a returning primary, kept beside the workspace."""


class Evidence(Message):
    """Everything that is known about a lost link at one moment."""

    epoch: int
    """The authority that the machine believes in."""
    at: datetime
    bodies: BodiesSeen
    provider: ProviderView


class Decision(StrEnum):
    """What the evidence asks for."""

    WAIT = "wait"
    """Not enough is known; work goes on on the standby meanwhile."""
    HEALED = "healed"
    """The guard has given the authority back: nothing was written, nothing is to be done."""
    RETURN = "return"
    """The same instance is well again; the standby was used, so its files go back first."""
    REPLACE = "replace"
    """It is lost: rent another."""


STEADY = timedelta(seconds=10)
"""A link that is back must stay back so long. Meanwhile the guard heals quietly what was not used, and a
link that flaps costs more than it gives."""


@dataclass(kw_only=True)
class Account:
    """What a receipt is made of, gathered on the way."""

    number: int
    cause: str
    drill: bool
    detected_at: datetime
    former: ActiveInstance
    standby: ActiveStandby
    epoch_before: int
    timeline: dict[str, datetime] = field(default_factory=dict)
    evidence: Evidence | None = None
    guard: GuardReport | None = None
    barrier: Barrier | None = None
    adopted: ActiveInstance | None = None
    restored: Restored | None = None
    final: Restored | None = None
    quiesced_s: float | None = None

    def reached(self, phase: str, at: datetime) -> None:
        """Note when a phase was reached; when it is reached again, the last time counts."""
        self.timeline[phase] = at


def decide(evidence: Evidence, *, moved: bool = False) -> Decision:
    """What the evidence asks for. Nothing is rented or ended on one witness alone.

    Args:
        evidence: All there is now.
        moved: The instance runs at another address than the guard knows: its link says nothing.
    """
    guard = evidence.bodies.guard
    provider = evidence.provider
    if guard is None:
        return Decision.WAIT  # nothing can be fenced or restored without it
    ended = provider.present is False or provider.state in _ENDED
    if guard.authority is Authority.PRIMARY and guard.link == "up":
        return Decision.WAIT if ended else Decision.HEALED
    if moved and provider.state is InstanceState.RUNNING and evidence.bodies.primary_answers:
        return Decision.RETURN
    if guard.link == "up" and evidence.bodies.primary_answers and not ended:
        return Decision.RETURN if _is_steady(guard, evidence.at) else Decision.WAIT
    if guard.link == "up":
        return Decision.WAIT
    if ended and guard.link == "down":
        return Decision.REPLACE  # the provider's proof, and the link: there is nothing to wait for
    return Decision.REPLACE if may_replace(witnesses(evidence), now=evidence.at) else Decision.WAIT


def _is_steady(guard: GuardReport, now: datetime) -> bool:
    """The link has been back for a while, and the guard had the time to heal by itself."""
    times = (guard.link_since, guard.since)
    return all(at is not None and now - at >= STEADY for at in times)


def witnesses(evidence: Evidence) -> list[Witness]:
    """The evidence in the words of verdicts."""
    bodies, provider = evidence.bodies, evidence.provider
    found = []
    guard = bodies.guard
    if guard is not None:
        found.append(
            Witness(
                source=Source.LINK,
                sign={"up": Sign.ALIVE, "down": Sign.LOST}.get(guard.link, Sign.SILENT),
                words=f"the standby's link to it is {guard.link}",
                news_at=bodies.at,
                since=guard.link_since or guard.since,
            )
        )
    if bodies.primary_answers is not None:
        found.append(
            Witness(
                source=Source.SSH,
                sign=Sign.ALIVE if bodies.primary_answers else Sign.LOST,
                words="a login to it succeeds" if bodies.primary_answers else bodies.primary_words,
                news_at=bodies.at,
            )
        )
    found.append(
        Witness(
            source=Source.HEARTBEAT,
            sign=Sign.SILENT if bodies.heartbeat_at is None else Sign.ALIVE,
            words=_heartbeat_words(evidence),
            news_at=bodies.heartbeat_at,
        )
    )
    found.append(
        Witness(
            source=Source.PROVIDER,
            sign=_provider_sign(provider),
            words=_provider_words(provider),
            news_at=provider.at if provider.answered else None,
        )
    )
    return found


_ENDED = frozenset({InstanceState.STOPPED, InstanceState.FAILED})
"""States in which the provider itself says that nothing runs. OFFLINE is not one: it lost contact."""


def _provider_sign(view: ProviderView) -> Sign:
    if not view.answered:
        return Sign.SILENT
    if view.present is False or view.state in _ENDED:
        return Sign.ENDED
    if view.state is InstanceState.OFFLINE:
        return Sign.LOST
    return Sign.ALIVE if view.state is InstanceState.RUNNING else Sign.SILENT


def _provider_words(view: ProviderView) -> str:
    if not view.answered:
        return f"the provider does not answer: {view.detail}" if view.detail else "no answer"
    if view.present is False:
        return "the provider no longer has it"
    state = view.state.value if view.state is not None else "unknown"
    return f"the provider says {state}" + (f" ({view.detail})" if view.detail else "")


def _heartbeat_words(evidence: Evidence) -> str:
    heard = evidence.bodies.heartbeat_at
    if heard is None:
        return "its agent was never heard"
    return f"its agent was last heard {(evidence.at - heard).total_seconds():.1f} s ago"


def receipt_of(
    account: Account, *, spec: MachineSpec, outcome: str, epoch: int, closed_at: datetime
) -> Receipt:
    """The receipt that an account amounts to."""
    evidence, guard = account.evidence, account.guard
    if guard is None and evidence is not None:
        guard = evidence.bodies.guard
    if guard is not None and guard.since is not None and "redirected" not in account.timeline:
        account.reached("redirected", guard.since)
    zero = min([account.detected_at, *account.timeline.values()])
    adopted = account.adopted or account.former
    passes = [r for r in (account.restored, account.final) if r is not None]
    hours = (closed_at - zero).total_seconds() / 3600
    provisioned = account.timeline.get("provisioned")
    rented_h = (closed_at - provisioned).total_seconds() / 3600 if provisioned else None
    price = adopted.usd_per_hour
    return Receipt.model_validate(
        {
            "machine_id": spec.machine_id,
            "machine_name": spec.name,
            "number": account.number,
            "cause": account.cause[:1000],
            "drill": account.drill,
            "outcome": outcome,
            "detected_at": zero,
            "closed_at": closed_at,
            "timeline": [
                {"phase": phase, "at": at, "ms": round((at - zero).total_seconds() * 1000, 1)}
                for phase, at in sorted(
                    {"detected": zero, **account.timeline}.items(), key=lambda item: item[1]
                )
            ],
            "witnesses": [
                {"witness": w.source.value, "said": w.words[:500], "at": w.news_at}
                for w in (witnesses(evidence) if evidence is not None else [])
            ],
            "former": _body(account.former),
            "adopted": _body(adopted),
            "standby": {
                "provider": account.standby.provider,
                "instance_id": account.standby.instance_id,
                "label": account.standby.label,
                "region": account.standby.zone,
                "usd_per_hour": account.standby.usd_per_hour,
            },
            "epoch_before": account.epoch_before,
            "epoch_after": epoch,
            "unreplicated": _unreplicated(account),
            "conflicts": list(dict.fromkeys(name for r in passes for name in r.conflicts))[
                :MAX_NAMES
            ],
            # Each pass weighs the whole workspace.
            "files_restored": passes[-1].files if passes else None,
            "bytes_restored": passes[-1].bytes if passes else None,
            "entries_verified": max((r.verified for r in passes), default=None),
            "quiesced_s": account.quiesced_s,
            "cost": {
                "replacement_usd": price * rented_h
                if price is not None and rented_h is not None
                else None,
                "standby_usd": account.standby.usd_per_hour * hours
                if account.standby.usd_per_hour is not None
                else None,
            },
        }
    )


def _unreplicated(account: Account) -> Unreplicated:
    """What is known of it: the point before which nothing is missing, never a guess at what came after."""
    if account.barrier is not None:
        return Unreplicated(
            last_point_at=account.barrier.replicated_at,
            sequence=account.barrier.sequence,
            why_unknown="what was written in the moment between the barrier and the redirect is not "
            "counted",
        )
    evidence = account.evidence
    last = evidence.bodies.last_report if evidence is not None else None
    if last is None or last.replicated_at is None:
        return Unreplicated(why_unknown="its agent did not say what it had replicated last")
    pending = (
        f"{last.pending_files} files were on their way when its agent was last heard; "
        if last.pending_files is not None
        else ""
    )
    return Unreplicated(
        last_point_at=last.replicated_at,
        why_unknown=f"{pending}what was written after the last replicated point is known when the "
        "former instance can be reached again; it is rescued then, see the event log",
    )


def _body(instance: ActiveInstance) -> Body:
    return Body(
        provider=instance.provider,
        instance_id=instance.instance_id,
        label=instance.label,
        generation=instance.generation,
        host_id=instance.host_id,
        gpu=instance.gpu,
        region=instance.region,
        usd_per_hour=instance.usd_per_hour,
    )
