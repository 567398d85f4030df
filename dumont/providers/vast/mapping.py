"""What Vast.ai's rows mean in our words, and our orders in Vast.ai's. Pure.

Facts about fields and states: Vast.ai's API reference and client 1.9.1; where those are silent the
reading here is the one that loses neither data nor money, and `docs/providers.md` lists it.
"""

from __future__ import annotations

import re
from typing import Any

from dumont.domain.instances import (
    Charge,
    Instance,
    InstanceOrder,
    InstanceState,
    Rental,
    SshAddress,
)
from dumont.domain.offers import Offer
from dumont.providers.vast.errors import PROVIDER
from dumont.providers.vast.onstart import fit_onstart
from dumont.providers.vast.rows import ChargeRow, InstanceRow, OfferRow, number, port, words

HOURS_PER_MONTH = 720.0
"""Vast.ai's month: `storage_cost` over 30 days of 24 hours is the hourly price."""

RUNTYPE = "ssh_direc ssh_proxy"
"""SSH on a port of the host itself. The spelling is the official client's."""

_BROKEN = re.compile(
    r"error response from daemon|oci runtime create failed|failed to create (shim )?task"
    r"|manifest unknown|manifest for .* not found|pull access denied|no space left on device",
    re.IGNORECASE,
)
"""Messages after which a container that was never started will not start."""

_STARTING = frozenset({"created", "loading", "rebooting", "recycling"})
_NO_NEWS = frozenset({"unknown", "offline"})


def search_query(
    *, gpu: str | None, gpu_count: int | None, rental: Rental, disk_gb: float, limit: int
) -> dict[str, Any]:
    """The filter body of a search. `allocated_storage` makes the disk part of the prices."""
    bid = rental is Rental.SPOT
    query: dict[str, Any] = {
        "verified": {"eq": True},
        "external": {"eq": False},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "disk_space": {"gte": disk_gb},
        # Without a port of its own the host is only reachable through Vast.ai's SSH proxy.
        "direct_port_count": {"gte": 1},
        "order": [["min_bid" if bid else "dph_total", "asc"]],
        "type": "bid" if bid else "on-demand",
        "limit": limit,
        "allocated_storage": disk_gb,
    }
    if gpu is not None:
        query["gpu_name"] = {"eq": gpu}
    if gpu_count is not None:
        query["num_gpus"] = {"eq": gpu_count}
    return query


def offer_from(row: OfferRow, *, rental: Rental, disk_gb: float) -> Offer | None:
    """The offer, or None when the row lacks what renting needs: a GPU, its count, its price."""
    bid = rental is Rental.SPOT
    gpu_price = row.min_bid if bid else row.dph_base
    if row.gpu_name is None or not row.num_gpus or not gpu_price:
        return None
    if row.rented or row.rentable is False:
        return None
    disk_price = row.storage_total_cost
    if disk_price is None and row.storage_cost is not None:
        disk_price = row.storage_cost * disk_gb / HOURS_PER_MONTH
    if disk_price is None and not bid and row.dph_total is not None:
        disk_price = max(0.0, row.dph_total - gpu_price)
    if disk_price is None:
        return None
    # Rows of a search for bids may carry the bid in the on-demand fields: then it is unknown.
    on_demand = None
    if not bid:
        on_demand = gpu_price + disk_price
    elif not row.is_bid and row.dph_base and row.dph_base > gpu_price:
        on_demand = row.dph_base + disk_price
    return Offer(
        provider=PROVIDER,
        offer_id=row.id,
        host_id=row.machine_id,
        gpu=row.gpu_name.replace("_", " "),
        gpu_count=int(row.num_gpus),
        gpu_memory_gb=None if row.gpu_ram is None else round(row.gpu_ram / 1024, 1),
        rental=rental,
        usd_per_hour=gpu_price + disk_price,
        gpu_usd_per_hour=gpu_price,
        on_demand_usd_per_hour=on_demand,
        disk_usd_per_gb_month=row.storage_cost,
        reliability=row.reliability2 if row.reliability2 is not None else row.reliability,
        region=row.geolocation,
        country=country_of(row.geolocation),
        download_mbps=row.inet_down,
        upload_mbps=row.inet_up,
        download_usd_per_gb=row.inet_down_cost,
        upload_usd_per_gb=row.inet_up_cost,
        disk_gb=row.disk_space,
        cpu_cores=row.cpu_cores_effective,
        memory_gb=_memory_share(row),
        cuda=row.cuda_max_good,
        datacenter=None if row.hosting_type is None else row.hosting_type == 1,
        available_s=row.duration,
    )


