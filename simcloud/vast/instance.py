"""One rented instance as a durable value: what was ordered, its four status axes, its meters."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

Hold = Literal["owner", "outbid", "credit", "expired", "birth", "target"]
"""Why an instance that exists does not run."""


class AttachedKey(BaseModel):
    """A public key on one instance."""

    id: int
    key: str


class Instance(BaseModel):
    """A contract between the account and a host."""

    id: int
    machine_id: int
    slot: int
    ask_id: int
    label: str | None
    image: str
    image_args: list[str] = Field(default_factory=list)
    env: list[tuple[str, str]]
    """Environment and docker flags (`-p 80:80` -> `1`), as ordered."""
    onstart: str | None
    runtype: str
    disk_gb: float
    is_bid: bool
    price: float
    """GPU $/h: the bid, or the on-demand price at the time of renting."""
    storage_cost: float
    """$ per GB and month, fixed at the time of renting."""
    inet_up_cost: float = 0.0
    inet_down_cost: float = 0.0
    created_at: float
    end_date: float
    address: str
    host_ports: dict[str, int]
    """`22/tcp` -> port on `address`."""
    ssh_port: int
    """Port on the proxy."""
    api_key: str
    """Its own key: may start, stop and destroy this instance only."""
    jupyter_token: str
    keys: list[AttachedKey]
    template_hash_id: str | None = None
    template_id: int | None = None

    cur_state: str = "running"
    next_state: str = "running"
    intended_status: str = "running"
    actual_status: str | None = None
    status_msg: str | None = None
    wanted: bool = True
    """What the owner really asked for last; `intended_status` may be flipped by an outbid."""
    hold: Hold | None = None
    running_since: float | None = None
    rebooted: bool = False
    """Its host went down under it with simcloud; it waits to be started."""
    fixed_metrics: dict[str, Any] | None = None
    """Metrics set through the control API, shown instead of measured ones."""
    gone_at: float | None = None
    """Destroyed at this time (real seconds), but perhaps still listed."""

    billed_until: float
    gpu_seconds: float = 0.0

    @property
    def name(self) -> str:
        """Name of its machine in the process engine."""
        return f"vast-{self.id}"

    @property
    def serves_ssh(self) -> bool:
        """Whether an sshd runs in it: every runtype but a bare `args`."""
        return serves_ssh(self.runtype)

    @property
    def running(self) -> bool:
        """Whether its container runs, as far as the provider knows."""
        return self.actual_status == "running"

    def exists(self) -> bool:
        """Whether it was not destroyed."""
        return self.gone_at is None


def serves_ssh(runtype: str) -> bool:
    """Whether instances of a runtype run an sshd."""
    return "ssh" in runtype or "jupyter" in runtype
