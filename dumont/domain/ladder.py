"""The readiness ladder: what has to be true, in order, before a rented instance is usable."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from dumont.domain.instances import Message


class Rung(StrEnum):
    """One step of the ladder; the order of definition is the order of climbing."""

    RENTED = "rented"
    """The provider accepted the order and lists the instance."""
    RUNNING = "running"
    """The provider says that it runs."""
    PORT_MAPPED = "port_mapped"
    """The provider says where its SSH port is reachable."""
    TCP = "tcp"
    """That port accepts a connection."""
    SSH = "ssh"
    """An SSH server answers there with this machine's host key, and lets us in."""
    AGENT = "agent"
    """Our agent ran there: the GPU is visible, the workspace writable."""

    @property
    def sentence(self) -> str:
        """The rung as a person reads it."""
        return _SENTENCES[self]


_SENTENCES = {
    Rung.RENTED: "rented",
    Rung.RUNNING: "provider says running",
    Rung.PORT_MAPPED: "SSH port mapped",
    Rung.TCP: "port accepts connections",
    Rung.SSH: "SSH answers with the machine's key",
    Rung.AGENT: "GPU visible, workspace writable",
}


class AgentHello(Message):
    """What the agent saw on an instance right after it was pushed there."""

    agent_version: str
    protocol: int
    hostname: str
    gpus: tuple[str, ...]
    """Model names as nvidia-smi prints them; empty when there is none."""
    gpu_memory_mb: tuple[int, ...] = ()
    driver: str | None = None
    workspace_writable: bool
    workspace_free_gb: float | None = None
    cpu_count: int | None = None
    memory_gb: float | None = None
    boot_id: str | None = None
    clock: datetime | None = None
