"""Which machine types can be had: E2, N1 and N2, with Google's own sizes.

`billed_cores` differs from `guest_cpus` for shared-core types: e2-small shows two CPUs to its guest
and is billed for half of one. Price lists that multiply by `guestCpus` are wrong by a factor of
four; `simcloud.gcp.prices` uses `billed_cores`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """One machine type; the same in every zone."""

    name: str
    guest_cpus: int
    memory_mb: int
    billed_cores: float
    shared_core: bool = False
    description: str
    maximum_disks: int = 128

    @property
    def family(self) -> str:
        """Series in lower case, such as `e2`."""
        return self.name.partition("-")[0]


def _shared(name: str, cpus: int, cores: float, memory_mb: int, description: str) -> MachineType:
    return MachineType(
        name=name,
        guest_cpus=cpus,
        memory_mb=memory_mb,
        billed_cores=cores,
        shared_core=True,
        description=description,
        maximum_disks=16,
    )


def _predefined(series: str, kind: str, cpus: int, memory_mb: int) -> MachineType:
    plural = "s" if cpus > 1 else ""
    return MachineType(
        name=f"{series}-{kind}-{cpus}",
        guest_cpus=cpus,
        memory_mb=memory_mb,
        billed_cores=float(cpus),
        description=f"{cpus} vCPU{plural}, {memory_mb / 1024:g} GB RAM",
    )


def _series(series: str, kind: str, sizes: tuple[int, ...], mb_per_cpu: int) -> list[MachineType]:
    return [_predefined(series, kind, cpus, cpus * mb_per_cpu) for cpus in sizes]


_N1 = (1, 2, 4, 8, 16, 32, 64, 96)
_N2 = (2, 4, 8, 16, 32, 48, 64, 80, 96, 128)

MACHINE_TYPES: dict[str, MachineType] = {
    machine_type.name: machine_type
    for machine_type in sorted(
        [
            _shared(
                "e2-micro", 2, 0.25, 1024, "Efficient Instance, 2 vCPU (1/8 shared core), 1 GB RAM"
            ),
            _shared(
                "e2-small", 2, 0.5, 2048, "Efficient Instance, 2 vCPU (1/4 shared core), 2 GB RAM"
            ),
            _shared(
                "e2-medium", 2, 1.0, 4096, "Efficient Instance, 2 vCPU (1/2 shared core), 4 GB RAM"
            ),
            _shared("f1-micro", 1, 0.2, 614, "1 vCPU (shared physical core) and 0.6 GB RAM"),
            _shared("g1-small", 1, 0.5, 1740, "1 vCPU (shared physical core) and 1.7 GB RAM"),
            *_series("e2", "standard", (2, 4, 8, 16, 32), 4096),
            *_series("e2", "highmem", (2, 4, 8, 16), 8192),
            *_series("e2", "highcpu", (2, 4, 8, 16, 32), 1024),
            *_series("n1", "standard", _N1, 3840),
            *_series("n1", "highmem", _N1[1:], 6656),
            *_series("n1", "highcpu", _N1[1:], 922),
            *_series("n2", "standard", _N2, 4096),
            *_series("n2", "highmem", _N2, 8192),
            *_series("n2", "highcpu", _N2[:9], 1024),
        ],
        key=lambda machine_type: machine_type.name,
    )
}
"""Every predefined type by name."""

_CUSTOM = re.compile(r"(?P<series>e2|n2)-custom-(?P<cpus>\d+)-(?P<memory>\d+)$")


def find_machine_type(name: str) -> MachineType | None:
    """Return the type called `name`, predefined or custom (`e2-custom-4-8192`), or None."""
    predefined = MACHINE_TYPES.get(name)
    if predefined is not None:
        return predefined
    custom = _CUSTOM.match(name)
    if custom is None:
        return None
    cpus, memory_mb = int(custom["cpus"]), int(custom["memory"])
    limit = 32 if custom["series"] == "e2" else 96
    if not 2 <= cpus <= limit or cpus % 2 or memory_mb % 256:
        return None
    if not cpus * 512 <= memory_mb <= cpus * 8192:
        return None
    return MachineType(
        name=name,
        guest_cpus=cpus,
        memory_mb=memory_mb,
        billed_cores=float(cpus),
        description=f"Custom created machine type, {cpus} vCPUs, {memory_mb / 1024:g} GB RAM",
    )
