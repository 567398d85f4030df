"""What the guard says to people. One place, so that it can be read in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dumont.agent import authority

if TYPE_CHECKING:
    from dumont.agent.authority import State

UNKNOWN = "unknown: the authority file is missing or damaged"


RESTS = "the machine hibernates"
"""How the cause of a redirect begins that is no failover: no GPU is rented until somebody asks."""


def rests(state: State) -> bool:
    """Whether the machine hibernates on this standby."""
    return state.authority == authority.STANDBY and state.cause.startswith(RESTS)


def status(name: str, state: State | None, *, woken: bool = False) -> str:
    """For `~/.dumont/status` and at login."""
    if state is None:
        return f"{name}: this is its standby. Who may write is unknown; the mirror is stopped."
    if state.authority == authority.PRIMARY:
        return (
            f"{name}: this is its standby, a copy. Work happens on the GPU machine; what you change "
            "here is overwritten."
        )
    if state.waiting:
        return f"{name}: this is its standby. {state.cause}."
    lines = [
        f"{name}: you are on its standby (no GPU), with your files as of the last mirrored moment.",
        f"Since {state.since}: {state.cause}.",
    ]
    if state.quiesced:
        lines.append("You are being moved to a GPU now: connect again in a moment.")
    elif rests(state) and not woken:
        lines.append(
            "No GPU is rented. `dumont-wake` asks for one; what you change here goes with you."
        )
    elif state.held:
        lines.append("A GPU is being prepared. What you change here goes with you.")
    else:
        lines.append("What you change here is kept.")
    return "\n".join(lines)


def redirected(name: str, state: State) -> str:
    """On terminals, when the standby took over."""
    return f"{name} works on its standby now ({state.cause})"


def moving(name: str) -> str:
    """On terminals, before sessions are cut."""
    return f"{name} moves back to a GPU now: connect again in a moment"


def healed(name: str) -> str:
    """On terminals, when the link came back."""
    return f"{name} is back on its GPU: the link was lost for a moment only"


def handed_back(name: str) -> str:
    """On terminals, once a GPU has the authority."""
    return f"{name} is on a GPU again: connect again to get there"
