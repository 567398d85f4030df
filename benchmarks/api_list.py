"""The API's list of machines when there are ten thousand of them.

The rows are written as workflows write them, a real API process serves them over HTTP, and another
process asks. Beside it the same list from Temporal's visibility store, as a design without a read
model would take it, on as many real workflow executions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TypedDict

import httpx
from temporalio.client import Client

from benchmarks import _harness, _machines
from benchmarks._fleet import Fleet
from benchmarks._harness import Report, Section, Target, Value, percentile
from benchmarks._servers import ROOT, Stack, free_port, stack, wait_until
from dumont.db.engine import Database
from dumont.db.machine_store import PostgresMachineStore

_OWNER = "owner@example.com"
_PASSWORD = "a password for benchmarks alone"
_PAGE = 200
_VISIBLE = "WorkflowType = 'Machine'"


class _Load(TypedDict):
    ms: list[float]
    per_second: float
    errors: list[str]


class _Api:
    """A real API process and what asks it."""

    def __init__(self, on: Stack) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self.process = on.python(
            "api",
            "api",
            env={
                "DUMONT_API_PORT": str(port),
                "DUMONT_API_URL": f"http://127.0.0.1:{port}",
                "DUMONT_OWNER_EMAIL": _OWNER,
                "DUMONT_OWNER_PASSWORD": _PASSWORD,
            },
        )
        self._token = ""

    def start(self) -> str:
        """Start it and log in; returns the owner's id."""
        self.process.start()
        wait_until(self._ready, what="the API", seconds=60)
        wait_until(self._log_in, what="the owner", seconds=10)
        return str(self.get("/auth/me")["user_id"])

    def _ready(self) -> bool:
        self.process.check()
        try:
            return httpx.get(f"{self.url}/health/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def _log_in(self) -> bool:
        answer = httpx.post(
            f"{self.url}/auth/login",
            json={"email": _OWNER, "password": _PASSWORD},
            trust_env=False,
        )
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # the first owner is still being made
            return False
        self._token = str(answer.raise_for_status().json()["access_token"])
        return True

    def get(self, path: str) -> dict[str, object]:
        """One request."""
        headers = {"Authorization": f"Bearer {self._token}"}
        answer = httpx.get(f"{self.url}{path}", headers=headers, trust_env=False, timeout=60)
        found: dict[str, object] = answer.raise_for_status().json()
        return found

    def load(self, path: str, *, concurrency: int, requests: int) -> _Load:
        """Many requests from another process."""
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks._load", f"{self.url}{path}", str(concurrency),
             str(requests)],
            env={"DUMONT_BENCH_TOKEN": self._token}, cwd=ROOT, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        found: _Load = json.loads(done.stdout)
        if found["errors"]:
            raise RuntimeError(f"{path}: {found['errors']}")
        return found

    def whole_list(self) -> int:
        """Follow every cursor; returns how many machines there were."""
        seen, cursor = 0, ""
        while True:
            page = self.get(f"/machines?limit={_PAGE}{cursor}")
            seen += len(page["items"])  # type: ignore[arg-type]
            if page["next_cursor"] is None:
                return seen
            cursor = f"&cursor={page['next_cursor']}"

    def middle_cursor(self, machines: int) -> str:
        """The cursor after half of the list."""
        cursor = ""
        for _ in range(max(1, machines // _PAGE // 2)):
            following = self.get(f"/machines?limit={_PAGE}{cursor}")["next_cursor"]
            if following is None:
                break
            cursor = f"&cursor={following}"
        return cursor


async def _insert(on: Stack, owner_id: str, count: int) -> None:
    database = Database(on.postgres.url, pool_size=8)
    store = PostgresMachineStore(database)
    gate = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        async with gate:
            await store.record(_machines.running(number, owner_id=owner_id))

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
    await database.close()


async def _naive_page(client: Client) -> int:
    pages = client.list_workflows(_VISIBLE, page_size=_PAGE)
    await pages.fetch_next_page()
    return len(pages.current_page or ())


async def _naive_list(client: Client) -> int:
    return len([one async for one in client.list_workflows(_VISIBLE, page_size=_PAGE)])


async def _naive(on: Stack, given: argparse.Namespace, report: Report) -> list[Sequence[Value]]:
    """The same from Temporal: executions that nobody works on, which visibility lists all the same."""
    fleet = Fleet(stack=on)
    client = await fleet.client()
    took = await fleet.start(range(given.machines))
    report.say(f"{given.machines} executions started in {took:.0f} s")
    for _ in range(600):
        if (await client.count_workflows(_VISIBLE)).count >= given.machines:
            break
        await asyncio.sleep(0.5)
    pages = []
    for _ in range(max(20, given.requests // 10)):
        began = time.perf_counter()
        await _naive_page(client)
        pages.append(1000 * (time.perf_counter() - began))
    began = time.perf_counter()
    listed = await _naive_list(client)
    whole = 1000 * (time.perf_counter() - began)
    return [
        [f"Temporal visibility: a page of {_PAGE}", 1, percentile(pages, 50),
         percentile(pages, 99), 1000 / percentile(pages, 50)],
        [f"Temporal visibility: all {listed:,}", 1, whole, None, None],
    ]  # fmt: skip


def _measure(api: _Api, given: argparse.Namespace, report: Report) -> list[Sequence[Value]]:
    middle = api.middle_cursor(given.machines)
    name = f"box-{given.machines // 2}"
    asked = {
        f"first page of {_PAGE}": f"/machines?limit={_PAGE}",
        f"page of {_PAGE} from the middle": f"/machines?limit={_PAGE}{middle}",
        f"page of {_PAGE}, one phase": f"/machines?limit={_PAGE}&phase=running",
        "first page of 50 (default)": "/machines",
        "by name": f"/machines?name={name}",
    }
    rows: list[Sequence[Value]] = []
    for what, path in asked.items():
        for concurrency in (1, given.concurrency):
            found = api.load(path, concurrency=concurrency, requests=given.requests)
            p50, p99 = percentile(found["ms"], 50), percentile(found["ms"], 99)
            rows.append([what, concurrency, p50, p99, found["per_second"]])
        report.say(what)
    began = time.perf_counter()
    listed = api.whole_list()
    rows.append([f"all {listed:,}", 1, 1000 * (time.perf_counter() - began), None, None])
    if listed != given.machines:
        raise RuntimeError(f"the list has {listed} machines, not {given.machines}")
    return rows


def main() -> None:
    """Run it."""
    parser = _harness.parser(__doc__)
    parser.add_argument("--machines", type=int, default=10_000, metavar="N")
    parser.add_argument("--requests", type=int, default=300, metavar="N", help="of each kind")
    parser.add_argument("--concurrency", type=int, default=4, metavar="N", help="besides 1")
    given = parser.parse_args()
    report = Report(name="api-list", question="how fast is the list of machines?", arguments=given)
    with stack() as on:
        api = _Api(on)
        owner_id = api.start()
        asyncio.run(_insert(on, owner_id, given.machines))
        report.say(f"{given.machines} rows")
        rows = _measure(api, given, report)
        first = rows[0]
        naive = asyncio.run(_naive(on, given, report))
    report.add(
        Section(
            title=f"A list of {given.machines:,} machines",
            columns=["what", "at once", "p50 ms", "p99 ms", "requests/s"],
            rows=[*rows, *naive],
            note="ours over HTTP, authenticated, as JSON with every field the dashboard shows; "
            "visibility over gRPC from the same machine, ids, status and search attributes alone",
        )
    )
    p99 = first[3]
    assert isinstance(p99, float)
    report.targets.append(
        Target(name="page of the list, p99", measured=p99, target=100, unit="ms", better="less")
    )
    report.finish()


if __name__ == "__main__":
    main()
