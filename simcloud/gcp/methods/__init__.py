"""The methods of the Compute API, by the resource they are about."""

from simcloud.gcp.methods import (
    addresses,
    catalog,
    disks,
    firewalls,
    instances,
    operations,
    projects,
    settings,
)

ALL = (
    *projects.METHODS,
    *catalog.METHODS,
    *firewalls.METHODS,
    *operations.METHODS,
    *addresses.METHODS,
    *disks.METHODS,
    *instances.METHODS,
    *settings.METHODS,
)
"""Every method; earlier ones win where two paths match."""

__all__ = ["ALL"]
