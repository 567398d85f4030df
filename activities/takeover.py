"""Moving the authority over a workspace: fence, restore, hand back, rescue. Over SSH.

The guard on the standby decides each step by epoch, so repeating one changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from temporalio import activity

from activities.heartbeat import heartbeating
from activities.mirroring import AgentTools, Pair, read, words_of
from dumont.domain.errors import AgentRefused, DumontError, NotReady
from dumont.domain.instances import Message, SshAddress
from dumont.domain.machine import ActiveInstance
from dumont.domain.protection import ActiveStandby, Authority, GuardReport
from dumont.domain.takeover import Restored
from dumont.ports import MachineAgent

RESTORE_S = 6 * 3600.0
FINAL_S = 600.0
POLL_S = 2.0
MAX_RESCUED = 5_000
"""Files taken from a former instance; more are counted, not copied."""


class Fence(Message):
    """Input of `fence`."""

    machine_id: str
    standby: ActiveStandby
    epoch: int


class Redirect(Message):
    """Input of `redirect`."""

    machine_id: str
    standby: ActiveStandby
    cause: str


class WaitUntilIdle(Message):
    """Input of `wait_until_idle`."""

    machine_id: str
    standby: ActiveStandby
    idle_s: float


class HandBack(Message):
    """Input of `hand_back`."""

    pair: Pair
    cut: bool
    """End the sessions on the standby; otherwise only idle ones are left to end."""


class HandedBack(Message):
    """What handing back took."""

    restored: Restored | None
    """None: it had been done by a worker that died before it could say so."""
    quiesced_s: float | None
    """How long no new session could begin; None: as above."""
    at: datetime


class Rescue(Message):
    """Input of `rescue`."""

    machine_id: str
    former: ActiveInstance
    standby: SshAddress
    """Any body that has the workspace now and takes the files."""
    epoch: int
    """The epoch that the former instance was last allowed to write under."""


class Rescued(Message):
    """What only a former instance had."""

    paths: tuple[str, ...] = ()
    total_files: int = 0
    bytes: int = 0
    folder: str = ""


class TakeoverActivities:
    """Speaks to guards and agents over SSH."""

    def __init__(self, *, agent: MachineAgent, tools: AgentTools) -> None:
        self._agent = agent
        self._tools = tools

    @activity.defn
    async def redirect(self, ask: Redirect) -> GuardReport:
        """Have the guard take authority as if the link were lost: a drill's beginning."""
        async with heartbeating():
            answer = await self._agent.call(
                ask.standby.ssh,
                machine_id=ask.machine_id,
                words=["redirect", "--cause", ask.cause],
            )
        return read(GuardReport, answer.get("guard", answer), "redirect")

    @activity.defn
    async def fence(self, ask: Fence) -> GuardReport:
        """Hold the authority at the standby under a new epoch: no older key writes any more."""
        public = self._tools.sync_key(ask.machine_id, ask.epoch)[1]
        async with heartbeating():
            answer = await self._agent.call(
                ask.standby.ssh,
                machine_id=ask.machine_id,
                words=["fence", "--epoch", str(ask.epoch)],
                stdin=json.dumps({"sync_public_key": public}).encode(),
            )
        return read(GuardReport, answer.get("guard", answer), "fence")

    @activity.defn
    async def restore(self, pair: Pair) -> Restored:
        """Bring the standby's workspace to the primary, verified; goes on where it was cut off."""
        assert pair.primary is not None
        async with heartbeating():
            return await self._restore(pair, final=False, timeout_s=RESTORE_S)

    @activity.defn
    async def wait_until_idle(self, ask: WaitUntilIdle) -> None:
        """Wait until nobody has typed or written on the standby for a while.

        Sessions that cannot be read are not idle ones.
        """
        async with heartbeating():
            while True:
                if await self._is_idle(ask):
                    return
                await asyncio.sleep(POLL_S)

    @activity.defn
    async def hand_back(self, ask: HandBack) -> HandedBack:
        """Quiesce the standby, bring the last changes over, move the authority to the primary.

        Whatever fails before the move ends the quiescing: work goes on on the standby. Where the move
        has been made already, nothing is done: people work on the primary.

        Raises:
            NotReady: One of both cannot be reached, or the last changes did not arrive.
            AgentRefused: A newer epoch has begun.
        """
        pair = ask.pair
        assert pair.primary is not None
        loop = asyncio.get_running_loop()
        async with heartbeating():
            moved_at = await self._moved_already(pair)
            if moved_at is not None:
                return HandedBack(restored=None, quiesced_s=None, at=moved_at)
            began = loop.time()
            await self._guard(pair, ["quiesce", *(["--cut"] if ask.cut else [])])
            try:
                restored = await self._restore(pair, final=True, timeout_s=FINAL_S)
                address = pair.primary.ssh
                await self._guard(
                    pair,
                    [
                        *("hand-back", "--epoch", str(pair.epoch)),
                        *("--host", address.host, "--port", str(address.port)),
                    ],
                )
            except (Exception, asyncio.CancelledError):
                await asyncio.shield(self._unquiesce(pair))
                raise
            return HandedBack(
                restored=restored, quiesced_s=loop.time() - began, at=datetime.now(UTC)
            )

    @activity.defn
    async def rescue(self, ask: Rescue) -> Rescued:
        """Copy what a former instance wrote after its last replicated point beside the workspace.

        Raises:
            NotReady: It cannot be reached (any more).
        """
        async with heartbeating():
            answer = await self._agent.call(
                ask.former.ssh, machine_id=ask.machine_id, words=["divergence"], timeout_s=300
            )
            files = answer.get("files")
            paths = [
                f["path"]
                for f in (files if isinstance(files, list) else [])
                if isinstance(f, dict) and isinstance(f.get("path"), str)
            ][:MAX_RESCUED]
            if not paths:
                return Rescued()
            folder = f".dumont/conflicts/{ask.epoch}"
            copied = await self._agent.fetch(
                ask.former.ssh,
                machine_id=ask.machine_id,
                paths=paths,
                to=ask.standby,
                folder=folder,
            )
            total = answer.get("total_files")
            return Rescued(
                paths=tuple(paths[:200]),
                total_files=total if isinstance(total, int) else len(paths),
                bytes=copied,
                folder=folder,
            )

    async def _moved_already(self, pair: Pair) -> datetime | None:
        """When the authority went to this primary under this epoch; None: it has not.

        A guard lets go of an epoch that it holds by handing back and in no other way. What has happened
        since, a link that was lost again, is the next failover's business.
        """
        assert pair.primary is not None
        answer = await self._agent.call(
            pair.standby.ssh, machine_id=pair.spec.machine_id, words=["status"]
        )
        guard, address = read(GuardReport, answer.get("guard"), "status"), pair.primary.ssh
        if guard.authority is None or guard.epoch != pair.epoch or guard.held:
            return None
        if (guard.host, guard.port) != (address.host, address.port):
            return None
        return guard.since if guard.authority is Authority.PRIMARY else datetime.now(UTC)

    async def _restore(self, pair: Pair, *, final: bool, timeout_s: float) -> Restored:
        assert pair.primary is not None

        def progress(line: dict[str, Any]) -> None:
            activity.heartbeat(line)

        answer = await self._agent.call(
            pair.primary.ssh,
            machine_id=pair.spec.machine_id,
            words=["restore", *(["--final"] if final else [])],
            timeout_s=timeout_s,
            on_progress=progress,
        )
        return read(Restored, answer, "restore")

    async def _is_idle(self, ask: WaitUntilIdle) -> bool:
        try:
            answer = await self._agent.call(
                ask.standby.ssh, machine_id=ask.machine_id, words=["sessions"]
            )
        except (NotReady, AgentRefused) as error:
            activity.logger.info("sessions unknown: %s", error.message)
            return False
        idle = answer.get("idle_s")
        return isinstance(idle, int | float) and idle >= ask.idle_s

    async def _guard(self, pair: Pair, words: list[str]) -> None:
        await self._agent.call(
            pair.standby.ssh, machine_id=pair.spec.machine_id, words=words, timeout_s=60
        )

    async def _unquiesce(self, pair: Pair) -> None:
        try:
            await self._guard(pair, ["unquiesce"])
        except DumontError as error:
            activity.logger.warning("the standby stays quiesced for now: %s", words_of(error))
