"""What a machine is made of and what it is using: plain values, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class GpuSpec:
    """One GPU that the machine's `nvidia-smi` shows."""

    name: str
    """Marketing name as `nvidia-smi` prints it, e.g. `NVIDIA GeForce RTX 4090`."""
    memory_mb: int
    """Total memory in MiB."""
    driver_version: str = "570.86.15"
    """NVIDIA driver version."""
    cuda_version: str = "12.8"
    """Newest CUDA version that the driver supports."""
    power_limit_w: int = 350
    """Board power limit in watts."""
    compute_capability: str = "8.9"
    """CUDA compute capability."""


@dataclass(frozen=True, kw_only=True)
class MachineSpec:
    """Everything needed to boot a machine; a later boot may carry a changed one."""

    name: str
    """Unique over all providers; also the name of the machine's directory."""
    hostname: str
    """Host name inside the machine."""
    address: str
    """The machine's own loopback address, 127.x.y.z."""
    ssh_port: int
    """Port of its sshd on that address."""
    authorized_keys: tuple[str, ...] = ()
    """OpenSSH public key lines for `user`."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of `onstart`; ssh sessions do not see it (as on Vast.ai)."""
    onstart: str | None = None
    """Script run in the background at every boot, after sshd has started."""
    on_shutdown: str | None = None
    """Script run when the machine is asked to shut down, within the grace period."""
    gpus: tuple[GpuSpec, ...] = ()
    """None means a machine without `nvidia-smi`."""
    disk_gb: float = 10.0
    """Size of the disk it was rented with, for reporting; not enforced, see `disk_mb`."""
    disk_mb: int | None = None
    """Put the workspace on a file system of this size, which can be full; None is no limit."""
    metadata_url: str | None = None
    """Base URL of its metadata server; its host becomes `metadata.google.internal` inside."""
    user: str = "root"
    """Login user; created inside the machine when it is not root."""
    root_login: bool = True
    """Whether the image's sshd lets root in, where root has keys; `/etc/ssh` inside may change it."""
    ssh: bool = True
    """Whether an sshd runs at all."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a machine uses at this moment. None is unknown, never zero."""

    cpu: float | None
    """Busy cores since the previous reading, e.g. 1.5; None at the first reading."""
    memory_mb: float
    """Resident memory of all its processes."""
    disk_gb: float
    """Bytes on its own disk (home, workspace and changed system files)."""
    gpu_util: float | None
    """Percent 0-100 over its GPUs: CPU used by processes that are neither sshd nor shells."""
    gpu_memory_mb: float | None
    """Memory held by those processes."""
    processes: int
    """Number of processes, its init included."""
