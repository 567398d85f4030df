"""One instance as Vast's show and list calls return it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from simcloud.machines import Usage
from simcloud.vast.host import MONTH_HOURS, Host
from simcloud.vast.instance import Instance
from simcloud.vast.offer_row import costs, hardware

Row = dict[str, Any]


class Metrics(BaseModel):
    """What the host reported about a container last. None is unknown."""

    gpu_util: float | None = None
    gpu_temp: float | None = None
    cpu_util: float | None = None
    mem_usage: float | None = None
    vmem_usage: float | None = None
    disk_usage: float | None = None
    disk_util: float | None = None


UNKNOWN_METRICS = Metrics(disk_usage=-1.0, disk_util=-1.0)
"""Before the first report: null, or -1 for the disk, as documented."""


def metrics_of(usage: Usage, *, disk_gb: float, threads: float) -> Metrics:
    """Return a report made from what a machine uses."""
    load = usage.gpu_util
    return Metrics(
        gpu_util=None if load is None else round(load, 1),
        gpu_temp=None if load is None else round(34 + load * 0.4, 1),
        cpu_util=None if usage.cpu is None else round(usage.cpu / max(threads, 1.0), 4),
        mem_usage=round(usage.memory_mb / 1000, 4),
        vmem_usage=None if usage.gpu_memory_mb is None else round(usage.gpu_memory_mb / 1000, 4),
        disk_usage=round(usage.disk_gb, 4),
        disk_util=round(min(1.0, usage.disk_gb / disk_gb), 6),
    )


def instance_row(
    instance: Instance,
    host: Host,
    *,
    now: float,
    min_bid: float,
    metrics: Metrics,
    proxy_address: str,
    ports_hidden: bool,
) -> Row:
    """Return an instance.

    Args:
        instance: Which.
        host: Where it is.
        now: Virtual time.
        min_bid: Lowest bid that wins its slot now.
        metrics: The host's last report.
        proxy_address: Where the ssh proxy listens.
        ports_hidden: Keep the port map back although it runs.
    """
    slot = host.slots[instance.slot]
    storage = round(instance.storage_cost * instance.disk_gb / MONTH_HOURS, 6)
    active = instance.cur_state == "running"
    total = round(instance.price + storage, 6)
    # what a lost host last reported stays in the row
    mapped = instance.actual_status in ("running", "unknown", "offline", "frozen")
    started = instance.running_since
    computer = hardware(host, slot)
    share = slot.num_gpus / host.num_gpus
    dlperf = round(host.model.dlperf * slot.num_gpus, 2)
    index = str(1 + instance.id % 9)
    return {
        "id": instance.id,
        **computer,
        "ask_contract_id": instance.ask_id,
        "label": instance.label,
        "actual_status": instance.actual_status,
        "intended_status": instance.intended_status,
        "cur_state": instance.cur_state,
        "next_state": instance.next_state,
        "status_msg": instance.status_msg,
        "image_uuid": instance.image,
        "image_args": instance.image_args,
        "image_runtype": instance.runtype,
        "extra_env": [[key, value] for key, value in instance.env],
        "onstart": instance.onstart,
        "jupyter_token": instance.jupyter_token,
        "template_id": instance.template_id,
        "template_hash_id": instance.template_hash_id,
        "template_name": None,
        "public_ipaddr": instance.address,
        "local_ipaddrs": f"{instance.address} 172.17.0.{2 + slot.index} \n",
        "ssh_host": proxy_address,
        "ssh_idx": index,
        "ssh_port": instance.ssh_port,
        "machine_dir_ssh_port": 20_000 + host.machine_id % 10_000,
        "direct_port_start": -1,
        "direct_port_end": -1,
        "ports": _ports(instance) if mapped and not ports_hidden else None,
        "start_date": instance.created_at,
        "end_date": instance.end_date,
        "uptime_mins": None if started is None else round((now - started) / 60, 3),
        "duration": max(0.0, instance.end_date - now),
        "client_run_time": round(instance.gpu_seconds, 1),
        "host_run_time": round(now - host.start_date, 1),
        "is_bid": instance.is_bid,
        "min_bid": min_bid,
        "dph_base": instance.price,
        "dph_total": total,
        "dph_total_adj": total,
        "storage_cost": instance.storage_cost,
        "storage_total_cost": storage,
        "discount_rate": 0.0,
        "discounted_hourly": 0.0,
        "discounted_dph_total": total,
        "credit_discount": None,
        "credit_discount_max": 0.4,
        "credit_balance": None,
        "total_dph": total,
        "search": costs(instance.price, storage),
        "instance": costs(instance.price if active else 0.0, storage),
        "dlperf": dlperf,
        "dlperf_per_dphtotal": round(dlperf / total, 3),
        "flops_per_dphtotal": round(host.model.tflops * slot.num_gpus / total, 3),
        "score": round(dlperf / total * host.reliability**4, 3),
        "disk_space": instance.disk_gb,
        "mem_limit": round(host.cpu_ram_mb * share / 1000, 3),
        **metrics.model_dump(),
        "volume_info": [],
        "country_code": host.where.country,
        "is_vm": False,
        "rentable": True,
        "rented": True,
    }


def _ports(instance: Instance) -> dict[str, list[dict[str, str]]]:
    return {
        inside: [
            {"HostIp": "0.0.0.0", "HostPort": str(outside)},  # noqa: S104
            {"HostIp": "::", "HostPort": str(outside)},
        ]
        for inside, outside in instance.host_ports.items()
    }
