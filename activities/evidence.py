"""Looking at a machine whose GPU may be lost: what each witness says now. Decides nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from temporalio import activity

from activities.heartbeat import heartbeating
from activities.listing import SharedListing
from activities.mirroring import read
from dumont.domain.errors import AgentRefused, DumontError, NotReady, ProviderError
from dumont.domain.instances import Message
from dumont.domain.machine import ActiveInstance
from dumont.domain.protection import ActiveStandby, AgentRole, GuardReport, ProtectionReport
from dumont.domain.takeover import BodiesSeen, ProviderView
from dumont.ports import HeartbeatTimes, InstanceProvider, MachineAgent, MachineShell

PROVIDER_S = 20.0
"""Longest wait for the provider: what the other witnesses said must still be fresh then."""


class LookAt(Message):
    """Input of `look_at_bodies`."""

    machine_id: str
    primary: ActiveInstance
    standby: ActiveStandby


class ProviderAsk(Message):
    """Input of `provider_view`."""

    instance_id: str
    label: str


class EvidenceActivities:
    """The witnesses that are reached over SSH, and the heartbeats."""

    def __init__(
        self, *, agent: MachineAgent, shell: MachineShell, heartbeats: HeartbeatTimes
    ) -> None:
        self._agent = agent
        self._shell = shell
        self._heartbeats = heartbeats

    @activity.defn
    async def look_at_bodies(self, ask: LookAt) -> BodiesSeen:
        """Ask the guard, and try the primary ourselves. Whatever fails is left unknown."""
        async with heartbeating():
            guard, (answers, words), (heard, report) = await asyncio.gather(
                self._guard(ask), self._primary(ask), self._heard(ask)
            )
        return BodiesSeen(
            at=datetime.now(UTC),
            guard=guard,
            primary_answers=answers,
            primary_words=words,
            heartbeat_at=heard,
            last_report=report,
        )

    async def _guard(self, ask: LookAt) -> GuardReport | None:
        try:
            answer = await self._agent.call(
                ask.standby.ssh, machine_id=ask.machine_id, words=["status"], timeout_s=15
            )
            return read(GuardReport, answer.get("guard"), "status")
        except (NotReady, AgentRefused) as error:
            activity.logger.info("the guard cannot be asked: %s", error.message)
            return None

    async def _primary(self, ask: LookAt) -> tuple[bool, str]:
        try:
            async with asyncio.timeout(8):
                await self._shell.probe_ssh(ask.primary.ssh, machine_id=ask.machine_id)
        except NotReady as error:
            return False, error.message
        except TimeoutError:
            return False, "SSH does not answer within 8 s"
        return True, ""

    async def _heard(self, ask: LookAt) -> tuple[datetime | None, ProtectionReport | None]:
        instance_id = ask.primary.instance_id
        try:
            heard = await self._heartbeats.last_heard(
                ask.machine_id, AgentRole.PRIMARY, instance_id=instance_id
            )
            report = await self._heartbeats.last_report(ask.machine_id, instance_id=instance_id)
        except DumontError as error:
            activity.logger.warning("heartbeats cannot be read: %s", error.message)
            return None, None
        # The list can be long, and nothing that is decided depends on it.
        return heard, report.model_copy(update={"not_mirrored": []}) if report else None


class ProviderEvidence:
    """The witness that is the provider. Its silence and its errors are no evidence."""

    def __init__(self, *, provider: InstanceProvider, listing: SharedListing) -> None:
        self._provider = provider
        self._listing = listing

    @activity.defn
    async def provider_view(self, ask: ProviderAsk) -> ProviderView:
        """The instance as its list shows it now; where it is missing there, its own page decides."""
        at = datetime.now(UTC)
        async with heartbeating():
            try:
                async with asyncio.timeout(PROVIDER_S):
                    listing = await self._listing.taken_within(0)
                    found = [i for i in listing.instances if i.instance_id == ask.instance_id]
                    seen = found[0] if found else await self._provider.get(ask.instance_id)
            except ProviderError as error:
                return ProviderView(at=at, detail=error.message)
            except TimeoutError:
                return ProviderView(at=at, detail=f"it does not answer within {PROVIDER_S:g} s")
        if seen is None:
            return ProviderView(at=at, answered=True, present=False)
        return ProviderView(
            at=at,
            answered=True,
            present=True,
            state=seen.state,
            detail=seen.detail,
            ssh=seen.ssh,
        )
