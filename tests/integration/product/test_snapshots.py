"""A workspace is kept in the object store and comes back, onto any machine, as a person does it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.product.conftest import DUMONT, Product

_FILL = """
set -e; cd /workspace; mkdir -p src/deep 'odd \xc3\xa9 name' empty
for i in $(seq 120); do echo "file $i" >src/f$i.py; done
head -c 6000000 /dev/urandom >weights.bin; : >nothing; ln -s src/f1.py link; ln weights.bin twin
echo secret >'odd \xc3\xa9 name/x y'; chmod 640 src/f3.py; touch -d '2020-02-02 02:02:02.5' src/f4.py
truncate -s 40M sparse; printf tail >>sparse
"""
_LISTING = r"""
cd "$1"; find . -path ./.dumont -prune -o -path ./restored -prune -o -printf '%P %y %m %s %l %T@\n' |
  grep -v '^ d' | grep -v ' d ' | sort; find . -path ./.dumont -prune -o -path ./restored -prune \
  -o -type f -print0 | sort -z | xargs -0 sha256sum
"""


def ssh(product: Product, name: str, script: str) -> str:
    return product.ok("ssh", name, "--", script)


def listing(product: Product, name: str, folder: str = "/workspace") -> str:
    return ssh(product, name, f"set -- {folder}\n{_LISTING}")


def up(product: Product, name: str) -> str:
    product.ok("up", name, "--gpu", "RTX 4090", "--max-price", "0.60", "--no-protection")
    return str(product.json("show", name)["machine_id"])


def until(what: str, check: Callable[[], Any], *, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(1)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def settings(product: Product) -> dict[str, str]:
    found: dict[str, str] = json.loads((product.state / "server.json").read_text())
    return found


@pytest.fixture(scope="module")
def box(product: Product) -> Iterator[str]:
    up(product, "keeper")
    ssh(product, "keeper", _FILL)
    yield "keeper"
    product.ok("destroy", "keeper", "--yes", "--no-wait")


def test_a_workspace_is_kept_and_comes_back_onto_another_machine(
    product: Product, box: str
) -> None:
    made = product.json("snapshot", box, "--tag", "first")
    assert made["whole"]
    assert made["verified_at"]
    assert made["source"] == "primary"
    ssh(product, box, "cd /workspace && echo other >src/f7.py && rm src/f8.py && echo n >new")
    again = product.json("snapshot", box)
    assert again["stored_bytes"] < 100_000, "what both have in common costs nothing"

    changed = product.json("snapshot-diff", box, made["snapshot_id"], again["snapshot_id"])
    assert [(each["what"], each["path"]) for each in changed["items"]] == [
        ("added", "new"), ("touched", "src"), ("changed", "src/f7.py"), ("removed", "src/f8.py"),
    ]  # fmt: skip

    before = listing(product, box)
    up(product, "other")
    try:
        done = product.json("restore", "other", "latest", "--of", box, "--in-place", "--yes")
        assert done["problems"] == []
        assert done["before"], "what was there before is kept first"
        assert listing(product, "other") == before
        blocks = ssh(product, "other", "stat -c %b /workspace/sparse")
        assert int(blocks) * 512 < 20_000_000, "holes stay holes"
    finally:
        product.ok("destroy", "other", "--yes", "--no-wait")

    one = product.json("restore", box, made["snapshot_id"], "--path", "src/f8.py")
    assert one["files"] == 1
    assert ssh(product, box, f"cat /workspace/{one['folder']}/src/f8.py") == "file 8\n"
    assert listing(product, box) == before, "a restore beside the workspace changes nothing in it"


def test_snapshots_are_listed_browsed_pinned_and_pruned(product: Product, box: str) -> None:
    first = product.json("snapshot", box, "--pin")["snapshot_id"]
    assert "src/f5.py" in product.ok("snapshots", box, first, "src")
    refused = product.dumont("snapshot-forget", box, first, "--yes")
    assert refused.returncode != 0
    assert "pinned" in refused.stderr
    product.ok("snapshot-pin", box, first, "--off")
    product.ok("snapshot-forget", box, first, "--yes")
    listed = product.json("snapshots", box)
    assert first not in [each["snapshot_id"] for each in listed["items"]]
    product.ok("snapshot-policy", box, "--every", "15", "--keep-last", "2")
    listed = product.json("snapshots", box)
    assert listed["policy"]["every_minutes"] == 15
    assert listed["next_at"] is not None, "it is a schedule of Temporal's"
    assert product.json("snapshot-prune", box)["dry_run"]


def test_nothing_on_the_machine_opens_the_store(product: Product, box: str) -> None:
    """Neither the account's keys nor the loan nor the repository's secret touch the machine."""
    ours = settings(product)
    account = [ours["AWS_SECRET_ACCESS_KEY"], ours["VAST_API_KEY"]]
    ssh(product, box, "head -c 300000000 /dev/urandom >/workspace/big")
    taking = subprocess.Popen(
        [str(DUMONT), "snapshot", box],
        env=product.env, cwd=product.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        run = until("the engine runs", engines, seconds=60)
        for pid in run:
            seen = _read(pid, "environ") + _read(pid, "cmdline")
            for secret in (*account, "AWS_", "DUMONT_SNAP_SECRET=", "SessionToken"):
                assert secret.encode() not in seen, secret
        words = " ".join(f"-e '{each}'" for each in (*account, "SessionToken", "SNAP_SECRET"))
        found = product.dumont("ssh", box, "--", f"grep -rlF {words} ~/.dumont ~ /tmp /workspace")
        ours_only = [line for line in found.stdout.splitlines() if "/engine-" not in line]
        assert [line for line in ours_only if "/libs-" not in line] == []
    finally:
        taking.wait(120)
    assert taking.returncode == 0


def test_a_machine_without_a_standby_comes_back_when_its_instance_is_gone(
    product: Product,
) -> None:
    up(product, "phoenix")
    try:
        ssh(product, "phoenix", _FILL)
        product.ok("snapshot", "phoenix")
        before = listing(product, "phoenix")
        first = product.json("show", "phoenix")["instance"]["instance_id"]
        ours = settings(product)
        httpx.delete(
            f"{ours['VAST_URL']}/api/v0/instances/{first}/",
            headers={"authorization": f"Bearer {ours['VAST_API_KEY']}"},
        ).raise_for_status()

        def is_back() -> bool:
            now = product.json("show", "phoenix")
            return now["phase"] == "running" and now["instance"]["instance_id"] != first

        until("it lives on another instance", is_back, seconds=180)
        assert listing(product, "phoenix") == before
    finally:
        product.ok("destroy", "phoenix", "--yes", "--no-wait")


def engines() -> list[int]:
    """Processes of the engine, as the machine runs it."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and b"dumont.snapshots.hosted" in _read(
            int(folder.name), "cmdline"
        ):
            found.append(int(folder.name))
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
