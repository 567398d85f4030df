"""Switches the demo's machines on again after the whole demo was stopped and started.

To the cloud in a box a restart is a reboot of every host: containers have exited and wait for their
tenant to start them. Somebody who pressed Ctrl-C meant no such fault, so the supervisor does what the
tenant would: it starts what was meant to run, through the cloud's ordinary API, before the worker
looks. When the cloud crashes *during* a demo nothing of this happens: that is a fault worth seeing.

Run as `python -m dumont.cli.embedded.power_on` with VAST_URL and VAST_API_KEY set.
"""

from __future__ import annotations

import os
import sys
import time

import httpx
from pydantic import BaseModel

_PATIENCE_S = 60.0


class _Row(BaseModel):
    id: int
    actual_status: str | None
    intended_status: str


def power_on(client: httpx.Client) -> list[int]:
    """Start every instance that exited although it is meant to run; returns their ids.

    Args:
        client: Of the cloud's Vast API, with its key.

    Raises:
        httpx.HTTPError: The cloud does not answer as it should.
    """
    answer = _patiently(client, "GET", "/api/v0/instances/")
    rows = [_Row.model_validate(row) for row in answer.raise_for_status().json()["instances"]]
    started = []
    for row in rows:
        if row.actual_status != "exited" or row.intended_status != "running":
            continue
        answer = _patiently(client, "PUT", f"/api/v0/instances/{row.id}/", {"state": "running"})
        if answer.is_success:
            started.append(row.id)
        else:  # out of credit, or ended meanwhile: what the product then sees is the truth
            sys.stderr.write(f"instance {row.id} stays off: {answer.text}\n")
    return started


def _patiently(
    client: httpx.Client, method: str, path: str, body: dict[str, str] | None = None
) -> httpx.Response:
    """One request, again as long as the cloud says that it is too soon."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        answer = client.request(method, path, json=body)
        if answer.status_code != httpx.codes.TOO_MANY_REQUESTS or time.monotonic() > deadline:
            return answer
        time.sleep(0.5)


def main() -> int:
    """Do it; returns the exit code."""
    client = httpx.Client(
        base_url=os.environ["VAST_URL"],
        headers={"Authorization": f"Bearer {os.environ['VAST_API_KEY']}"},
        timeout=10,
        trust_env=False,
    )
    try:
        with client:
            started = power_on(client)
    except httpx.HTTPError as error:
        sys.stderr.write(f"the cloud's machines could not be listed: {error}\n")
        return 1
    sys.stderr.write(f"started: {started or 'nothing had to be'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
