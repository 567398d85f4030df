"""One offer as Vast's search returns it: every field that clients of 2026 read."""

from __future__ import annotations

import hashlib
from typing import Any

from simcloud.vast.catalog import CPUS, DISKS, DRIVERS
from simcloud.vast.host import MONTH_HOURS, Host, Slot
from simcloud.vast.market import Offer

Row = dict[str, Any]


def hardware(host: Host, slot: Slot) -> Row:
    """Return the fields that describe the computer; offers and instances share them."""
    model = host.model
    cpu_name, threads, ghz, board = CPUS[host.cpu]
    driver, cuda = DRIVERS[host.driver]
    disk_name, disk_bw = DISKS[host.disk]
    share = slot.num_gpus / host.num_gpus
    first = sum(other.num_gpus for other in host.slots[: slot.index])
    return {
        "machine_id": host.machine_id,
        "host_id": host.host_id,
        "bundle_id": _stable(host, "bundle", 10**9),
        "hosting_type": 1 if host.datacenter else 0,
        "hostname": None,
        "cluster_id": None,
        "resource_type": "gpu",
        "num_gpus": slot.num_gpus,
        "gpu_name": model.name,
        "gpu_arch": "nvidia",
        "gpu_ids": [host.machine_id * 16 + first + index for index in range(slot.num_gpus)],
        "gpu_ram": model.memory_mb,
        "gpu_total_ram": model.memory_mb * slot.num_gpus,
        "gpu_frac": share,
        "gpu_lanes": 16,
        "gpu_mem_bw": model.bandwidth_gbs,
        "gpu_max_power": float(model.power_w),
        "gpu_max_temp": 88.0,
        "gpu_display_active": False,
        "compute_cap": model.compute_capability,
        "cuda_max_good": cuda,
        "driver_version": driver,
        "driver_vers": _driver_number(driver),
        "total_flops": round(model.tflops * slot.num_gpus, 2),
        "bw_nvlink": 450.0 if "SXM" in model.name and slot.num_gpus > 1 else 0.0,
        "pci_gen": 5.0 if model.compute_capability >= 900 else 4.0,
        "pcie_bw": host.pcie_bw,
        "mobo_name": board,
        "os_version": "22.04",
        "has_avx": 1,
        "cpu_arch": "amd64",
        "cpu_name": cpu_name,
        "cpu_cores": None if host.cores_null else threads,
        "cpu_cores_effective": round(threads * share, 1),
        "cpu_ghz": ghz,
        "cpu_ram": host.cpu_ram_mb,
        "disk_name": disk_name,
        "disk_bw": disk_bw,
        "inet_up": host.inet_up,
        "inet_down": host.inet_down,
        "inet_up_cost": host.inet_up_cost,
        "inet_down_cost": host.inet_down_cost,
        "internet_up_cost_per_tb": round(host.inet_up_cost * 1000, 3),
        "internet_down_cost_per_tb": round(host.inet_down_cost * 1000, 3),
        "direct_port_count": host.direct_ports,
        "static_ip": host.static_ip,
        "public_ipaddr": host.address,
        "geolocation": host.where.geolocation,
        "geolocode": _stable(host, "geo", 2**31),
        "reliability": host.reliability,
        "reliability2": host.reliability,
        "reliability_mult": round(host.reliability**2, 4),
        "expected_reliability": host.reliability,
        "verification": host.verification,
        "vericode": 1 if host.verification == "verified" else 0,
        "is_vm_deverified": False,
        "vms_enabled": host.datacenter,
        "external": None,
        "nw_disk_min_bw": None,
        "nw_disk_max_bw": None,
        "nw_disk_avg_bw": None,
        "logo": "/static/logos/vastai_small2.png",
        "webpage": None,
    }


def offer_row(
    offer: Offer, *, kind: str, allocated_storage: float, now: float, bid_prices: bool
) -> Row:
    """Return an offer.

    Args:
        offer: What is offered.
        kind: `on-demand`, `bid` or `reserved`.
        allocated_storage: GB that the storage part of the price is for.
        now: Virtual time.
        bid_prices: Whether a bid search shows the minimum bid as the price.
    """
    host, slot = offer.host, offer.slot
    is_bid = kind == "bid"
    base = offer.min_bid if is_bid and bid_prices else offer.price
    storage = round(host.storage_cost * allocated_storage / MONTH_HOURS, 6)
    total = round(base + storage, 6)
    model = host.model
    share = slot.num_gpus / host.num_gpus
    rentable = offer.rentable
    discount = 0.2 if kind == "reserved" or host.datacenter else 0.1
    dlperf = round(model.dlperf * slot.num_gpus, 2)
    flops = model.tflops * slot.num_gpus
    return {
        "id": offer.ask_id,
        "ask_contract_id": offer.ask_id,
        "bundled_results": None,
        "rn": 1,
        **hardware(host, slot),
        "disk_space": round(host.disk_space * share, 1),
        "dlperf": dlperf,
        "dlperf_per_dphtotal": round(dlperf / total, 3),
        "flops_per_dphtotal": round(flops / total, 3),
        "score": round(dlperf / total * host.reliability**4, 3),
        "vram_costperhour": round(base / (model.memory_mb * slot.num_gpus), 10),
        "dph_base": base,
        "dph_total": total,
        "dph_total_adj": total,
        "min_bid": offer.min_bid,
        "is_bid": is_bid,
        "storage_cost": host.storage_cost,
        "storage_total_cost": storage,
        "platform_fee": None,
        "credit_discount_max": 0.4,
        "discount_rate": discount,
        "discounted_hourly": round(base * discount, 6),
        "discounted_dph_total": round(total - base * discount, 6),
        "search": costs(base, storage),
        "instance": costs(0.0, storage),
        "rentable": rentable,
        "rented": not rentable and host.online,
        "start_date": host.start_date,
        "end_date": host.end_date,
        "duration": max(0.0, host.end_date - now),
        "time_remaining": "",
        "time_remaining_isbid": "",
        "avail_vol_ask_id": _stable(host, "volume", 10**7),
        "avail_vol_dph": round(host.storage_cost / MONTH_HOURS, 6),
        "avail_vol_size": round(host.disk_space * share / 2, 1),
    }


def costs(gpu: float, disk: float) -> Row:
    """Return the nested price object of offers and instances."""
    total = round(gpu + disk, 6)
    return {
        "gpuCostPerHour": gpu,
        "diskHour": disk,
        "totalHour": total,
        "discountTotalHour": 0,
        "discountedTotalPerHour": total,
    }


def _driver_number(version: str) -> int:
    major, minor, patch = (int(part) for part in version.split("."))
    return major * 1_000_000 + minor * 1000 + patch


def _stable(host: Host, purpose: str, below: int) -> int:
    digest = hashlib.sha256(f"{purpose}/{host.machine_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % below
