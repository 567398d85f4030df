"""Load for the API from a process of its own: `python -m benchmarks._load URL CONCURRENCY REQUESTS`.

The access token comes in DUMONT_BENCH_TOKEN. Prints one JSON line: the latencies in milliseconds, the
requests a second, and what went wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import httpx


async def _run(url: str, concurrency: int, requests: int) -> dict[str, object]:
    latencies: list[float] = []
    errors: list[str] = []
    left = iter(range(requests))

    async def client(http: httpx.AsyncClient) -> None:
        for _ in left:
            began = time.perf_counter()
            try:
                response = await http.get(url)
                response.raise_for_status()
            except httpx.HTTPError as error:
                errors.append(str(error) or type(error).__name__)
            else:
                latencies.append(1000 * (time.perf_counter() - began))

    headers = {"Authorization": f"Bearer {os.environ['DUMONT_BENCH_TOKEN']}"}
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(
        headers=headers, limits=limits, trust_env=False, timeout=60
    ) as http:
        await http.get(url)  # connected, and every cache warm
        began = time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(concurrency)))
        elapsed = time.perf_counter() - began
    return {"ms": latencies, "per_second": len(latencies) / elapsed, "errors": errors}


if __name__ == "__main__":
    address, at_once, total = sys.argv[1:]
    print(json.dumps(asyncio.run(_run(address, int(at_once), int(total)))))
