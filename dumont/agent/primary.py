"""The primary's work: keep the standby's copy of the workspace true, and say how true it is."""

from __future__ import annotations

from dumont.agent.context import Context


def run(context: Context) -> None:
    """Work until told to stop."""
    context.tell("This machine is not protected: it has no standby.")
    context.publish("protection", {})
    context.stop.wait()
