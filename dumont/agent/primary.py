"""The primary's work: keep the standby's copy of the workspace true, and say how true it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dumont.agent import hook
from dumont.agent.errors import AgentError
from dumont.agent.flush import Barrier
from dumont.agent.mirror import Mirror

if TYPE_CHECKING:
    from dumont.agent.context import Context
    from dumont.agent.control import Say


def run(context: Context) -> None:
    """Work until told to stop."""
    if context.config.mirror is None:
        context.tell("This machine is not protected: it has no standby.")
        context.publish("protection", {})
        context.control.register("flush", _no_standby)
        context.stop.wait()
        return
    mirror = Mirror(context, context.config.mirror)
    barrier = Barrier(context, mirror)
    context.control.register("flush", barrier.handle)
    hook.install_command(context.paths, context.log)
    hook.Hook(context, barrier).start()
    mirror.run()


def _no_standby(_: dict[str, Any], __: Say) -> dict[str, Any]:
    raise AgentError("this machine has no standby", code="not_mirrored")
