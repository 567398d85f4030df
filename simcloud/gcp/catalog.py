"""What Google itself has, as it goes over the wire: zones, types, images, the default network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simcloud.gcp import wire
from simcloud.gcp.images import DISK_TYPES, IMAGES, DiskType, Image
from simcloud.gcp.machine_types import MACHINE_TYPES, MachineType
from simcloud.gcp.regions import REGIONS, ZONES, Region
from simcloud.gcp.render import license_link

NETWORK = "default"
_FOUNDED = "1969-12-31T16:00:00.000-08:00"
_CREATED = "2026-01-05T02:00:00.000-08:00"
_IMAGE_CREATED = "2026-10-14T10:00:00.000-07:00"
_PLATFORMS = ["AMD Milan", "AMD Rome", "Intel Broadwell", "Intel Cascade Lake", "Intel Skylake"]


def zone(project: str, name: str) -> dict[str, Any]:
    """Return a `compute#zone`."""
    return {
        "kind": "compute#zone",
        "id": wire.stable_id("zone", name),
        "creationTimestamp": _FOUNDED,
        "name": name,
        "description": name,
        "status": "UP",
        "region": wire.project_link(project, "regions", ZONES[name].name),
        "selfLink": wire.project_link(project, "zones", name),
        "availableCpuPlatforms": _PLATFORMS,
        "supportsPzs": False,
    }


def region(project: str, region: Region, quotas: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return a `compute#region`."""
    return {
        "kind": "compute#region",
        "id": wire.stable_id("region", region.name),
        "creationTimestamp": _FOUNDED,
        "name": region.name,
        "description": region.name,
        "status": "UP",
        "zones": [wire.project_link(project, "zones", name) for name in region.zones],
        "quotas": list(quotas),
        "selfLink": wire.project_link(project, "regions", region.name),
        "supportsPzs": False,
    }


def machine_type(project: str, zone_name: str, machine_type: MachineType) -> dict[str, Any]:
    """Return a `compute#machineType`."""
    return {
        "kind": "compute#machineType",
        "id": wire.stable_id("machineType", machine_type.name),
        "creationTimestamp": _FOUNDED,
        "name": machine_type.name,
        "description": machine_type.description,
        "guestCpus": machine_type.guest_cpus,
        "memoryMb": machine_type.memory_mb,
        "imageSpaceGb": 0,
        "maximumPersistentDisks": machine_type.maximum_disks,
        "maximumPersistentDisksSizeGb": "3072" if machine_type.shared_core else "263168",
        "zone": zone_name,
        "selfLink": wire.project_link(
            project, "zones", zone_name, "machineTypes", machine_type.name
        ),
        "isSharedCpu": machine_type.shared_core,
        "architecture": "X86_64",
    }


def machine_types(project: str, zone_name: str) -> list[dict[str, Any]]:
    """Return every machine type of a zone."""
    return [machine_type(project, zone_name, known) for known in MACHINE_TYPES.values()]


def disk_type(project: str, zone_name: str, disk_type: DiskType) -> dict[str, Any]:
    """Return a `compute#diskType`."""
    where = wire.project_link(project, "zones", zone_name)
    return {
        "kind": "compute#diskType",
        "id": wire.stable_id("diskType", disk_type.name, zone_name),
        "creationTimestamp": _FOUNDED,
        "name": disk_type.name,
        "description": disk_type.description,
        "validDiskSize": disk_type.valid_disk_size,
        "defaultDiskSizeGb": str(disk_type.default_gb),
        "zone": where,
        "selfLink": f"{where}/diskTypes/{disk_type.name}",
    }


def disk_types(project: str, zone_name: str) -> list[dict[str, Any]]:
    """Return every disk type of a zone."""
    return [disk_type(project, zone_name, known) for known in DISK_TYPES.values()]


