"""Rows and a scripted transport for tests of the Vast.ai adapter."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpx

from dumont.domain.instances import InstanceOrder
from dumont.providers.gateway import Gateway
from dumont.providers.vast.adapter import VastProvider
from dumont.providers.vast.limits import VAST_LIMITS
from tests.support.virtual_time import run_virtual

T = TypeVar("T")
Answer = httpx.Response | Exception | dict[str, Any]

LABEL = "dmt-test-m0123456789ab-g1-a1"


def offer_row(**changes: Any) -> dict[str, Any]:
    return {
        "id": 20442365,
        "machine_id": 36683,
        "host_id": 166946,
        "num_gpus": 1,
        "gpu_name": "RTX 4090",
        "gpu_ram": 24564,
        "cpu_cores": 96,
        "cpu_cores_effective": 24.0,
        "cpu_ram": 257000,
        "disk_space": 812.4,
        "inet_up": 850.3,
        "inet_down": 912.7,
        "inet_up_cost": 0.003,
        "inet_down_cost": 0.002,
        "geolocation": "Texas, US",
        "hosting_type": 0,
        "dph_base": 0.402,
        "dph_total": 0.4064,
        "min_bid": 0.191,
        "is_bid": False,
        "storage_cost": 0.16,
        "storage_total_cost": 0.0044,
        "reliability": 0.99,
        "reliability2": 0.9968,
        "cuda_max_good": 12.8,
        "duration": 8060701.0,
        "rentable": True,
        "rented": False,
        "a_field_of_tomorrow": {"x": [1]},
        **changes,
    }


def instance_row(**changes: Any) -> dict[str, Any]:
    return {
        "id": 9001,
        "machine_id": 36683,
        "label": LABEL,
        "actual_status": "running",
        "intended_status": "running",
        "cur_state": "running",
        "next_state": "running",
        "status_msg": "success, running pytorch/pytorch/ssh",
        "image_runtype": "ssh_direc ssh_proxy",
        "public_ipaddr": "127.31.0.14\n",
        "ssh_host": "ssh4.vast.ai",
        "ssh_port": 19000,
        "direct_port_count": 250,
        "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "41022"}]},
        "start_date": 1795460000.1,
        "is_bid": True,
        "dph_base": 0.2,
        "dph_total": 0.2044,
        "storage_total_cost": 0.0044,
        "num_gpus": 1,
        "gpu_name": "RTX 4090",
        "geolocation": "Texas, US",
        "gpu_util": None,
        **changes,
    }


def order(**changes: Any) -> InstanceOrder:
    fields = {
        "offer_id": "20442365",
        "label": LABEL,
        "image": "vastai/base-image",
        "disk_gb": 20,
        "onstart": "echo hi",
        "bid_usd_per_hour": 0.22,
        **changes,
    }
    return InstanceOrder.model_validate(fields)


class Vast:
    """Answers from a script by method and path; remembers what it was asked."""

    def __init__(self) -> None:
        self.script: dict[str, list[Answer]] = {}
        self.calls: list[httpx.Request] = []

    def on(self, route: str, *answers: Answer) -> Vast:
        """Answer `METHOD /path` with these in turn, the last one for ever."""
        self.script[route] = list(answers)
        return self

    def asked(self, route: str) -> list[httpx.Request]:
        return [call for call in self.calls if _route(call) == route]

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        answers = self.script.get(_route(request))
        assert answers, f"unexpected {_route(request)}"
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, dict):
            return httpx.Response(200, json=answer)
        return answer

    def run(self, use: Callable[[VastProvider], Coroutine[Any, Any, T]]) -> T:
        """Run `use` with a provider on this transport, in virtual time."""

        async def main() -> T:
            provider = VastProvider(
                url="http://vast.test",
                api_key="secret-key",
                transport=httpx.MockTransport(self.handle),
                gateway=Gateway(provider="vast", account="t", limits=VAST_LIMITS),
            )
            try:
                return await use(provider)
            finally:
                await provider.aclose()

        return run_virtual(main())


def _route(request: httpx.Request) -> str:
    return f"{request.method} {request.url.path}"


def error(status: int, slug: str | None = None, msg: str = "", **more: Any) -> httpx.Response:
    """An error as Vast.ai words it."""
    body: dict[str, Any] = {"success": False, "msg": msg, **more}
    if slug is not None:
        body["error"] = slug
    return httpx.Response(status, json=body)


HTML = httpx.Response(
    502,
    text="<html><body><h1>502 Bad Gateway</h1></body></html>",
    headers={"content-type": "text/html"},
)
