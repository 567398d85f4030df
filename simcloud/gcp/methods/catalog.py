"""Reading what Google has: zones, regions, machine types, disk types, images, the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simcloud.gcp import catalog, errors, listing
from simcloud.gcp.images import DISK_TYPES, find_image, newest_in_family
from simcloud.gcp.machine_types import find_machine_type
from simcloud.gcp.regions import REGIONS, ZONES
from simcloud.gcp.web import Ask, Method

Rows = list[dict[str, Any]]


def _page(ask: Ask, rows: Rows, *, kind: str, path: str) -> dict[str, Any]:
    query = listing.ListQuery.parse(ask.query)
    return listing.page(
        rows, query=query, kind=f"compute#{kind}", path=f"projects/{ask.path['project']}/{path}"
    )


def _by_zone(
    ask: Ask, rows_of: Callable[[str, str], Rows], *, kind: str, member: str
) -> dict[str, Any]:
    project = ask.path["project"]
    return listing.aggregated_page(
        {f"zones/{zone}": rows_of(project, zone) for zone in ZONES},
        query=listing.ListQuery.parse(ask.query),
        kind=f"compute#{kind}",
        path=f"projects/{project}/aggregated/{member}",
        member=member,
    )


def _missing(ask: Ask, path: str) -> errors.GoogleError:
    return errors.not_found(f"projects/{ask.path['project']}/{path}")


async def list_zones(ask: Ask) -> dict[str, Any]:
    """Answer `zones.list`."""
    rows = [catalog.zone(ask.path["project"], name) for name in sorted(ZONES)]
    return _page(ask, rows, kind="zoneList", path="zones")


async def get_zone(ask: Ask) -> dict[str, Any]:
    """Answer `zones.get`."""
    if ask.zone not in ZONES:
        raise _missing(ask, f"zones/{ask.zone}")
    return catalog.zone(ask.path["project"], ask.zone)


def _region(ask: Ask, name: str) -> dict[str, Any]:
    return catalog.region(ask.service.project, REGIONS[name], ask.service.quotas.render(name))


async def list_regions(ask: Ask) -> dict[str, Any]:
    """Answer `regions.list`."""
    return _page(ask, [_region(ask, name) for name in REGIONS], kind="regionList", path="regions")


async def get_region(ask: Ask) -> dict[str, Any]:
    """Answer `regions.get`."""
    if ask.region not in REGIONS:
        raise _missing(ask, f"regions/{ask.region}")
    return _region(ask, ask.region)


async def list_machine_types(ask: Ask) -> dict[str, Any]:
    """Answer `machineTypes.list`."""
    rows = catalog.machine_types(ask.path["project"], ask.zone)
    return _page(ask, rows, kind="machineTypeList", path=f"zones/{ask.zone}/machineTypes")


async def get_machine_type(ask: Ask) -> dict[str, Any]:
    """Answer `machineTypes.get`."""
    found = find_machine_type(ask.path["machineType"])
    if found is None:
        raise _missing(ask, f"zones/{ask.zone}/machineTypes/{ask.path['machineType']}")
    return catalog.machine_type(ask.path["project"], ask.zone, found)


async def aggregate_machine_types(ask: Ask) -> dict[str, Any]:
    """Answer `machineTypes.aggregatedList`."""
    return _by_zone(
        ask, catalog.machine_types, kind="machineTypeAggregatedList", member="machineTypes"
    )


async def list_disk_types(ask: Ask) -> dict[str, Any]:
    """Answer `diskTypes.list`."""
    rows = catalog.disk_types(ask.path["project"], ask.zone)
    return _page(ask, rows, kind="diskTypeList", path=f"zones/{ask.zone}/diskTypes")


async def get_disk_type(ask: Ask) -> dict[str, Any]:
    """Answer `diskTypes.get`."""
    found = DISK_TYPES.get(ask.path["diskType"])
    if found is None:
        raise _missing(ask, f"zones/{ask.zone}/diskTypes/{ask.path['diskType']}")
    return catalog.disk_type(ask.path["project"], ask.zone, found)


async def aggregate_disk_types(ask: Ask) -> dict[str, Any]:
    """Answer `diskTypes.aggregatedList`."""
    return _by_zone(ask, catalog.disk_types, kind="diskTypeAggregatedList", member="diskTypes")


async def list_images(ask: Ask) -> dict[str, Any]:
    """Answer `images.list`."""
    rows = catalog.images(ask.path["project"])
    return _page(ask, rows, kind="imageList", path="global/images")


async def get_image(ask: Ask) -> dict[str, Any]:
    """Answer `images.get`."""
    found = find_image(project=ask.path["project"], name=ask.path["image"])
    if found is None:
        raise _missing(ask, f"global/images/{ask.path['image']}")
    return catalog.image(found)


async def get_image_from_family(ask: Ask) -> dict[str, Any]:
    """Answer `images.getFromFamily`."""
    found = newest_in_family(project=ask.path["project"], family=ask.path["family"])
    if found is None:
        raise _missing(ask, f"global/images/family/{ask.path['family']}")
    return catalog.image(found)


async def get_image_family_view(ask: Ask) -> dict[str, Any]:
    """Answer `imageFamilyViews.get`."""
    found = newest_in_family(project=ask.path["project"], family=ask.path["family"])
    if found is None:
        raise _missing(ask, f"zones/{ask.zone}/imageFamilyViews/{ask.path['family']}")
    return {"image": catalog.image(found)}


async def list_networks(ask: Ask) -> dict[str, Any]:
    """Answer `networks.list`."""
    rows = [catalog.network(ask.service.project)]
    return _page(ask, rows, kind="networkList", path="global/networks")


async def get_network(ask: Ask) -> dict[str, Any]:
    """Answer `networks.get`."""
    if ask.path["network"] != catalog.NETWORK:
        raise _missing(ask, f"global/networks/{ask.path['network']}")
    return catalog.network(ask.service.project)


async def list_subnetworks(ask: Ask) -> dict[str, Any]:
    """Answer `subnetworks.list`."""
    rows = [catalog.subnetwork(ask.service.project, ask.region)]
    return _page(ask, rows, kind="subnetworkList", path=f"regions/{ask.region}/subnetworks")


async def get_subnetwork(ask: Ask) -> dict[str, Any]:
    """Answer `subnetworks.get`."""
    if ask.path["subnetwork"] != catalog.NETWORK:
        raise _missing(ask, f"regions/{ask.region}/subnetworks/{ask.path['subnetwork']}")
    return catalog.subnetwork(ask.service.project, ask.region)


async def aggregate_subnetworks(ask: Ask) -> dict[str, Any]:
    """Answer `subnetworks.aggregatedList`."""
    project = ask.service.project
    return listing.aggregated_page(
        {f"regions/{name}": [catalog.subnetwork(project, name)] for name in REGIONS},
        query=listing.ListQuery.parse(ask.query),
        kind="compute#subnetworkAggregatedList",
        path=f"projects/{project}/aggregated/subnetworks",
        member="subnetworks",
    )


METHODS = (
    Method("zones.list", "GET", "zones", list_zones),
    Method("zones.get", "GET", "zones/{zone}", get_zone),
    Method("regions.list", "GET", "regions", list_regions),
    Method("regions.get", "GET", "regions/{region}", get_region),
    Method(
        "machineTypes.aggregatedList", "GET", "aggregated/machineTypes", aggregate_machine_types
    ),
    Method("machineTypes.list", "GET", "zones/{zone}/machineTypes", list_machine_types),
    Method("machineTypes.get", "GET", "zones/{zone}/machineTypes/{machineType}", get_machine_type),
    Method("diskTypes.aggregatedList", "GET", "aggregated/diskTypes", aggregate_disk_types),
    Method("diskTypes.list", "GET", "zones/{zone}/diskTypes", list_disk_types),
    Method("diskTypes.get", "GET", "zones/{zone}/diskTypes/{diskType}", get_disk_type),
    Method("images.list", "GET", "global/images", list_images, any_project=True),
    Method(
        "images.getFromFamily",
        "GET",
        "global/images/family/{family}",
        get_image_from_family,
        any_project=True,
    ),
    Method("images.get", "GET", "global/images/{image}", get_image, any_project=True),
    Method(
        "imageFamilyViews.get",
        "GET",
        "zones/{zone}/imageFamilyViews/{family}",
        get_image_family_view,
        any_project=True,
    ),
    Method("networks.list", "GET", "global/networks", list_networks),
    Method("networks.get", "GET", "global/networks/{network}", get_network),
    Method("subnetworks.aggregatedList", "GET", "aggregated/subnetworks", aggregate_subnetworks),
    Method("subnetworks.list", "GET", "regions/{region}/subnetworks", list_subnetworks),
    Method("subnetworks.get", "GET", "regions/{region}/subnetworks/{subnetwork}", get_subnetwork),
)
