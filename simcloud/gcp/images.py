"""Which public images and disk types can be asked for.

Every image boots the same machine (the engine's processes on this computer); the name decides only
what the API says about the disk. Families resolve to their newest image, as on Google.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Image:
    """One public image."""

    project: str
    name: str
    family: str
    description: str
    disk_size_gb: int = 10
    architecture: str = "X86_64"
    license: str


@dataclass(frozen=True, kw_only=True)
class DiskType:
    """One kind of persistent disk; the same in every zone."""

    name: str
    description: str
    valid_disk_size: str
    minimum_gb: int
    maximum_gb: int
    default_gb: int
    ssd: bool


def _image(
    project: str, stem: str, family: str, description: str, *, gb: int = 10, arm: bool = False
) -> Image:
    return Image(
        project=project,
        name=stem,
        family=family,
        description=description,
        disk_size_gb=gb,
        architecture="ARM64" if arm else "X86_64",
        license=family.removesuffix("-arm64").removesuffix("-amd64"),
    )


IMAGES: tuple[Image, ...] = (
    _image("debian-cloud", "debian-11-bullseye-v20261014", "debian-11", "Debian 11 (bullseye)"),
    _image("debian-cloud", "debian-12-bookworm-v20260915", "debian-12", "Debian 12 (bookworm)"),
    _image("debian-cloud", "debian-12-bookworm-v20261014", "debian-12", "Debian 12 (bookworm)"),
    _image(
        "debian-cloud",
        "debian-12-bookworm-arm64-v20261014",
        "debian-12-arm64",
        "Debian 12 (bookworm), arm64",
        arm=True,
    ),
    _image("debian-cloud", "debian-13-trixie-v20261014", "debian-13", "Debian 13 (trixie)"),
    _image(
        "ubuntu-os-cloud",
        "ubuntu-2204-jammy-v20261016",
        "ubuntu-2204-lts",
        "Canonical, Ubuntu, 22.04 LTS, amd64 jammy image",
    ),
    _image(
        "ubuntu-os-cloud",
        "ubuntu-2404-noble-amd64-v20261016",
        "ubuntu-2404-lts-amd64",
        "Canonical, Ubuntu, 24.04 LTS, amd64 noble image",
    ),
    _image(
        "cos-cloud",
        "cos-stable-121-18867-90-59",
        "cos-stable",
        "Google, Container-Optimized OS, 121-18867.90.59 stable",
    ),
    _image(
        "rocky-linux-cloud",
        "rocky-linux-9-v20261015",
        "rocky-linux-9",
        "Rocky Linux, Rocky Linux, 9, x86_64",
        gb=20,
    ),
)
"""Public images, older before newer within a family."""

IMAGE_PROJECTS: frozenset[str] = frozenset(image.project for image in IMAGES) | {
    "centos-cloud",
    "fedora-coreos-cloud",
    "opensuse-cloud",
    "oracle-linux-cloud",
    "rhel-cloud",
    "rhel-sap-cloud",
    "rocky-linux-accelerator-cloud",
    "suse-cloud",
    "suse-sap-cloud",
    "windows-cloud",
    "windows-sql-cloud",
}
"""Google's public image projects; most have no image here, and say so with an empty list."""

DISK_TYPES: dict[str, DiskType] = {
    disk_type.name: disk_type
    for disk_type in (
        DiskType(
            name="pd-balanced",
            description="Balanced Persistent Disk",
            valid_disk_size="10GB-65536GB",
            minimum_gb=10,
            maximum_gb=65536,
            default_gb=100,
            ssd=True,
        ),
        DiskType(
            name="pd-ssd",
            description="SSD Persistent Disk",
            valid_disk_size="10GB-65536GB",
            minimum_gb=10,
            maximum_gb=65536,
            default_gb=100,
            ssd=True,
        ),
        DiskType(
            name="pd-standard",
            description="Standard Persistent Disk",
            valid_disk_size="10GB-65536GB",
            minimum_gb=10,
            maximum_gb=65536,
            default_gb=500,
            ssd=False,
        ),
    )
}


def find_image(*, project: str, name: str) -> Image | None:
    """Return the image called `name` in `project`, or None."""
    return next((i for i in IMAGES if i.project == project and i.name == name), None)


def newest_in_family(*, project: str, family: str) -> Image | None:
    """Return the newest image of `family` in `project`, or None."""
    return next((i for i in reversed(IMAGES) if i.project == project and i.family == family), None)
