"""The worker process: sets up what every role needs and runs the role.

Started by the supervisor (`daemon.py`), in a process group of its own. Ends with `os._exit`, so that
no thread that hangs in the network can keep a stopped daemon alive.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import signal
import sys
from typing import Any

from dumont.agent import processes, store
from dumont.agent.activity import Activity
from dumont.agent.config import AgentConfig, parse
from dumont.agent.context import Context
from dumont.agent.control import Control, Say
from dumont.agent.daemon import RESTART
from dumont.agent.heartbeat import Heartbeat
from dumont.agent.paths import Paths, program_digest
from dumont.agent.telemetry import Telemetry

_LOG_BYTES = 1 << 20
_LOG_FILES = 5


def main(paths: Paths) -> int:
    """Be the worker. Does not return."""
    processes.die_with_parent(signal.SIGTERM)
    processes.name_this()
    paths.ensure()
    log = _open_log(paths)
    status = 1
    try:
        status = _work(paths, log)
    except Exception:
        log.exception("the worker failed")
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)


def load(paths: Paths) -> AgentConfig:
    """The stored configuration. Raises AgentError or ValueError when there is none that is valid."""
    return parse(store.read_json(paths.config))


def _work(paths: Paths, log: logging.Logger) -> int:
    config = load(paths)
    control = Control(paths=paths, log=log)
    context = Context(paths=paths, config=config, control=control, log=log)
    heartbeat = Heartbeat(
        config=config.heartbeat,
        identity=context.identity,
        host=Telemetry(workspace=paths.workspace, activity=Activity(paths.base)).read,
        fenced=context.fenced,
        log=log,
    )
    context.heartbeat = heartbeat
    reloader = _Reloader(context)
    signal.signal(signal.SIGTERM, lambda *_: context.stop.set())
    signal.signal(signal.SIGINT, lambda *_: context.stop.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    control.register("ping", lambda _, __: reloader.ping())
    control.register("status", lambda _, __: context.status())
    control.register("reload", reloader.reload)
    control.start()
    heartbeat.start()
    log.info("started: %s, generation %d, epoch %d", config.role, config.generation, config.epoch)
    if config.role == "primary":
        from dumont.agent import primary

        primary.run(context)
    else:
        from dumont.agent import guard

        guard.run(context)
    if not context.stop.is_set():
        log.error("the %s's work ended by itself", config.role)
        return 1
    control.close()
    heartbeat.close()
    return RESTART if reloader.restarting else 0


class _Reloader:
    """Takes up a configuration that was stored while we run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._program = program_digest()
        self.restarting = False

    def ping(self) -> dict[str, Any]:
        return {"program": self._program, "config": self._context.config.digest, "pid": os.getpid()}

    def reload(self, _: dict[str, Any], __: Say) -> dict[str, Any]:
        context = self._context
        config = load(context.paths)
        if config.digest == context.config.digest:
            return {"restarting": False}
        take = context.on_reload
        if config.role == context.config.role and take is not None and take(config):
            context.adopt(config)
            if context.heartbeat is not None:
                context.heartbeat.configure(config.heartbeat)
            return {"restarting": False}
        self.restarting = True
        context.stop.set()
        return {"restarting": True}


def _open_log(paths: Paths) -> logging.Logger:
    handler = logging.handlers.RotatingFileHandler(
        str(paths.log / "agent.log"), maxBytes=_LOG_BYTES, backupCount=_LOG_FILES
    )
    form = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s")
    form.default_time_format = "%Y-%m-%dT%H:%M:%S"
    form.datefmt = "%Y-%m-%dT%H:%M:%S"
    import time

    form.converter = time.gmtime
    handler.setFormatter(form)
    log = logging.getLogger("dumont.agent")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    return log
