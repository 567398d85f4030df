"""A thin hand on Vast's REST API for tests: plain calls, waiting for a state, renting the cheapest."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import httpx

from tests.support.cloud import SimCloud


class VastApi:
    """Calls that must succeed return JSON; `raw` returns the response as it came."""

    def __init__(self, cloud: SimCloud, *, key: str | None = None) -> None:
        self.cloud = cloud
        self.control = cloud.control
        self.http = httpx.Client(
            base_url=cloud.vast_url,
            headers={"Authorization": f"Bearer {key or cloud.vast_key}"},
            timeout=30,
        )

    def __enter__(self) -> VastApi:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()

    def raw(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        return self.http.request(method, path, json=body, params=query or None)

    def get(self, path: str, **query: Any) -> Any:
        return self._good(self.raw("GET", path, **query))

    def post(self, path: str, **body: Any) -> Any:
        return self._good(self.raw("POST", path, body))

    def put(self, path: str, **body: Any) -> Any:
        return self._good(self.raw("PUT", path, body))

    def delete(self, path: str, **body: Any) -> Any:
        return self._good(self.raw("DELETE", path, body))

    def search(self, **query: Any) -> list[dict[str, Any]]:
        return list(self.post("/api/v0/bundles/", **query)["offers"])

    def cheapest(self, gpu: str = "RTX 4090", **query: Any) -> dict[str, Any]:
        found = self.search(
            gpu_name={"eq": gpu}, num_gpus={"eq": 1}, order=[["dph_total", "asc"]], **query
        )
        assert found, f"no {gpu}"
        return found[0]

    def rent(self, offer: dict[str, Any] | None = None, **order: Any) -> int:
        """Rent an offer (the cheapest RTX 4090) and return the instance's id."""
        offer = offer or self.cheapest()
        order = {"image": "ubuntu", "disk": 10, "runtype": "ssh_direc ssh_proxy", **order}
        return int(self.put(f"/api/v0/asks/{offer['id']}/", **order)["new_contract"])

    def row(self, instance: int) -> dict[str, Any] | None:
        row: dict[str, Any] | None = self.get(f"/api/v0/instances/{instance}/")["instances"]
        return row

    def wait(
        self, instance: int, wanted: str | Callable[[dict[str, Any]], Any], *, timeout_s: float = 20
    ) -> dict[str, Any]:
        """Wait until the row has that `actual_status`, or satisfies the condition."""
        deadline = time.monotonic() + timeout_s
        while True:
            row = self.row(instance)
            assert row is not None, f"instance {instance} does not exist"
            good = row["actual_status"] == wanted if isinstance(wanted, str) else wanted(row)
            if good:
                return row
            assert time.monotonic() < deadline, {k: row[k] for k in _TOLD}
            time.sleep(0.05)

    def running(self, **order: Any) -> dict[str, Any]:
        """Rent the cheapest RTX 4090, wait until it runs, and return its row."""
        return self.wait(self.rent(**order), "running")

    def destroy_all(self) -> None:
        ids = [row["id"] for row in self.get("/api/v0/instances/")["instances"]]
        if ids:
            self.raw("DELETE", "/api/v0/instances/", {"instance_ids": ids})

    @staticmethod
    def _good(response: httpx.Response) -> Any:
        assert response.is_success, f"{response.status_code} {response.text}"
        assert response.headers["content-type"] == "application/json"
        return response.json()


_TOLD = ("actual_status", "cur_state", "next_state", "intended_status", "status_msg")
