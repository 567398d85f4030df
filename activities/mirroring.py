"""The mirror in ordinary times: configuring both agents, waiting for the first copy, the barrier.

Every command is an `apply` or a question: repeating it changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from temporalio import activity

from activities.heartbeat import heartbeating
from dumont.domain.agent_config import Beat, primary_config, standby_config
from dumont.domain.errors import AgentRefused, DumontError, NotFound, NotReady, PreconditionFailed
from dumont.domain.instances import Message
from dumont.domain.machine import ActiveInstance, MachinePhase, MachineSpec
from dumont.domain.protection import (
    ActiveStandby,
    AgentRole,
    Barrier,
    GuardReport,
    ProtectionReport,
    ProtectionStatus,
)
from dumont.ports import MachineAgent, MachineStore, SecretStore

POLL_S = 2.0
APPLY_S = 90.0
FLUSH_S = 600.0

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class AgentTools:
    """What is needed to configure agents, beside a way to reach them."""

    beat: Callable[[str, AgentRole, int], Beat | None]
    """Where the agent of a machine's body sends its heartbeats under an epoch."""
    sync_key: Callable[[str, int], tuple[str, str]]
    """Private and public sync key of a machine's epoch."""
    stop_call: Callable[[ActiveInstance], dict[str, Any] | None]
    """How an instance stops its own billing."""


class Pair(Message):
    """Both bodies of a machine under one epoch."""

    spec: MachineSpec
    standby: ActiveStandby
    primary: ActiveInstance | None
    generation: int
    epoch: int
    paused: bool = False
    """The primary is only being restored."""


class FlushAsk(Message):
    """Input of `flush`."""

    machine_id: str


