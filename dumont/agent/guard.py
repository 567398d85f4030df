"""The guard: the daemon's work on the standby. It serves the endpoint and keeps the authority.

HAProxy is what redirects; the guard hears of it and makes it last: the authority moves to the standby,
the primary goes into maintenance, receivers end, people and the control plane are told. Everything
else follows from the authority file, so a guard that was killed between two steps takes them up
when it comes back (`_reconcile`).

Threads: this one waits for HAProxy; `PrimaryLink` checks the link; `Custody` looks after the time on
the standby; commands come in threads of their own. `Guard.lock` is held over every change.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

from dumont.agent import (
    authority,
    guard_commands,
    guard_keys,
    guard_receivers,
    guard_texts,
    hook,
    notify,
)
from dumont.agent import sessions as logins
from dumont.agent.authority import AuthorityFile, State
from dumont.agent.context import timestamp
from dumont.agent.endpoint import Endpoint, Look, reason_in
from dumont.agent.errors import AgentError
from dumont.agent.guard_custody import Custody
from dumont.agent.guard_link import PrimaryLink
from dumont.agent.guard_preempt import PreemptionWatch
from dumont.agent.guard_written import baseline
from dumont.agent.haproxy import HAProxy

if TYPE_CHECKING:
    from dumont.agent.config import AgentConfig, EndpointConfig
    from dumont.agent.context import Context
    from dumont.agent.paths import Paths

_LOOK_EVERY_S = 0.5
_BLIND_LOOK_S = 0.05
"""Between two looks when HAProxy's messages cannot be heard."""
_REVIVE_S = (0.1, 5.0)
_LINK_S = (0.2, 1.0)
"""Between two checks of the link: while its return is awaited, and otherwise."""


def run(context: Context) -> None:
    """Guard until told to stop. HAProxy goes on without us."""
    Guard(context).run()


def before_apply(paths: Paths, config: AgentConfig) -> None:
    """Refuse a configuration that the authority has left behind. Raises AgentError."""
    file = AuthorityFile(paths.authority)
    if file.is_new():
        return
    try:
        state = file.read()
    except AgentError:
        return  # unknown: the guard must run, so that it can be fenced
    if config.epoch < state.epoch:
        message = f"epoch {config.epoch} is over; this standby is in {state.epoch}"
        raise AgentError(message, code="fenced")


def after_stop(paths: Paths) -> None:
    """End what outlives the guard on purpose: HAProxy, and with it the endpoint."""
    import logging

    log = logging.getLogger("dumont.agent")
    log_file = paths.log / "haproxy.log"
    HAProxy(run=paths.run, log=log, log_file=log_file, environment={}).stop()