def country_of(geolocation: str | None) -> str | None:
    """Country code of `Texas, US`, `Sweden, SE` or `, US`; None when there is none."""
    code = (geolocation or "").rpartition(",")[2].strip()
    return code if re.fullmatch(r"[A-Z]{2}", code) else None


def create_body(order: InstanceOrder) -> dict[str, Any]:
    """The body that rents an offer.

    Raises:
        RequestRefused: The start script cannot be made to fit.
    """
    return {
        "client_id": "me",
        "image": order.image,
        "env": dict(order.env),
        "disk": order.disk_gb,
        "label": order.label,
        "onstart": fit_onstart(order.onstart),
        "runtype": RUNTYPE,
        # A null price rents on demand: the adapter checks what came of it.
        "price": order.bid_usd_per_hour,
        "target_state": "running",
        # Without it a bid that cannot start leaves a stopped instance that bills its disk.
        "cancel_unavail": True,
    }


def instance_from(row: InstanceRow) -> Instance:
    """The instance that a row describes."""
    state = state_of(row)
    return Instance(
        provider=PROVIDER,
        instance_id=row.id,
        label=row.label,
        state=state,
        detail=_detail(row),
        ssh=ssh_of(row) if state is not InstanceState.STOPPED else None,
        rental=None if row.is_bid is None else Rental.SPOT if row.is_bid else Rental.ON_DEMAND,
        usd_per_hour=_price(row, state),
        gpu=None if row.gpu_name is None else row.gpu_name.replace("_", " "),
        gpu_count=int(row.num_gpus) if row.num_gpus else None,
        host_id=row.machine_id,
        region=row.geolocation,
        created_at=row.start_date,
        disk_usd_per_hour=row.storage_total_cost,
        disk_gb=row.disk_space,
    )


def state_of(row: InstanceRow) -> InstanceState:
    """Vast.ai's four status axes as one state.

    `cur_state`, `next_state`, `intended_status` are the marketplace's contract, `actual_status` is
    what the host's daemon last reported, half a minute late. A contract that is stopped on all axes
    is stopped, whatever the daemon still says; who stopped it the row cannot tell.
    """
    actual = (row.actual_status or "").lower()
    axes = {row.cur_state, row.next_state, row.intended_status}
    if actual in _NO_NEWS:
        return InstanceState.OFFLINE
    if axes == {"stopped"}:
        return InstanceState.STOPPED
    if row.cur_state == "stopped" and "running" in axes:
        return InstanceState.STARTING
    if actual in _STARTING or not actual:
        if actual in ("created", "loading") and _BROKEN.search(row.status_msg or ""):
            return InstanceState.FAILED
        if not actual and "running" not in axes:
            return InstanceState.UNKNOWN
        return InstanceState.STARTING
    if actual == "running":
        return InstanceState.RUNNING
    if actual in ("exited", "stopped"):
        return InstanceState.STOPPED
    return InstanceState.UNKNOWN


def has_exited(row: InstanceRow) -> bool:
    """Whether its container has ended on a GPU that it still holds."""
    holds = row.cur_state == "running" and row.intended_status == "running"
    return holds and (row.actual_status or "").lower() in ("exited", "stopped")


