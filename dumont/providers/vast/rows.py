"""The rows that Vast.ai sends, read without trusting them.

A field that is null, missing or of the wrong kind becomes None: *unknown*. Only an id is
indispensable. Nothing here says what a row means (`mapping.py` does).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

T = TypeVar("T")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _measure(value: Any) -> float | None:
    """A quantity that cannot be negative; Vast.ai writes -1 for unknown."""
    number = _number(value)
    return number if number is not None and number >= 0 else None


def _words(value: Any) -> str | None:
    """Text without the blanks and line ends that some hosts append."""
    return (value.strip() or None) if isinstance(value, str) else None


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return bool(value) if value in (0, 1) else None


def _port(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 1 <= number <= 65535 else None


def _moment(value: Any) -> datetime | None:
    number = _number(value)
    return datetime.fromtimestamp(number, UTC) if number and 0 < number < 2**33 else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).isdigit():
        raise ValueError("not an id")
    return str(value)


def _maybe_id(value: Any) -> str | None:
    try:
        return _id(value)
    except ValueError:
        return None


Id = Annotated[str, BeforeValidator(_id)]
MaybeId = Annotated[str | None, BeforeValidator(_maybe_id)]
Measure = Annotated[float | None, BeforeValidator(_measure)]
Words = Annotated[str | None, BeforeValidator(_words)]
Flag = Annotated[bool | None, BeforeValidator(_flag)]
Port = Annotated[int | None, BeforeValidator(_port)]
Moment = Annotated[datetime | None, BeforeValidator(_moment)]
"""A Unix time."""
Object = Annotated[dict[str, Any], BeforeValidator(_object)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class OfferRow(_Row):
    """A row of `POST /bundles/`. Field names, and units where stated, are Vast.ai's."""

    id: Id
    machine_id: MaybeId = None
    gpu_name: Words = None
    num_gpus: Measure = None
    gpu_ram: Measure = None
    """MiB per GPU."""
    dph_base: Measure = None
    """$/h for the GPUs; the lowest winning bid when the search was for bids."""
    dph_total: Measure = None
    """`dph_base` and the disk that the search asked for."""
    min_bid: Measure = None
    is_bid: Flag = None
    storage_cost: Measure = None
    """$ per GB and month."""
    storage_total_cost: Measure = None
    """$/h for the disk that the search asked for."""
    reliability: Measure = None
    reliability2: Measure = None
    geolocation: Words = None
    inet_down: Measure = None
    """Mbit/s."""
    inet_up: Measure = None
    inet_down_cost: Measure = None
    """$/GB."""
    inet_up_cost: Measure = None
    disk_space: Measure = None
    cpu_cores: Measure = None
    cpu_cores_effective: Measure = None
    cpu_ram: Measure = None
    """MB of the whole host; the offer's share follows its share of the cores."""
    cuda_max_good: Measure = None
    hosting_type: Measure = None
    duration: Measure = None
    """Seconds."""
    rentable: Flag = None
    rented: Flag = None


class InstanceRow(_Row):
    """A row of `GET /instances/`."""

    id: Id
    label: Words = None
    machine_id: MaybeId = None
    actual_status: Words = None
    intended_status: Words = None
    cur_state: Words = None
    next_state: Words = None
    status_msg: Words = None
    image_runtype: Words = None
    public_ipaddr: Words = None
    ssh_host: Words = None
    ssh_port: Port = None
    direct_port_count: Measure = None
    ports: Object = Field(default_factory=dict)
    is_bid: Flag = None
    dph_total: Measure = None
    storage_total_cost: Measure = None
    instance: Object = Field(default_factory=dict)
    """Prices of the present state: `totalHour` is all there is to pay while stopped."""
    gpu_name: Words = None
    num_gpus: Measure = None
    geolocation: Words = None
    start_date: Moment = None
    disk_space: Measure = None
    """GB."""


class ChargeRow(_Row):
    """A row of `GET /charges/` in its tree form."""

    type: Words = None
    source: Words = None
    """`instance-123`; only on the outermost rows."""
    description: Words = None
    amount: Annotated[float | None, BeforeValidator(_number)] = None
    start: Moment = None
    end: Moment = None
    quantity: Measure = None
    """Hours of time, gigabytes of traffic."""
    metadata: Object = Field(default_factory=dict)
    """Of the outermost rows: the instance's `label`, `gpu_name`, `num_gpus`."""
    items: Annotated[list[Any], BeforeValidator(lambda v: v if isinstance(v, list) else [])] = (
        Field(default_factory=list)
    )


def number(value: Any) -> float | None:
    """A non-negative number out of an untyped corner of a row, or None."""
    return _measure(value)


def words(value: Any) -> str | None:
    """A text out of an untyped corner of a row, or None."""
    return _words(value)


def port(value: Any) -> int | None:
    """A TCP port out of an untyped corner of a row, or None."""
    return _port(value)


def signed_number(value: Any) -> float | None:
    """A number that may be negative (a balance), or None."""
    return _number(value)
