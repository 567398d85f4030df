"""The guard's commands, as `docs/protection.md` has them. Each may be repeated.

Order matters in each: what is written first decides what a guard does that was killed half-way.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

from dumont.agent import authority, guard_link, guard_texts, notify, processes
from dumont.agent import sessions as logins
from dumont.agent.context import timestamp
from dumont.agent.errors import AgentError

if TYPE_CHECKING:
    from dumont.agent.control import Say
    from dumont.agent.guard import Guard

_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:-]{0,252}")
_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [ -~]{0,200})?")
_REACH_S = 5.0
_SERVE_S = 5.0
_TERM_S = 2.0
_NOTICE_S = 0.3


def register(guard: Guard) -> None:
    """Serve them from now on."""
    commands = _Commands(guard)
    for name in ("redirect", "fence", "sessions", "quiesce", "unquiesce", "wake"):
        guard.context.control.register(name, getattr(commands, name))
    guard.context.control.register("hand-back", commands.hand_back)


class _Commands:
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def redirect(self, arguments: dict[str, Any], _: Say) -> dict[str, Any]:
        cause = arguments.get("cause")
        if not isinstance(cause, str) or not cause.strip() or len(cause) > 500:
            raise AgentError("cause: must be a text of 1 to 500 characters", code="invalid")
        self._guard.redirect(cause=cause.strip(), detected=time.monotonic(), forced=True)
        return self._answer()

    def fence(self, arguments: dict[str, Any], _: Say) -> dict[str, Any]:
        epoch, key = _epoch(arguments), arguments.get("sync_public_key")
        if not isinstance(key, str) or not _KEY.fullmatch(key.strip()):
            raise AgentError("sync_public_key: is no public key on one line", code="invalid")
        guard, key = self._guard, key.strip()
        with guard.lock:
            before = guard.state.epoch if guard.state is not None else None
            try:
                state = guard.change(
                    lambda s: authority.fence(
                        s,
                        epoch=epoch,
                        sync_public_key=key,
                        now=timestamp(),
                        baseline=guard.baseline(),
                    )
                )
            except AgentError as error:
                if error.code != authority.UNKNOWN:
                    raise
                floor = guard.file.floor()
                state = authority.recover(
                    epoch=epoch, floor=floor, sync_public_key=key, now=timestamp()
                )
                guard.file.create(state)
            guard.keep_wish(before, epoch)
            guard.settle(state)
        guard.publish()
        return self._answer()

    def wake(self, _: dict[str, Any], __: Say) -> dict[str, Any]:
        """Ask for a GPU. The control plane hears of it with the next heartbeat, which is sent now."""
        self._guard.ask_for_gpu()
        return self._answer()

    def sessions(self, _: dict[str, Any], __: Say) -> dict[str, Any]:
        return self._guard.custody.sessions()

    def quiesce(self, arguments: dict[str, Any], _: Say) -> dict[str, Any]:
        guard = self._guard
        with guard.lock:
            guard.endpoint.admit(False)
            try:
                guard.change(authority.quiesce)
            except AgentError:
                guard.endpoint.admit(True)
                raise
        guard.publish()
        ended = self._cut() if arguments.get("cut") is True else []
        return {**self._answer(), "ended": ended}

    def unquiesce(self, _: dict[str, Any], __: Say) -> dict[str, Any]:
        guard = self._guard
        with guard.lock:
            guard.settle(guard.change(authority.unquiesce))
        guard.publish()
        return self._answer()

    def hand_back(self, arguments: dict[str, Any], _: Say) -> dict[str, Any]:
        guard, epoch = self._guard, _epoch(arguments)
        host, port = arguments.get("host"), arguments.get("port")
        if not isinstance(host, str) or not _HOST.fullmatch(host):
            raise AgentError("host: is no host", code="invalid")
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise AgentError("port: is no port", code="invalid")
        authority.check_hand_back(guard.file.read(), epoch=epoch)
        self._until_reachable(host, port)
        with guard.lock:
            was = guard.file.read().authority
            guard.endpoint.admit(False)
            try:
                state = guard.change(
                    lambda s: authority.hand_back(
                        s, epoch=epoch, host=host, port=port, now=timestamp()
                    )
                )
                guard.settle(state)
                if was == authority.STANDBY:
                    # Whoever is still on the standby would write into the void.
                    guard.endpoint.cut_standby()
            finally:
                guard.endpoint.admit(not guard.file.read().quiesced)
        self._until_serving()
        guard.change(authority.confirm)
        if was == authority.STANDBY:
            guard.told(guard_texts.handed_back(guard.context.config.name))
        return self._answer()

    def _until_reachable(self, host: str, port: int) -> None:
        deadline = time.monotonic() + _REACH_S
        while True:
            problem = guard_link.probe(host, port, timeout_s=2.0)
            if not problem:
                return
            if time.monotonic() > deadline:
                raise AgentError(f"the primary at {host}:{port}: {problem}", code="unreachable")
            time.sleep(0.1)

    def _until_serving(self) -> None:
        """HAProxy must have checked the primary since, and still use it; if not, it is redirected.

        What HAProxy shows of its checks may be older than the move, so it gets the time for a new one.
        """
        guard = self._guard
        began = time.monotonic()
        checked_s = guard.endpoint.check_s()
        while True:
            look = guard.fresh_look()
            state = guard.state
            if state is None or state.authority != authority.PRIMARY:
                raise AgentError("the primary was lost again at once", code="unreachable")
            waited = time.monotonic() - began
            if waited > checked_s and look is not None and look.primary.status == "UP":
                return
            if waited > checked_s + _SERVE_S:
                problem = "the endpoint does not lead to the primary"
                guard.redirect(cause=problem, detected=time.monotonic(), forced=True)
                raise AgentError(problem, code="unreachable")
            time.sleep(0.02)

    def _cut(self) -> list[str]:
        """End the sessions here, and what people still run in the workspace; returns which."""
        guard = self._guard
        people = guard.logins()
        name = guard.context.config.name
        ttys = [each.tty for each in people if each.tty is not None]
        text = "Dumont: " + guard_texts.moving(name)
        if notify.announce(ttys, title=f"{name}: moving", text=text):
            # It has to get through sshd and HAProxy before their connections end.
            time.sleep(_NOTICE_S)
        guard.endpoint.cut_standby()
        for each in people:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGHUP)
        workers = guard.custody.workers()
        commands = [logins.command_of(pid) for pid in workers]
        _end(workers)
        guard.log.info("cut %d sessions, ended %s", len(people), commands)
        return commands

    def _answer(self) -> dict[str, Any]:
        return {"guard": self._guard.report()}


def _end(pids: list[int]) -> None:
    """Ask, then insist."""
    began = {pid: processes.started(pid) for pid in pids}

    def alive() -> list[int]:
        return [pid for pid in pids if began[pid] and processes.started(pid) == began[pid]]

    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + _TERM_S
        while alive() and time.monotonic() < deadline:
            time.sleep(0.01)


def _epoch(arguments: dict[str, Any]) -> int:
    epoch = arguments.get("epoch")
    if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
        raise AgentError("epoch: must be a whole number", code="invalid")
    return epoch
