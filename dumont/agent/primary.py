"""The primary's work: keep the standby's copy of the workspace true, and say how true it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dumont.agent.mirror import Mirror

if TYPE_CHECKING:
    from dumont.agent.context import Context


def run(context: Context) -> None:
    """Work until told to stop."""
    if context.config.mirror is None:
        context.tell("This machine is not protected: it has no standby.")
        context.publish("protection", {})
        context.stop.wait()
        return
    Mirror(context, context.config.mirror).run()
