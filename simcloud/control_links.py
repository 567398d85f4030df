"""What the control API says and takes about network links; both clouds' parts of it use this."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from simcloud.faults import FaultRule
from simcloud.machines import LinkFault, LinksUnavailable, Machines
from simcloud.machines.links import Cut


class LinkChange(BaseModel):
    """What shall be wrong with a machine's link; an empty one mends it."""

    model_config = ConfigDict(extra="forbid")

    cut: Cut = "none"
    """Direction that is dead: what the machine receives (`in`), what it sends (`out`), or both."""
    loss: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of packets lost in what is not dead."""

    def fault(self) -> LinkFault:
        """Return it as the engine takes it."""
        return LinkFault(cut=self.cut, loss=self.loss)


def shown(machines: Machines, name: str) -> dict[str, Any]:
    """Return a machine's link as the control API shows it."""
    fault = machines.link(name)
    return {"cut": fault.cut, "loss": fault.loss}


async def change(machines: Machines, name: str, wanted: LinkChange) -> dict[str, Any]:
    """Put a running machine's link into a state and return that.

    Raises:
        HTTPException: 404 when it does not run, 501 when links cannot be cut here.
    """
    if not machines.alive(name):
        raise HTTPException(404, f"no machine {name} is running")
    try:
        await machines.set_link(name, wanted.fault())
    except LinksUnavailable as error:
        raise HTTPException(501, str(error)) from error
    return {"name": name, **shown(machines, name)}


def check_rule(machines: Machines, rule: FaultRule) -> None:
    """Refuse a rule that this computer cannot play, or that makes no sense.

    Raises:
        HTTPException: 501 or 422.
    """
    if rule.effect == "small_disk" and machines.disks_reason:
        raise HTTPException(501, machines.disks_reason)
    if rule.effect != "cut_after":
        return
    if not machines.links:
        raise HTTPException(501, machines.links_reason)
    try:
        link_of(rule)
    except ValidationError as error:
        first = error.errors()[0]
        raise HTTPException(422, f"parameters.{first['loc'][0]}: {first['msg']}") from error


def link_of(rule: FaultRule) -> LinkFault:
    """Return what a `cut_after` rule does to a link: without further words it is cut both ways."""
    named = {key: rule.parameters[key] for key in ("cut", "loss") if key in rule.parameters}
    return LinkChange.model_validate(named or {"cut": "both"}).fault()