class MirrorActivities:
    """Speaks to the agents over SSH."""

    def __init__(
        self, *, agent: MachineAgent, secrets: SecretStore, store: MachineStore, tools: AgentTools
    ) -> None:
        self._agent = agent
        self._secrets = secrets
        self._store = store
        self._tools = tools

    @activity.defn
    async def apply_guard(self, pair: Pair) -> GuardReport:
        """Give the standby's guard its configuration; returns where it stands.

        Raises:
            NotReady: It cannot be reached yet.
            AgentRefused: It knows a newer epoch.
        """
        config = standby_config(
            machine_id=pair.spec.machine_id,
            name=pair.spec.name,
            generation=pair.generation,
            epoch=pair.epoch,
            standby=pair.standby,
            beat=self._tools.beat(pair.spec.machine_id, AgentRole.STANDBY, pair.epoch),
            primary=pair.primary.ssh if pair.primary is not None else None,
            sync_public_key=self._tools.sync_key(pair.spec.machine_id, pair.epoch)[1],
        )
        async with heartbeating():
            answer = await self._agent.call(
                pair.standby.ssh,
                machine_id=pair.spec.machine_id,
                words=["apply"],
                stdin=json.dumps(config).encode(),
                timeout_s=APPLY_S,
            )
        return read(GuardReport, answer.get("guard"), "apply")

    @activity.defn
    async def move_guard(self, pair: Pair) -> GuardReport:
        """Tell a guard whose VM came back at another address where its endpoint is now.

        A failover may have fenced it meanwhile: its own epoch stays, and so does the authority.

        Raises:
            NotReady: It cannot be reached yet.
            AgentRefused: It was fenced between question and order; ask again.
        """
        async with heartbeating():
            answer = await self._agent.call(
                pair.standby.ssh, machine_id=pair.spec.machine_id, words=["status"]
            )
        known = read(GuardReport, answer.get("guard"), "status")
        return await self.apply_guard(
            pair.model_copy(update={"primary": None, "epoch": max(known.epoch or 0, pair.epoch)})
        )

    @activity.defn
    async def apply_mirror(self, pair: Pair) -> ProtectionReport:
        """Give the primary's agent its configuration: whom to mirror to, with which key.

        Raises:
            NotReady: It cannot be reached.
        """
        assert pair.primary is not None
        assert pair.spec.protection is not None
        secrets = await self._secrets.ensure_machine_secrets(pair.spec.machine_id)
        config = primary_config(
            machine_id=pair.spec.machine_id,
            name=pair.spec.name,
            generation=pair.generation,
            epoch=pair.epoch,
            instance_id=pair.primary.instance_id,
            beat=self._tools.beat(pair.spec.machine_id, AgentRole.PRIMARY, pair.epoch),
            standby=pair.standby,
            host_key=secrets.host_key_public,
            private_key=self._tools.sync_key(pair.spec.machine_id, pair.epoch)[0],
            policy=pair.spec.protection,
            paused=pair.paused,
            stop_call=self._tools.stop_call(pair.primary),
        )
        async with heartbeating():
            answer = await self._agent.call(
                pair.primary.ssh,
                machine_id=pair.spec.machine_id,
                words=["apply"],
                stdin=json.dumps(config).encode(),
                timeout_s=APPLY_S,
            )
        return read(ProtectionReport, answer.get("protection") or {}, "apply")

    @activity.defn
    async def measure_rtt(self, pair: Pair) -> float | None:
        """The round trip from primary to standby, ms; None when it cannot be measured now."""
        assert pair.primary is not None
        host, port = pair.standby.ssh.host, pair.standby.ssh.port
        async with heartbeating():
            try:
                answer = await self._agent.call(
                    pair.primary.ssh,
                    machine_id=pair.spec.machine_id,
                    words=["rtt", "--host", host, "--port", str(port)],
                )
            except (NotReady, AgentRefused) as error:
                activity.logger.info("no round trip measured: %s", error.message)
                return None
        measured = answer.get("rtt_ms")
        return float(measured) if isinstance(measured, int | float) else None

    @activity.defn
    async def wait_until_mirrored(self, pair: Pair) -> ProtectionReport:
        """Wait until the primary's agent says that the first copy is complete.

        Its heartbeats say so too; this does not depend on their getting through.
        """
        assert pair.primary is not None
        async with heartbeating():
            while True:
                report = await self._protection(pair.primary, pair.spec.machine_id)
                if report is not None and report.status is ProtectionStatus.PROTECTED:
                    return report
                await asyncio.sleep(POLL_S)

    @activity.defn
    async def flush(self, ask: FlushAsk) -> Barrier:
        """The barrier of a machine: everything written before is on its standby.

        Raises:
            PreconditionFailed: It has no standby, or its GPU is not there.
            NotReady: The agent could not be reached or could not finish in time.
            AgentRefused: The mirror cannot promise it now; says why.
        """
        owned = await self._store.owned_machines([ask.machine_id])
        if not owned:
            raise NotFound(f"no machine {ask.machine_id}")
        spec, state = owned[0].spec, owned[0].state
        there = state.phase in (MachinePhase.RUNNING, MachinePhase.HIBERNATING)
        if not there or state.instance is None:
            raise PreconditionFailed(
                f"{spec.name} is {state.phase.value}: there is no GPU to flush from",
                hint=f"dumont show {spec.name}",
            )
        if state.standby is None:
            raise PreconditionFailed(
                f"{spec.name} has no standby: {state.protection_reason or 'it is not protected'}",
                hint="create machines with protection (the default)",
            )
        return await self._barrier(state.instance, ask.machine_id)

    @activity.defn
    async def barrier(self, pair: Pair) -> Barrier:
        """The same for a pair that a workflow names itself.

        Raises:
            NotReady, AgentRefused: As `flush`.
        """
        assert pair.primary is not None
        return await self._barrier(pair.primary, pair.spec.machine_id)

    async def _barrier(self, primary: ActiveInstance, machine_id: str) -> Barrier:
        async with heartbeating():
            answer = await self._agent.call(
                primary.ssh,
                machine_id=machine_id,
                words=["flush", "--timeout", f"{FLUSH_S:g}"],
                timeout_s=FLUSH_S + 30,
            )
        return read(Barrier, answer, "flush")

    async def _protection(
        self, primary: ActiveInstance, machine_id: str
    ) -> ProtectionReport | None:
        try:
            answer = await self._agent.call(primary.ssh, machine_id=machine_id, words=["status"])
            return read(ProtectionReport, answer.get("protection") or {}, "status")
        except (NotReady, AgentRefused) as error:
            activity.logger.info("no status yet: %s", error.message)
            return None


def read(model: type[M], answer: object, word: str) -> M:
    """An agent's answer as a model.

    Raises:
        NotReady: It is not one. A host that is not trusted may say anything.
    """
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise NotReady(
            f"the agent answered `{word}` with nonsense: {field}: {first['msg']}"
        ) from None


def words_of(error: BaseException) -> str:
    """An error in one sentence."""
    return error.message if isinstance(error, DumontError) else str(error) or type(error).__name__
