"""The primary's work: keep the standby's copy of the workspace true, and say how true it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dumont.agent import hook, notify
from dumont.agent.dead_man import DeadMan
from dumont.agent.errors import AgentError
from dumont.agent.flush import Barrier
from dumont.agent.mirror import Mirror
from dumont.agent.restore import Restore

if TYPE_CHECKING:
    from dumont.agent.context import Context
    from dumont.agent.control import Say


def run(context: Context) -> None:
    """Work until told to stop."""
    hook.install_command(context.paths, context.log, hook.KEEP_ALIVE)
    if context.config.mirror is None:
        context.tell("This machine is not protected: it has no standby.")
        context.publish("protection", {})
        for command in ("flush", "restore"):
            context.control.register(command, _no_standby)
        context.stop.wait()
        return
    mirror = Mirror(context, context.config.mirror)
    barrier = Barrier(context, mirror)
    context.control.register("flush", barrier.handle)
    context.control.register("restore", Restore(context, mirror).handle)
    hook.install_command(context.paths, context.log)
    hook.Hook(context, barrier).start()
    if context.config.dead_man is not None:
        DeadMan(context, context.config.dead_man, barrier).start()
    notify.install_login_line(context.paths)
    mirror.run()


def _no_standby(_: dict[str, Any], __: Say) -> dict[str, Any]:
    raise AgentError("this machine has no standby", code="not_mirrored")
