"""From a request to new disks: of an instance, or on their own."""

from __future__ import annotations

from simcloud.gcp import bodies, checks, errors, wire
from simcloud.gcp.images import DISK_TYPES, Image
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.records import Attachment, Disk


class DiskDraft:
    """Draws up the disks of one instance."""

    def __init__(
        self, instance: str, *, zone: str, project: str, inventory: Inventory, now: float
    ) -> None:
        self._instance = instance
        self._zone = zone
        self._project = project
        self._inventory = inventory
        self._now = now
        self.new: list[Disk] = []
        self.existing: list[Disk] = []
        self._boot: Disk

    @property
    def boot(self) -> Disk:
        """The disk that the machine boots from."""
        return self._boot

    def draw_up(self, requested: list[bodies.AttachedDisk]) -> list[Attachment]:
        """Return the places of the disks asked for."""
        if not requested:
            raise errors.invalid("resource.disks", "", "No disks are specified.")
        if not requested[0].boot:
            raise errors.invalid(
                "resource.disks[0].boot", requested[0].boot, "The first disk must be a boot disk."
            )
        attachments = []
        for index, wanted in enumerate(requested):
            if index and wanted.boot:
                raise errors.invalid(
                    f"resource.disks[{index}].boot", "true", "Only one disk can be a boot disk."
                )
            disk = self._existing(wanted, index) if wanted.source else self._new(wanted, index)
            if index == 0:
                self._boot = disk
            attachments.append(
                Attachment(
                    disk=disk.name,
                    boot=index == 0,
                    auto_delete=bool(wanted.auto_delete),
                    mode=wanted.mode or "READ_WRITE",
                    device_name=wanted.device_name or f"persistent-disk-{index}",
                    interface=wanted.interface or "SCSI",
                )
            )
        return attachments

    def _existing(self, wanted: bodies.AttachedDisk, index: int) -> Disk:
        assert wanted.source is not None
        disk = self._inventory.disk(zone=self._zone, name=wire.tail(wanted.source))
        if disk.user is not None:
            path = f"projects/{self._project}/zones/{self._zone}"
            raise errors.GoogleError(
                code=400,
                reason="resourceInUseByAnotherResource",
                message=(
                    f"The disk resource '{path}/disks/{disk.name}' is already being used by "
                    f"'{path}/instances/{disk.user}'"
                ),
            )
        self.existing.append(disk)
        return disk

    def _new(self, wanted: bodies.AttachedDisk, index: int) -> Disk:
        prefix = f"resource.disks[{index}]"
        parameters = wanted.initialize_params
        if parameters is None:
            raise errors.invalid(prefix, "", "Either 'source' or 'initializeParams' must be given.")
        image = None
        if parameters.source_image:
            image = checks.resolve_image(
                parameters.source_image, field_name=f"{prefix}.initializeParams.sourceImage"
            )
        elif index == 0:
            raise errors.invalid(
                f"{prefix}.initializeParams.sourceImage",
                "",
                "A boot disk must have a source image.",
            )
        default_name = self._instance if index == 0 else f"{self._instance}-{index}"
        disk = new_disk(
            name=parameters.disk_name or default_name,
            zone=self._zone,
            project=self._project,
            inventory=self._inventory,
            now=self._now,
            disk_type=parameters.disk_type,
            size_gb=parameters.disk_size_gb or wanted.disk_size_gb,
            image=image,
            labels=parameters.labels,
            description=parameters.description,
            prefix=f"{prefix}.initializeParams",
        )
        if any(other.name == disk.name for other in self.new):
            raise errors.already_exists(
                f"projects/{self._project}/zones/{self._zone}/disks/{disk.name}"
            )
        self.new.append(disk)
        return disk


def new_disk(
    *,
    name: str,
    zone: str,
    project: str,
    inventory: Inventory,
    now: float,
    disk_type: str | None,
    size_gb: int | None,
    image: Image | None,
    labels: dict[str, str] | None,
    description: str | None,
    prefix: str,
) -> Disk:
    """Return a disk that does not exist yet.

    Args:
        name: Its name.
        zone: Where it is to be.
        project: The project.
        inventory: What there is already.
        now: Virtual time.
        disk_type: Name or link of its type; None is `pd-standard`.
        size_gb: Its size; None is the image's, or the type's default.
        image: What is on it.
        labels: Its labels.
        description: Free text.
        prefix: Where the settings stand in the request, for error messages.

    Raises:
        errors.GoogleError: 400 `invalid`, 409.
    """
    checks.check_name(name)
    if inventory.has_disk(zone=zone, name=name):
        raise errors.already_exists(f"projects/{project}/zones/{zone}/disks/{name}")
    type_name = wire.tail(disk_type) if disk_type else "pd-standard"
    known = DISK_TYPES.get(type_name)
    if known is None:
        raise errors.invalid(
            f"{prefix}.diskType", disk_type, "The referenced diskType resource cannot be found."
        )
    size = size_gb or (image.disk_size_gb if image else known.default_gb)
    if image is not None and size < image.disk_size_gb:
        raise errors.invalid(
            f"{prefix}.diskSizeGb",
            size,
            f"Requested disk size cannot be smaller than the image size ({image.disk_size_gb} GB)",
        )
    if not known.minimum_gb <= size <= known.maximum_gb:
        raise errors.invalid(
            f"{prefix}.diskSizeGb",
            size,
            f"Disk size must be between {known.minimum_gb} and {known.maximum_gb} GB.",
        )
    return Disk(
        id=wire.numeric_id(),
        name=name,
        zone=zone,
        type=type_name,
        size_gb=size,
        created=now,
        description=description,
        labels=checks.check_labels(labels),
        image_project=image.project if image else None,
        image=image.name if image else None,
    )