def ssh_of(row: InstanceRow) -> SshAddress | None:
    """Where its SSH server is reachable; None until Vast.ai says so.

    A port of the host itself is what we order, so Vast.ai's proxy counts only where there is no
    such port to wait for.
    """
    mapped = row.ports.get("22/tcp")
    if isinstance(mapped, list) and mapped and isinstance(mapped[0], dict) and row.public_ipaddr:
        direct = port(mapped[0].get("HostPort"))
        if direct is not None:
            return SshAddress(host=row.public_ipaddr, port=direct)
    runtype = row.image_runtype or ""
    if "direc" in runtype and row.direct_port_count != 0:
        return None
    if row.actual_status != "running" or row.ssh_host is None or row.ssh_port is None:
        return None
    proxied = row.ssh_port + 1 if "jupyter" in runtype else row.ssh_port
    return SshAddress(host=row.ssh_host, port=min(proxied, 65535))


def charges_from(row: ChargeRow) -> list[Charge]:
    """The innermost lines of one instance's bill; empty for what is not an instance's."""
    match = re.fullmatch(r"instance-(\d+)", row.source or "")
    if match is None:
        return []
    about = row.metadata
    gpu, count = words(about.get("gpu_name")), number(about.get("num_gpus"))
    whose = {
        "instance_id": match[1],
        "label": words(about.get("label")),
        "gpu": gpu.replace("_", " ") if gpu is not None else None,
        "gpu_count": int(count) if count else None,
    }
    return [Charge.model_validate(whose | leaf) for leaf in _leaves(row)]


def _leaves(row: ChargeRow) -> list[dict[str, Any]]:
    children = [ChargeRow.model_validate(item) for item in row.items if isinstance(item, dict)]
    if children:
        # A part without its own period has its parent's.
        return [
            leaf
            for child in children
            for leaf in _leaves(
                child.model_copy(
                    update={"start": child.start or row.start, "end": child.end or row.end}
                )
            )
        ]
    if row.start is None:
        return []
    return [
        {
            "kind": row.type or "unknown",
            "usd": row.amount,
            "start": row.start,
            "end": row.end or row.start,
            "description": row.description or "",
            "quantity": row.quantity if row.quantity is not None else _told(_AMOUNT, row),
            "hours": _hours(row),
        }
    ]


_AMOUNT = re.compile(r"^\s*(\d[\d,]*(?:\.\d+)?)\b")
_HOURS = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s*(?:hours?|hrs?|h)\b", re.IGNORECASE)
"""`96.000 hours at $0.389/hour`."""


def _hours(row: ChargeRow) -> float | None:
    """How long was paid for; None where it is not time, or the row does not say."""
    told = _told(_HOURS, row)
    if told is not None and row.quantity is not None and abs(row.quantity - told) <= 0.001:
        return row.quantity  # the same figure, with more digits
    return told


def _told(pattern: re.Pattern[str], row: ChargeRow) -> float | None:
    match = pattern.search(row.description or "")
    return float(match[1].replace(",", "")) if match else None


def _memory_share(row: OfferRow) -> float | None:
    if row.cpu_ram is None:
        return None
    if not row.cpu_cores or row.cpu_cores_effective is None:
        return round(row.cpu_ram / 1000, 1)
    share = min(1.0, row.cpu_cores_effective / row.cpu_cores)
    return round(row.cpu_ram * share / 1000, 1)


def _price(row: InstanceRow, state: InstanceState) -> float | None:
    if state is not InstanceState.STOPPED:
        return row.dph_total
    stopped = number(row.instance.get("totalHour"))
    return stopped if stopped is not None else row.storage_total_cost


def _detail(row: InstanceRow) -> str:
    axes = (
        f"actual {row.actual_status or 'not reported'}, contract {row.cur_state or 'unknown'}, "
        f"next {row.next_state or 'unknown'}"
    )
    return f"{axes}: {row.status_msg[:500]}" if row.status_msg else axes
