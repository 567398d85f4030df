"""A machine hibernates on its standby, people work there, and wake it from there."""

from __future__ import annotations

from tests.integration.product.conftest import Product
from tests.integration.product.test_snapshots import ssh, until

REST = ("--asleep", "keep", "--failback", "at-once")


def test_asleep_on_its_standby_and_awake_with_what_was_done_there(product: Product) -> None:
    product.ok("up", "sleeper", "--gpu", "RTX 4090", "--max-price", "0.60", *REST)
    until(
        "protected",
        lambda: product.json("show", "sleeper")["protection"]["status"] == "protected",
    )
    ssh(product, "sleeper", "cd /workspace && echo one >a && head -c 3000000 /dev/urandom >b")
    before = ssh(product, "sleeper", "sha256sum /workspace/b")
    asleep = product.json("hibernate", "sleeper")
    assert asleep["phase"] == "hibernated"
    assert asleep["instance"] is None
    assert asleep["ssh"] == asleep["standby"]["endpoint"]
    told = ssh(product, "sleeper", "cat ~/.dumont/status; echo two >>/workspace/a; dumont-wake")
    assert "No GPU is rented" in told
    awake = until(
        "awake",
        lambda: (shown := product.json("show", "sleeper"))["phase"] == "running" and shown,
    )
    assert awake["generation"] == asleep["generation"] + 1
    assert ssh(product, "sleeper", "cat /workspace/a") == "one\ntwo\n"
    assert ssh(product, "sleeper", "sha256sum /workspace/b") == before
    assert "RTX 4090" in ssh(product, "sleeper", "nvidia-smi -L")
    bills = product.json("ledger", "sleeper")
    assert bills["items"] is not None
    product.ok("destroy", "sleeper", "--yes")
