"""Machines as real processes: sshd on an address of their own, home, workspace, nvidia-smi."""

from simcloud.machines.addresses import AddressPool, free_address
from simcloud.machines.disks import DisksUnavailable
from simcloud.machines.engine import Machines
from simcloud.machines.launch import Isolation
from simcloud.machines.links import LinkFault, LinksUnavailable
from simcloud.machines.spec import GpuSpec, MachineSpec, Usage

__all__ = [
    "AddressPool",
    "DisksUnavailable",
    "GpuSpec",
    "Isolation",
    "LinkFault",
    "LinksUnavailable",
    "MachineSpec",
    "Machines",
    "Usage",
    "free_address",
]
