"""What the project has: instances, disks, project-wide metadata. Durable, with change signals.

It keeps things and tells who waits that they changed; it decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from simcloud.gcp import errors
from simcloud.gcp.records import Disk, Instance
from simcloud.store import Store


class Inventory:
    """Instances and disks by zone and name."""

    def __init__(self, *, store: Store, project: str) -> None:
        self._project = project
        self._instance_documents = store.collection("gcp_instances")
        self._disk_documents = store.collection("gcp_disks")
        self._settings = store.collection("gcp_project")
        self._instances = {
            key: Instance.model_validate(document)
            for key, document in self._instance_documents.items()
        }
        self._disks = {
            key: Disk.model_validate(document) for key, document in self._disk_documents.items()
        }
        self._metadata: list[dict[str, str]] = self._settings.get("metadata") or []
        self._changes: dict[str, asyncio.Event] = {}

    def instances(self, *, zone: str | None = None) -> list[Instance]:
        """Return the instances of a zone, or all, by name."""
        found = [i for i in self._instances.values() if zone is None or i.zone == zone]
        return sorted(found, key=lambda instance: instance.name)

    def instance(self, *, zone: str, name: str) -> Instance:
        """Return one instance by name or numeric id.

        Raises:
            errors.GoogleError: 404.
        """
        found = self._instances.get(f"{zone}/{name}")
        if found is None and name.isdecimal():
            found = next(
                (i for i in self._instances.values() if i.zone == zone and i.id == name), None
            )
        if found is None:
            raise errors.not_found(self.instance_path(zone=zone, name=name))
        return found

    def instance_path(self, *, zone: str, name: str) -> str:
        """Return the path of an instance from `projects/` on."""
        return f"projects/{self._project}/zones/{zone}/instances/{name}"

    def has_instance(self, *, zone: str, name: str) -> bool:
        """Whether the name is taken in the zone."""
        return f"{zone}/{name}" in self._instances

    def by_machine(self, machine: str) -> Instance | None:
        """Return the instance that runs as `machine` in the process engine."""
        return next((i for i in self._instances.values() if i.machine == machine), None)

    def exists(self, instance: Instance) -> bool:
        """Whether the very same instance (not a namesake) is still there."""
        return self._instances.get(instance.key) is instance

    def save(self, instance: Instance) -> None:
        """Make the state of an instance durable and wake who waits for a change of it."""
        self._instances[instance.key] = instance
        self._instance_documents.put(instance.key, instance.model_dump())
        self._wake(instance.id)

    def remove(self, instance: Instance) -> None:
        """Forget an instance."""
        self._instances.pop(instance.key, None)
        self._instance_documents.delete(instance.key)
        self._wake(instance.id)

    async def changed(self, instance: Instance) -> None:
        """Return at the next change of the instance or of the project's metadata."""
        await self._changes.setdefault(instance.id, asyncio.Event()).wait()

    def disks(self, *, zone: str | None = None) -> list[Disk]:
        """Return the disks of a zone, or all, by name."""
        found = [d for d in self._disks.values() if zone is None or d.zone == zone]
        return sorted(found, key=lambda disk: disk.name)

    def disk(self, *, zone: str, name: str) -> Disk:
        """Return one disk.

        Raises:
            errors.GoogleError: 404.
        """
        found = self._disks.get(f"{zone}/{name}")
        if found is None:
            raise errors.not_found(f"projects/{self._project}/zones/{zone}/disks/{name}")
        return found

    def has_disk(self, *, zone: str, name: str) -> bool:
        """Whether the name is taken in the zone."""
        return f"{zone}/{name}" in self._disks

    def save_disk(self, disk: Disk) -> None:
        """Make the state of a disk durable."""
        self._disks[disk.key] = disk
        self._disk_documents.put(disk.key, disk.model_dump())

    def remove_disk(self, disk: Disk) -> None:
        """Forget a disk."""
        self._disks.pop(disk.key, None)
        self._disk_documents.delete(disk.key)

    @property
    def metadata(self) -> list[dict[str, str]]:
        """The project-wide metadata items."""
        return self._metadata

    def set_metadata(self, items: Iterable[dict[str, str]]) -> None:
        """Replace the project-wide metadata; every instance sees the change."""
        self._metadata = list(items)
        self._settings.put("metadata", self._metadata)
        for instance_id in list(self._changes):
            self._wake(instance_id)

    def _wake(self, instance_id: str) -> None:
        waiting = self._changes.pop(instance_id, None)
        if waiting is not None:
            waiting.set()
