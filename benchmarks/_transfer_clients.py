"""The clients of the transfer benchmark that are Python: `... CLIENT put|get FOLDER ENDPOINT BUCKET PREFIX`.

Each moves every file of a folder to an object of its own, or the objects below a prefix into files. They
import what they need and nothing more, as a program of their own would.
"""

from __future__ import annotations

import mmap
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CONNECTIONS = 4
_WRITE = 1 << 20


def dumont(way: str, folder: Path, endpoint: str, bucket: str, prefix: str) -> None:
    """Ours, used as the snapshot engine does: a few threads, bodies straight from and into memory."""
    from dumont.storage.url import from_url

    store = from_url(f"s3://{bucket}/{prefix}?endpoint={endpoint}", os.environ)
    work: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    if way == "put":
        jobs = [(path.name, path.stat().st_size) for path in sorted(folder.iterdir())]
    else:
        jobs = [(listed.key, listed.size) for listed in store.list("")]
    for job in jobs:
        work.put(job)
    errors: list[BaseException] = []

    def mover() -> None:
        buffer = memoryview(bytearray(max(size for _, size in jobs) if way == "get" else 0))
        try:
            while True:
                name, size = work.get_nowait()
                if way == "put":
                    with (
                        (folder / name).open("rb") as file,
                        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
                        memoryview(mapped) as view,
                    ):
                        store.put(name, view)
                else:
                    view = buffer[:size]
                    store.read_into(name, 0, view)
                    with (folder / name).open("wb", buffering=0) as out:
                        for start in range(0, size, _WRITE):
                            out.write(view[start : start + _WRITE])
        except queue.Empty:
            return
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=mover) for _ in range(_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def boto3(way: str, folder: Path, endpoint: str, bucket: str, prefix: str) -> None:
    """Amazon's library with its defaults; ten files at once, as many as it has connections."""
    import boto3 as amazon  # type: ignore[import-untyped]

    client = amazon.client("s3", endpoint_url=endpoint)
    with ThreadPoolExecutor(10) as threads:
        if way == "put":
            list(
                threads.map(
                    lambda path: client.upload_file(str(path), bucket, f"{prefix}/{path.name}"),
                    sorted(folder.iterdir()),
                )
            )
        else:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=f"{prefix}/"
            )
            keys = [found["Key"] for page in pages for found in page["Contents"]]
            list(
                threads.map(
                    lambda key: client.download_file(
                        bucket, key, str(folder / key.rpartition("/")[2])
                    ),
                    keys,
                )
            )


CLIENTS: dict[str, Callable[[str, Path, str, str, str], None]] = {"dumont": dumont, "boto3": boto3}


if __name__ == "__main__":
    name, direction, where, *there = sys.argv[1:]
    CLIENTS[name](direction, Path(where), *there)
