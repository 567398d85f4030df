"""The commands that any body understands: apply, status, stop, resume, and asking the daemon."""

from __future__ import annotations

import time
from typing import Any

from dumont.agent import config as configuration
from dumont.agent import control, daemon, store
from dumont.agent.config import AgentConfig
from dumont.agent.errors import AgentError
from dumont.agent.paths import Paths, program_digest

_TAKEN_S = 15.0


def apply(paths: Paths, text: str) -> dict[str, Any]:
    """Store a configuration, and have the daemon work by it; returns the daemon's status.

    Idempotent. A guard refuses what its authority forbids (`guard.before_apply`), a primary what is
    older than what it has.
    """
    document = configuration.to_document(text)
    wanted = configuration.parse(document)
    paths.ensure()
    _check_epoch(paths, wanted)
    if wanted.role == "standby":
        from dumont.agent import guard

        guard.before_apply(paths, wanted)
    store.write_json(paths.config, document, mode=0o600)
    daemon_takes(paths, wanted)
    return status(paths)


def daemon_takes(paths: Paths, wanted: AgentConfig) -> None:
    """Have a daemon of this very program run with the stored configuration."""
    deadline = time.monotonic() + _TAKEN_S
    reloaded = False
    while True:
        try:
            found = control.call(paths, "ping", timeout_s=3)
            if found["program"] != program_digest():
                daemon.stop(paths)
            elif found["config"] == wanted.digest:
                if store.read_json(paths.status_json)["config"] == wanted.digest:
                    return
            elif not reloaded:
                control.call(paths, "reload", timeout_s=10)
                reloaded = True
        except (AgentError, TypeError, KeyError):
            pass  # between two workers, or not started yet
        daemon.start(paths)
        if time.monotonic() > deadline:
            message = f"the daemon did not take the configuration up; see {paths.log}"
            raise AgentError(message, code="timeout")
        time.sleep(0.05)


def status(paths: Paths) -> dict[str, Any]:
    """`status.json` and whether the daemon runs."""
    document = store.read_json(paths.status_json) or {}
    return {**document, "running": daemon.is_running(paths)}


def stop(paths: Paths) -> dict[str, Any]:
    """End the daemon and what it started."""
    from dumont.agent import guard

    stopped = daemon.stop(paths)
    guard.after_stop(paths)
    return {"stopped": stopped}


def resume(paths: Paths) -> dict[str, Any]:
    """Start the daemon when there is a configuration; a boot calls this."""
    if not paths.config.exists():
        return {"running": False}
    daemon.start(paths)
    return {"running": True}


def observe(paths: Paths) -> dict[str, Any]:
    """The `host` section, for a machine without a daemon: two readings a second apart.

    What people do is taken since the last call where that was minutes ago. Installs the command with
    which they ask to be left alone.
    """
    import logging

    from dumont.agent import hook, telemetry
    from dumont.agent.activity import Activity

    paths.base.mkdir(mode=0o700, exist_ok=True)
    activity = Activity(paths.base, every_s=0.0)
    reader = telemetry.Telemetry(workspace=paths.workspace, activity=activity)
    kept = paths.base / "observed.json"
    activity.recall(kept)
    time.sleep(1.0)
    host = reader.read()
    activity.remember(kept)
    figures = ("gpu_percent", "gpu_memory_mb", "gpu_memory_busy_percent")
    host.update(zip(figures, telemetry.gpu_load()))
    hook.install_command(paths, logging.getLogger("dumont.agent"), hook.KEEP_ALIVE)
    return host


def tell(paths: Paths, text: str) -> dict[str, Any]:
    """Print a line on every terminal of this machine; returns on how many.

    What is printed here is nobody's activity: the time is noted for `Activity`.
    """
    from dumont.agent import activity, notify

    paths.base.mkdir(mode=0o700, exist_ok=True)
    store.write_text(paths.base / activity.TOLD, "", sync=False)
    line = " ".join(text.split())
    if not line:
        raise AgentError("there is nothing to tell", code="invalid")
    return {"terminals": notify.announce(activity.terminals(), title="dumont", text=line)}


def ask(
    paths: Paths, command: str, arguments: dict[str, Any], *, timeout_s: float | None = 60.0
) -> dict[str, Any]:
    """Have the daemon do something, starting it when it is configured and does not run."""

    def say(line: str) -> None:
        print(line, flush=True)  # noqa: T201

    try:
        return control.call(paths, command, arguments, timeout_s=timeout_s, progress=say)
    except AgentError as error:
        if error.code != "not_running" or not paths.config.exists():
            raise
    wanted = configuration.parse(store.read_json(paths.config))
    daemon_takes(paths, wanted)
    return control.call(paths, command, arguments, timeout_s=timeout_s, progress=say)


def _check_epoch(paths: Paths, wanted: AgentConfig) -> None:
    """An answer that was under way for long must not undo a newer configuration."""
    try:
        stored = configuration.parse(store.read_json(paths.config))
    except (AgentError, ValueError):
        return
    same = stored.role == wanted.role == "primary" and stored.machine_id == wanted.machine_id
    if same and wanted.epoch < stored.epoch:
        message = f"epoch {wanted.epoch} is over; this machine is in epoch {stored.epoch}"
        raise AgentError(message, code="fenced")
