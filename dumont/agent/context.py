"""What the daemon gives to the part that does the work: `primary.run(context)` or `guard.run(context)`.

The contract between the core and a role:

- `run(context)` is called in the main thread of the worker process and returns soon after
  `context.stop` is set. Returning earlier, or raising, counts as a crash: the supervisor starts the
  worker again with back-off. It must therefore pick up whatever an earlier worker left behind.
- Children that it starts stay in the worker's process group (no `start_new_session`): the supervisor
  kills the group when the worker ends for any reason. A child that must outlive the worker is
  started with `start_new_session=True` and `env=context.outliving_environment()`, and the next
  worker finds it again by its own means.
- `context.publish(...)` replaces the role's section of `status.json` and of the heartbeat. Call it
  as often as it changes; pass `now=True` for what the control plane should hear at once.
- `context.tell(...)` sets the text for people (`~/.dumont/status`, shown at login).
- `context.control.register(name, handler)` serves commands; see `control.py`. Handlers run in threads
  of their own.
- `context.on_reload`, when set, is called (in a control thread) with a new configuration of the same
  role; it returns True when it took it up in place. Otherwise the worker is started anew with it.
- `context.fenced` is set once a heartbeat was answered with `fenced: true`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from dumont.agent import PROTOCOL, store
from dumont.agent.hello import boot_id
from dumont.agent.paths import MARKER, program_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from dumont.agent.config import AgentConfig
    from dumont.agent.control import Control
    from dumont.agent.heartbeat import Heartbeat
    from dumont.agent.paths import Paths


class Context:
    """Everything a role needs of the daemon.

    Attributes:
        paths: Where things are.
        config: The configuration in force.
        stop: Set when the worker has to end.
        fenced: Set once the control plane said that this body is fenced.
        control: Serves commands.
        heartbeat: Posts the state; see `publish`. Has `last_acknowledged` (monotonic, or None).
        log: Goes to `~/.dumont/log/agent.log`.
        on_reload: Set by the role: takes up a new configuration in place, or returns False.
    """

    def __init__(
        self, *, paths: Paths, config: AgentConfig, control: Control, log: logging.Logger
    ) -> None:
        self.paths = paths
        self.config = config
        self.control = control
        self.log = log
        self.stop = threading.Event()
        self.fenced = threading.Event()
        self.heartbeat: Heartbeat | None = None
        self.on_reload: Callable[[AgentConfig], bool] | None = None
        self._lock = threading.Lock()
        self._sections: dict[str, Any] = {}
        self._text = ""
        self._program = program_digest()
        self._boot_id = boot_id()

    def publish(self, section: str, state: dict[str, Any], *, now: bool = False) -> None:
        """Replace a section (`protection` or `guard`) of the status and of the heartbeat.

        Args:
            section: Its name in the heartbeat.
            state: As in `docs/protection.md`; what is unknown is None.
            now: Whether the control plane should hear of it at once.
        """
        with self._lock:
            self._sections[section] = state
            self._write()
        if self.heartbeat is not None:
            self.heartbeat.set({section: state})
            if now:
                self.heartbeat.poke()

    def adopt(self, config: AgentConfig) -> None:
        """Go on under another configuration; whoever waits for it sees it in the status."""
        with self._lock:
            self.config = config
            self._write()

    def tell(self, text: str) -> None:
        """Set the text for people: a few lines, shown at login and in `~/.dumont/status`."""
        with self._lock:
            if text == self._text:
                return
            self._text = text
            store.write_text(self.paths.status_text, text.rstrip("\n") + "\n", sync=False)
        self.log.info("told: %s", text.strip())

    def status(self) -> dict[str, Any]:
        """The document of `status.json`."""
        with self._lock:
            return self._document()

    def outliving_environment(self) -> dict[str, str]:
        """The environment for a child that is not to be ended with the worker."""
        return {name: value for name, value in os.environ.items() if name != MARKER}

    def identity(self) -> dict[str, Any]:
        """The fields that say who speaks."""
        config = self.config
        return {
            "protocol": PROTOCOL,
            "role": config.role,
            "machine_id": config.machine_id,
            "generation": config.generation,
            "epoch": config.epoch,
            "instance_id": config.instance_id,
            "boot_id": self._boot_id,
        }

    def _document(self) -> dict[str, Any]:
        return {
            **self.identity(),
            "name": self.config.name,
            "config": self.config.digest,
            "program": self._program,
            "pid": os.getpid(),
            "updated_at": timestamp(),
            **self._sections,
        }

    def _write(self) -> None:
        try:
            store.write_json(self.paths.status_json, self._document(), sync=False)
        except OSError as error:
            # A full disk must not stop protection; the heartbeat still tells.
            self.log.warning("status.json: %s", error)


def timestamp(seconds: float | None = None) -> str:
    """A moment (default: now) as ISO 8601 in UTC with milliseconds."""
    milliseconds = int((time.time() if seconds is None else seconds) * 1000)
    whole, rest = divmod(milliseconds, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{rest:03d}Z"
