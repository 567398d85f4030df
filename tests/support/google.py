"""simcloud's Google side over bare HTTP, every answer judged by Google's own description of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.support.cloud import SimCloud
from tests.support.discovery import Discovery

ZONE = "us-central1-a"
DEBIAN = "projects/debian-cloud/global/images/family/debian-12"
_DISCOVERY = Discovery()


def instance_body(name: str, *, zone: str = ZONE, spot: bool = True, **changes: Any) -> Any:
    """The body of an ordinary insert: e2-small, Debian, external address."""
    body: dict[str, Any] = {
        "name": name,
        "machineType": f"zones/{zone}/machineTypes/e2-small",
        "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": DEBIAN}}],
        "networkInterfaces": [
            {"network": "global/networks/default", "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}
        ],
    }
    if spot:
        body["scheduling"] = {"provisioningModel": "SPOT", "instanceTerminationAction": "STOP"}
    return {**body, **changes}


class Google:
    """A small client that checks what it gets."""

    def __init__(self, cloud: SimCloud, *, token: str | None = None, timeout: float = 60) -> None:
        self.cloud = cloud
        self.root = f"/compute/v1/projects/{cloud.project}"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=cloud.gcp_url, timeout=timeout, headers=headers)

    def call(
        self, verb: str, path: str, body: Any = None, *, expect: int = 200, **query: Any
    ) -> Any:
        """Make one call below the project; a `path` with a leading slash is taken as it is."""
        url = path if path.startswith("/") else f"{self.root}/{path}".rstrip("/")
        answer = self.http.request(verb, url, json=body, params=query)
        assert answer.status_code == expect, answer.text
        if expect == 204:
            return None
        found = answer.json()
        if expect == 200 and "fields" not in query:
            _DISCOVERY.check(verb, answer.url.path, found)
        elif expect >= 400:
            assert found["error"]["code"] == expect
            assert found["error"]["errors"][0]["reason"]
        return found

    def get(self, path: str, **options: Any) -> Any:
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.call("POST", path, body, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self.call("DELETE", path, **options)

    def wait(self, operation: Any) -> Any:
        """Wait until an operation is done; fail if it failed."""
        done = self.wait_any(operation)
        assert "error" not in done, done["error"]
        return done

    def wait_any(self, operation: Any) -> Any:
        """Wait until an operation is done, well or not."""
        scope = operation["selfLink"].partition(self.cloud.project + "/")[2]
        while operation["status"] != "DONE":
            operation = self.post(f"{scope}/wait")
        return operation

    def make(self, name: str, *, zone: str = ZONE, **changes: Any) -> Any:
        """Insert an instance, wait for it, return it."""
        body = instance_body(name, zone=zone, **changes)
        self.wait(self.post(f"zones/{zone}/instances", body))
        return self.instance(name, zone=zone)

    def instance(self, name: str, *, zone: str = ZONE) -> Any:
        return self.get(f"zones/{zone}/instances/{name}")

    def until_status(
        self, name: str, status: str, *, zone: str = ZONE, timeout_s: float = 30
    ) -> Any:
        """Wait until an instance has a status; return it."""
        return until(
            lambda: self.instance(name, zone=zone),
            lambda found: found["status"] == status,
            timeout_s=timeout_s,
        )

    def until_gone(self, name: str, *, zone: str = ZONE) -> None:
        """Wait until an instance is no longer listed."""
        until(
            lambda: self.get(f"zones/{zone}/instances").get("items", []),
            lambda rows: name not in [row["name"] for row in rows],
        )

    def events(self, type: str, *, zone: str = ZONE) -> list[Any]:
        """Operations of a type in a zone."""
        rows = self.get(f"zones/{zone}/operations", filter=f'operationType="{type}"')
        return list(rows.get("items", []))

    def control(self, name: str, action: str, *, zone: str = ZONE) -> Any:
        """Do something to an instance through the control API."""
        return self.cloud.control.post(f"/gcp/instances/{zone}/{name}/{action}")

    def close(self) -> None:
        self.http.close()


def until(read: Callable[[], Any], good: Callable[[Any], bool], *, timeout_s: float = 30) -> Any:
    """Read again and again until it is good; return what was read."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = read()
        if good(found):
            return found
        assert time.monotonic() < deadline, f"never became so; last seen: {found}"
        time.sleep(0.02)