def image(image: Image) -> dict[str, Any]:
    """Return a `compute#image`."""
    return {
        "kind": "compute#image",
        "id": wire.stable_id("image", image.project, image.name),
        "creationTimestamp": _IMAGE_CREATED,
        "name": image.name,
        "description": image.description,
        "sourceType": "RAW",
        "status": "READY",
        "archiveSizeBytes": str(image.disk_size_gb * 150_000_000),
        "diskSizeGb": str(image.disk_size_gb),
        "licenses": [license_link(image)],
        "licenseCodes": [wire.stable_id("license", image.license)],
        "family": image.family,
        "architecture": image.architecture,
        "storageLocations": ["asia", "eu", "us"],
        "guestOsFeatures": [{"type": "UEFI_COMPATIBLE"}, {"type": "GVNIC"}],
        "labelFingerprint": wire.fingerprint({}),
        "enableConfidentialCompute": False,
        "selfLink": wire.link("projects", image.project, "global", "images", image.name),
    }


def images(project: str) -> list[dict[str, Any]]:
    """Return the images of a project."""
    return [image(known) for known in IMAGES if known.project == project]


def network(project: str) -> dict[str, Any]:
    """Return the default network."""
    link = wire.project_link(project, "global", "networks", NETWORK)
    identity = wire.stable_id("network", project, NETWORK)
    return {
        "kind": "compute#network",
        "id": identity,
        "creationTimestamp": _CREATED,
        "name": NETWORK,
        "description": "Default network for the project",
        "autoCreateSubnetworks": True,
        "subnetworks": [
            wire.project_link(project, "regions", name, "subnetworks", NETWORK) for name in REGIONS
        ],
        "routingConfig": {"routingMode": "REGIONAL"},
        "networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL",
        "selfLink": link,
        "selfLinkWithId": wire.project_link(project, "global", "networks", identity),
    }


def subnet_prefix(region_name: str) -> str:
    """Return the first three numbers of a region's default subnet, such as `10.128.0`."""
    # a /20 each from 10.128.0.0/9, in the order of the table
    index = list(REGIONS).index(region_name)
    return f"10.{128 + 2 * index}.0"


def subnetwork(project: str, region_name: str) -> dict[str, Any]:
    """Return the default subnetwork of a region."""
    prefix = subnet_prefix(region_name)
    where = wire.project_link(project, "regions", region_name)
    return {
        "kind": "compute#subnetwork",
        "id": wire.stable_id("subnetwork", project, region_name),
        "creationTimestamp": _CREATED,
        "name": NETWORK,
        "network": wire.project_link(project, "global", "networks", NETWORK),
        "ipCidrRange": f"{prefix}.0/20",
        "gatewayAddress": f"{prefix}.1",
        "region": where,
        "selfLink": f"{where}/subnetworks/{NETWORK}",
        "privateIpGoogleAccess": False,
        "privateIpv6GoogleAccess": "DISABLE_GOOGLE_ACCESS",
        "purpose": "PRIVATE",
        "stackType": "IPV4_ONLY",
        "fingerprint": wire.fingerprint(prefix),
        "allowSubnetCidrRoutesOverlap": False,
    }


_RULES: tuple[tuple[str, str, list[dict[str, Any]], str], ...] = (
    ("default-allow-icmp", "Allow ICMP from anywhere", [{"IPProtocol": "icmp"}], "0.0.0.0/0"),
    (
        "default-allow-internal",
        "Allow internal traffic on the default network",
        [
            {"IPProtocol": "tcp", "ports": ["0-65535"]},
            {"IPProtocol": "udp", "ports": ["0-65535"]},
            {"IPProtocol": "icmp"},
        ],
        "10.128.0.0/9",
    ),
    (
        "default-allow-ssh",
        "Allow SSH from anywhere",
        [{"IPProtocol": "tcp", "ports": ["22"]}],
        "0.0.0.0/0",
    ),
)


def firewalls(project: str) -> list[dict[str, Any]]:
    """Return the firewall rules that every project begins with."""
    return [
        {
            "kind": "compute#firewall",
            "id": wire.stable_id("firewall", project, name),
            "creationTimestamp": _CREATED,
            "name": name,
            "description": description,
            "network": wire.project_link(project, "global", "networks", NETWORK),
            "priority": 65534,
            "sourceRanges": [source],
            "allowed": allowed,
            "direction": "INGRESS",
            "logConfig": {"enable": False},
            "disabled": False,
            "selfLink": wire.project_link(project, "global", "firewalls", name),
        }
        for name, description, allowed, source in _RULES
    ]
