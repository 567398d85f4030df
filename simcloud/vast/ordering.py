"""Understanding a create request: every field checked, every accepted spelling read."""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import BaseModel

from simcloud.vast.errors import VastError, invalid

_MAX_ONSTART = 4048
_MAX_LABEL = 1024
_MAX_PORTS = 64
_DEFAULT_DISK_GB = 8.0
MIN_BID = 0.001
MAX_BID = 128.0


class Order(BaseModel):
    """A valid create request."""

    image: str
    image_args: list[str]
    env: list[tuple[str, str]]
    price: float | None
    """Bid for the whole machine, $/h; None rents on demand."""
    disk_gb: float
    label: str | None
    onstart: str | None
    runtype: str
    cancel_unavail: bool
    target_stopped: bool
    template_hash_id: str | None
    template_id: int | None


def read_order(body: Any) -> Order:
    """Check the body of a create request.

    Raises:
        VastError: 400 `invalid_args` or `invalid_price`, naming the field.
    """
    if not isinstance(body, dict):
        raise invalid("the request body must be a JSON object")
    template_hash = _text(body, "template_hash_id", limit=256)
    template_id = body.get("template_id")
    image = _text(body, "image", limit=1024)
    if not image and not template_hash and template_id is None:
        raise invalid("image: an image or a template is required")
    price = read_price(body.get("price"))
    target = body.get("target_state") or "running"
    if target not in ("running", "stopped"):
        raise invalid("target_state: must be running or stopped")
    cancel = body.get("cancel_unavail")
    return Order(
        image=image or "vastai/base-image",
        image_args=_arguments(body),
        env=read_env(body.get("env")),
        price=price,
        disk_gb=_disk(body.get("disk")),
        label=_text(body, "label", limit=_MAX_LABEL),
        onstart=_onstart(body),
        runtype=_runtype(body),
        # documented defaults: true for on-demand, false for interruptible
        cancel_unavail=price is None and target == "running" if cancel is None else bool(cancel),
        target_stopped=target == "stopped",
        template_hash_id=template_hash,
        template_id=template_id if isinstance(template_id, int) else None,
    )


def read_price(value: Any) -> float | None:
    """Return a bid in $/h, or None for on-demand.

    Raises:
        VastError: 400 `invalid_price` when it is no number or out of range.
    """
    if value is None:
        return None
    try:
        price = float(value)
    except (TypeError, ValueError):
        raise VastError(400, "invalid_price", "price: must be a number of $/h or null") from None
    if not MIN_BID <= price <= MAX_BID:
        raise VastError(
            400,
            "invalid_price",
            f"Please set a bid price >= {MIN_BID}." if price < MIN_BID else f"price > {MAX_BID}",
        )
    return price


def read_env(env: Any) -> list[tuple[str, str]]:
    """Return environment pairs from a dict or from a string of docker flags.

    Raises:
        VastError: 400 when it is neither, or asks for too many ports.
    """
    if env is None or env == "":
        return []
    if isinstance(env, str):
        pairs = _from_flags(env)
    elif isinstance(env, dict):
        pairs = [
            (str(key).strip(), "" if value is None else str(value)) for key, value in env.items()
        ]
    else:
        raise invalid("env: must be an object, or a string of docker flags")
    ports = sum(1 for key, _ in pairs if key.startswith("-p "))
    if ports > _MAX_PORTS:
        raise invalid(f"env: {ports} ports; at most {_MAX_PORTS} can be mapped")
    for key, _ in pairs:
        if key.startswith("-p "):
            _port_mapping(key)
    return pairs


def environment(env: list[tuple[str, str]]) -> dict[str, str]:
    """Return the variables among the pairs, without the docker flags."""
    return {key: value for key, value in env if not key.startswith("-") and key.isidentifier()}


def ports(env: list[tuple[str, str]]) -> list[tuple[int, str]]:
    """Return (container port, protocol) of every `-p` among the pairs."""
    return [_port_mapping(key) for key, _ in env if key.startswith("-p ")]


def _port_mapping(flag: str) -> tuple[int, str]:
    mapping, _, protocol = flag.removeprefix("-p ").strip().partition("/")
    _, _, inside = mapping.rpartition(":")
    try:
        port = int(inside)
    except ValueError:
        port = -1
    # from 70000 up a port is a wish for the same number inside and outside
    if not 1 <= port < 140_000 or (65_535 < port < 70_000) or protocol not in ("", "tcp", "udp"):
        raise invalid(f"env: {flag!r} is no port mapping such as '-p 8080:8080'")
    return port, protocol or "tcp"


def _from_flags(text: str) -> list[tuple[str, str]]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise invalid(f"env: not a string of docker flags ({error})") from error
    pairs: list[tuple[str, str]] = []
    index = 0
    while index < len(words):
        flag = words[index]
        value = words[index + 1] if index + 1 < len(words) else ""
        if flag in ("-e", "--env"):
            key, _, text_value = value.partition("=")
            pairs.append((key, text_value))
            index += 2
        elif flag in ("-p", "-h", "-v", "--hostname", "--volume", "--publish"):
            short = {"--hostname": "-h", "--volume": "-v", "--publish": "-p"}.get(flag, flag)
            pairs.append((f"{short} {value}", "1"))
            index += 2
        else:
            raise invalid(f"env: {flag!r} is none of -e, -p, -h, -v")
    return pairs


def _text(body: dict[str, Any], name: str, *, limit: int) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise invalid(f"{name}: must be text")
    if len(value) > limit:
        raise invalid(f"{name}: {len(value)} characters, at most {limit}")
    return value


def _onstart(body: dict[str, Any]) -> str | None:
    value = body.get("onstart")
    if value is None:
        return None
    if not isinstance(value, str):
        raise invalid("onstart: must be text")
    if len(value) > _MAX_ONSTART:
        raise invalid(f"onstart: {len(value)} characters, at most {_MAX_ONSTART}; gzip it")
    return value or None


def _disk(value: Any) -> float:
    if value is None:
        return _DEFAULT_DISK_GB
    try:
        disk = float(value)
    except (TypeError, ValueError):
        raise invalid("disk: must be a number of GB") from None
    if not 0 < disk <= 100_000:
        raise invalid("disk: must be more than 0 GB")
    return disk


def _runtype(body: dict[str, Any]) -> str:
    value = body.get("runtype") or ("args" if body.get("args") else "ssh")
    if not isinstance(value, str):
        raise invalid("runtype: must be text")
    known = ("ssh", "jupyter", "args")
    if not all(part.startswith(known) for part in value.split()):
        raise invalid(f"runtype: {value!r} is not one of ssh, jupyter, args and their variants")
    return value


def _arguments(body: dict[str, Any]) -> list[str]:
    value = body.get("args")
    if value is None:
        text = body.get("args_str")
        return shlex.split(text) if isinstance(text, str) else []
    if isinstance(value, str):
        return shlex.split(value)
    if isinstance(value, list):
        return [str(each) for each in value]
    raise invalid("args: must be a list of words")