class Guard:
    """One standby's guard."""

    def __init__(self, context: Context) -> None:
        assert context.config.endpoint is not None
        self.context = context
        self.paths = context.paths
        self.log = context.log
        self.lock = threading.RLock()
        self.file = AuthorityFile(self.paths.authority)
        self.endpoint = Endpoint(
            paths=self.paths,
            config=context.config.endpoint,
            log=self.log,
            environment=context.outliving_environment(),
        )
        self.link = PrimaryLink()
        self.preemption = PreemptionWatch(on_preempted=self.publish, log=self.log)
        self.custody = Custody(self)
        self.state: State | None = None
        self.look: Look | None = None
        self._calm: Look | None = None
        self._config: EndpointConfig = context.config.endpoint
        self._revive_s = _REVIVE_S[0]
        self._published: dict[str, Any] = {}
        self._wake_epoch: int | None = None
        """The epoch under which somebody here asked for a GPU."""

    def run(self) -> None:
        """See `run`."""
        self._open()
        guard_commands.register(self)
        self.context.on_reload = self.reload
        notify.install_login_line(self.paths)
        hook.install_command(self.paths, self.log, hook.WAKE)
        self._reconcile()
        self.link.start()
        self.preemption.start()
        self.custody.start()
        self.publish()
        next_look = 0.0
        while not self.context.stop.is_set():
            said = self.endpoint.wait(0.1 if self.endpoint.can_hear else _BLIND_LOOK_S)
            now = time.monotonic()
            if said or now >= next_look or not self.endpoint.can_hear:
                self._step(said)
                next_look = now + _LOOK_EVERY_S
        self.link.close()
        self.preemption.close()
        self.custody.close()

    # What happens by itself -------------------------------------------------------------------

    def redirect(self, *, cause: str, detected: float, forced: bool = False) -> State:
        """Take authority. `detected` is the monotonic time of the evidence.

        Raises:
            AgentError: Code `unknown_authority`.
        """
        with self.lock:
            state = self.file.read()
            if state.authority == authority.STANDBY:
                return state
            clock = _Stopwatch(detected)
            self._wake_epoch = None  # what was asked for in an earlier sleep is over
            try:
                self.endpoint.take(state)
            except AgentError as error:
                # Its configuration says so; the next step starts it by that.
                self.log.warning("redirect: %s", error.message)
            clock.note("endpoint_ms")
            state = self._change(
                lambda s: authority.redirect(
                    s, cause=cause, now=clock.at, baseline=self._baseline(), forced=forced
                )
            )
            clock.note("authority_ms")
            self._end_receivers(state)
            clock.note("receivers_ms")
            state = self._change(
                # Only from here on is whatever changes the work of people.
                lambda s: dataclasses.replace(s, baseline=self._baseline(), redirect=clock.noted)
            )
        self.log.warning("redirected: %s %s", cause, clock.noted)
        self.told(guard_texts.redirected(self.context.config.name, state))
        return state

    def reload(self, config: AgentConfig) -> bool:
        """Take up a configuration. Raises AgentError when it cannot be followed."""
        assert config.endpoint is not None
        with self.lock:
            self._config = config.endpoint
            self.endpoint.configure(config.endpoint)
            self._configure(config)
            self._reconcile()
        self.publish()
        return True

    # What commands need -----------------------------------------------------------------------

    def settle(self, state: State) -> None:
        """Have endpoint, receivers and keys follow a state that was just written."""
        with self.lock:
            self.state = state
            self._end_receivers(state)
            guard_keys.install(self.paths, epoch=state.epoch, public_key=state.sync_public_key)
            self.endpoint.follow(state)
        self._watch_link()

    def change(self, transition: authority.Transition) -> State:
        """Change the authority. Raises AgentError."""
        with self.lock:
            return self._change(transition)

    def baseline(self) -> dict[str, Any]:
        """Clocks and counters from now on."""
        return self._baseline()

    def fresh_look(self) -> Look | None:
        """What HAProxy shows now; None: it does not answer."""
        try:
            self.look = self.endpoint.look()
        except AgentError:
            return None
        return self.look

    def logins(self) -> list[logins.Session]:
        """The people on this machine."""
        pid = self.look.pid if self.look is not None else None
        return logins.find(sshd=self.endpoint.own_sshd(), haproxy_pid=pid)

    def ask_for_gpu(self) -> None:
        """Somebody on the standby of a hibernating machine wants a GPU.

        Raises:
            AgentError: Code `conflict`: the machine does not hibernate.
        """
        with self.lock:
            state = self.file.read()
            if not guard_texts.rests(state):
                raise AgentError("this machine does not hibernate", code="conflict")
            self._wake_epoch = state.epoch
        self.publish()

    def keep_wish(self, before: int | None, epoch: int) -> None:
        """Who asked for a GPU just before a fence has asked all the same."""
        if before is not None and self._wake_epoch == before:
            self._wake_epoch = epoch

    def told(self, text: str) -> None:
        """Tell the people who are here now, and the control plane."""
        name = self.context.config.name
        ttys = [each.tty for each in self.logins() if each.tty is not None]
        notify.announce(ttys, title=f"{name}: {text}", text=f"Dumont: {text}")
        self.publish()

    def report(self) -> dict[str, Any]:
        """The heartbeat's `guard`; see `docs/protection.md`."""
        state, look = self.state, self.look
        link, since = self.link.state()
        shown: dict[str, Any] = {
            "link": link,
            "link_since": timestamp(since),
            "endpoint_sessions": None if look is None else look.sessions,
            "standby_sessions": self.custody.standby_sessions(),
            "preempting": self.preemption.preempting,
            "wake": state is not None and guard_texts.rests(state) and self._is_woken(state),
        }
        if state is None:
            return {**shown, "authority": None, "epoch": None, "cause": guard_texts.UNKNOWN}
        names = ("authority", "epoch", "held", "since", "cause", "written", "redirects")
        more = ("false_alarms", "quiesced", "redirect", "forced", "host", "port")
        return {**{name: getattr(state, name) for name in names + more}, **shown}

    def _is_woken(self, state: State) -> bool:
        return self._wake_epoch == state.epoch

    def publish(self) -> None:
        """Tell the control plane what changed; nothing when nothing did."""
        shown = self.report()
        if shown == self._published:
            return
        quiet = ("endpoint_sessions", "standby_sessions", "link_since")
        urgent = any(
            shown.get(name) != self._published.get(name) for name in shown if name not in quiet
        )
        self._published = shown
        self.context.publish("guard", shown, now=urgent)
        woken = self.state is not None and self._is_woken(self.state)
        self.context.tell(guard_texts.status(self.context.config.name, self.state, woken=woken))

    # Inside -----------------------------------------------------------------------------------

    def _open(self) -> None:
        """Read the authority, or write the first."""
        config = self.context.config
        primary = config.primary
        if self.file.is_new():
            self.file.create(
                dataclasses.replace(
                    authority.first(
                        epoch=config.epoch,
                        host=primary.host if primary else None,
                        port=primary.port if primary else None,
                        sync_public_key=primary.sync_public_key if primary else "",
                        now=timestamp(),
                    ),
                    config=config.digest,
                )
            )
        try:
            self.state = self.file.read()
            if self.state.config != config.digest and config.epoch >= self.state.epoch:
                self._configure(config)
        except AgentError as error:
            self.log.error("%s: nobody may write until this standby is fenced", error.message)
            self.state = None

    def _configure(self, config: AgentConfig) -> None:
        if self.state is None:
            return
        primary = config.primary
        self._change(
            lambda s: authority.configure(
                s,
                epoch=config.epoch,
                host=primary.host if primary else None,
                port=primary.port if primary else None,
                sync_public_key=primary.sync_public_key if primary else "",
                config=config.digest,
            )
        )

    def _reconcile(self) -> None:
        """Make everything agree with the authority, whatever an earlier guard left half-done."""
        with self.lock:
            try:
                if self.state is None:
                    self.endpoint.follow(None)
                else:
                    self.settle(self.state)
                self._revive_s = _REVIVE_S[0]
            except AgentError as error:
                self.log.error("endpoint: %s", error.message)
                self.context.stop.wait(self._revive_s)
                self._revive_s = min(2 * self._revive_s, _REVIVE_S[1])

    def _step(self, said: list[str]) -> None:
        detected = time.monotonic()
        look = self.fresh_look()
        for message in said:
            self.log.info("haproxy: %s", message.strip()[:300])
        if look is None:
            if not self.context.stop.is_set():
                self.log.warning("haproxy does not answer: starting it")
                self._reconcile()
            return
        with self.lock:
            state = self.state
            serves = state is not None and state.authority == authority.PRIMARY
            if serves and look.primary_is_down and self._is_down_now():
                words = reason_in(said)
                cause = look.cause + (f" ({words})" if words else "")
                self.redirect(cause=cause, detected=detected)
            elif serves == (look.primary.status == "MAINT"):
                self._reconcile()
            elif serves:
                self._calm = look
        self.publish()

    def _is_down_now(self) -> bool:
        """Asked again under the lock: a command may have moved the primary since the look."""
        look = self.fresh_look()
        return look is None or look.primary_is_down

    def _change(self, transition: authority.Transition) -> State:
        self.state = self.file.change(transition)
        return self.state

    def _baseline(self) -> dict[str, Any]:
        calm = self._calm
        if calm is not None and self.look is not None and calm.pid == self.look.pid:
            return baseline(calm, certain=True)
        # We were not there when HAProxy redirected: all that ever came counts, with a doubt.
        zero = None
        if self.look is not None:
            nothing = dataclasses.replace(self.look.standby, bytes_in=0)
            zero = dataclasses.replace(self.look, standby=nothing)
        return baseline(zero, certain=False)

    def _end_receivers(self, state: State) -> None:
        def allowed(epoch: int, writes: bool) -> bool:
            may = authority.may_write if writes else authority.may_read
            return may(state, epoch)

        ended = guard_receivers.end(self.paths.run, allowed=allowed)
        if ended:
            self.log.info("ended %d receivers", ended)

    def _watch_link(self) -> None:
        state = self.state
        target = None
        if state is not None and state.host is not None and state.port is not None:
            target = (state.host, state.port)
        awaited = state is not None and state.authority == authority.STANDBY and not state.held
        self.link.watch(
            target,
            every_s=_LINK_S[0] if awaited else _LINK_S[1],
            timeout_s=max(0.25, (self._config.connect_ms + self._config.check_ms) / 1000),
        )


class _Stopwatch:
    """Milliseconds since the evidence, step by step."""

    def __init__(self, detected: float) -> None:
        self._detected = detected
        self.at = timestamp(time.time() - (time.monotonic() - detected))
        self.noted: dict[str, Any] = {"detected_at": self.at}

    def note(self, name: str) -> None:
        self.noted[name] = round((time.monotonic() - self._detected) * 1000, 1)
