"""The market as a whole: GPU names, prices, places; and lists that are empty here."""

from __future__ import annotations

from typing import Any

from simcloud.vast.api.endpoint import Call, Endpoint
from simcloud.vast.catalog import GPUS
from simcloud.vast.host import Host

_MAX_POINTS = 500
_SUPPLY = (
    "rented_verified",
    "avail_verified",
    "rented_unverified",
    "avail_unverified",
    "unavail_verified",
    "unavail_unverified",
    "total",
)
_PRICES = ("rented_p10", "rented_median", "rented_p90", "avail_p10", "avail_median", "avail_p90")


def _hosts(call: Call) -> list[Host]:
    """Return the hosts that pass the query's verified, hosting_type and num_gpus."""
    query = call.request.query_params
    verified = query.get("verified", "all")
    hosting = query.get("hosting_type", "all")
    count = query.get("num_gpus", "all")

    def passes(host: Host) -> bool:
        bucket = str(host.num_gpus) if host.num_gpus in (1, 2, 4, 8) else "other"
        return (
            verified in ("all", "yes" if host.verification == "verified" else "no")
            and hosting in ("all", "secure_cloud" if host.datacenter else "community")
            and count in ("all", bucket)
        )

    return [host for host in call.cloud.market.hosts.values() if passes(host)]


async def _current(call: Call) -> Any:
    rows = []
    hosts = _hosts(call)
    for name, model in GPUS.items():
        summary = call.cloud.market.summary([host for host in hosts if host.gpu == name])
        if summary["total"] == 0:
            continue
        rented = summary["rented_verified"] + summary["rented_unverified"]
        available = summary["avail_verified"] + summary["avail_unverified"]
        median = summary["avail_median"] or summary["rented_median"] or model.price
        rows.append(
            {
                "gpu_name": name,
                **{key: summary[key] for key in _SUPPLY},
                "available": available,
                "rented": rented,
                "unavailable": summary["total"] - rented - available,
                "usage": round(100 * rented / summary["total"], 2),
                "dlperf": model.dlperf,
                "tflops": model.tflops,
                "tflops_per_dollar": round(model.tflops / median, 2),
                "price_p10": summary["avail_p10"] or median,
                "price_median": median,
                "price_p90": summary["avail_p90"] or median,
            }
        )
    return {"success": True, "gpus": rows}


async def _history(call: Call) -> Any:
    now = int(call.cloud.context.clock.now())
    end = call.query_int("end", now)
    start = call.query_int("start", end - 86_400)
    points = [point for point in call.cloud.market.history if start <= point["time"] <= end]
    step = max(60, call.query_int("step", 300), (end - start) // _MAX_POINTS)
    points = _thinned(points, step)
    wanted = call.request.query_params.get("gpu_name", "all")
    names = GPUS if wanted == "all" else [name.strip() for name in wanted.split(",")]
    gpus = {}
    for name in names:
        series = [(point["time"], point["gpus"][name]) for point in points if name in point["gpus"]]
        if not series:
            continue
        model = GPUS[name]
        times = [at for at, _ in series]
        gpus[name] = {
            "supply_demand": {
                "timestamps": times,
                **{key: [each[key] for _, each in series] for key in _SUPPLY},
            },
            "pricing": {
                "timestamps": times,
                **{key: [each[key] for _, each in series] for key in _PRICES},
            },
            "stats": {
                "tflops": model.tflops,
                "dlperf": model.dlperf,
                "tflops_per_dollar": round(model.tflops / model.price, 2),
            },
        }
    return {"success": True, "gpus": gpus}


def _thinned(points: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for point in points:
        if not kept or point["time"] - kept[-1]["time"] >= step - 1:
            kept.append(point)
    return kept


async def _locations(call: Call) -> Any:
    rows = []
    for host in call.cloud.market.hosts.values():
        rented = [slot.held or slot.rival_until is not None for slot in host.slots]
        state = "unavailable" if not (host.online and host.listed) else "available"
        place = host.where
        rows.append(
            {
                "gpu_name": host.gpu,
                "num_gpus": host.num_gpus,
                "city": place.city,
                "country_code": place.country,
                "latitude": place.latitude,
                "longitude": place.longitude,
                "verified": host.verification == "verified",
                "datacenter": host.datacenter,
                "rented": all(rented),
                "state": "rented" if all(rented) else state,
            }
        )
    return {"success": True, "locations": rows}


async def _gpu_names(call: Call) -> Any:
    return {"success": True, "gpu_names": sorted(GPUS)}


async def _gpu_types(call: Call) -> Any:
    rows = [{"gpu_name": gpu.name, "gpu_ram": gpu.memory_mb} for gpu in GPUS.values()]
    return {"success": True, "gpu_types": rows}


async def _no_volumes(call: Call) -> Any:
    return {"success": True, "volumes": []}


async def _no_offers(call: Call) -> Any:
    return {"success": True, "offers": []}


async def _no_templates(call: Call) -> Any:
    return {"success": True, "templates_found": 0, "templates": []}


ENDPOINTS = [
    Endpoint(
        operation="metrics.gpu_current",
        method="GET",
        path="/api/v0/metrics/gpu/current",
        handler=_current,
    ),
    Endpoint(
        operation="metrics.gpu_history",
        method="GET",
        path="/api/v0/metrics/gpu/history",
        handler=_history,
    ),
    Endpoint(
        operation="metrics.gpu_locations",
        method="GET",
        path="/api/v0/metrics/gpu/locations",
        handler=_locations,
    ),
    Endpoint(
        operation="gpu_names.list",
        method="GET",
        path="/api/v0/gpu_names/unique",
        handler=_gpu_names,
    ),
    Endpoint(
        operation="gpu_names.list", method="GET", path="/api/v0/gpu_types", handler=_gpu_types
    ),
    Endpoint(operation="volumes.list", method="GET", path="/api/v0/volumes", handler=_no_volumes),
    Endpoint(
        operation="volumes.search",
        method="POST",
        path="/api/v0/volumes/search",
        handler=_no_offers,
    ),
    Endpoint(
        operation="volumes.network_search",
        method="POST",
        path="/api/v0/network_volumes/search",
        handler=_no_offers,
    ),
    Endpoint(
        operation="templates.search",
        method="GET",
        path="/api/v0/template",
        handler=_no_templates,
    ),
]
