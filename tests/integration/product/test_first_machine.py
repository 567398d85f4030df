"""The first ten minutes of a new user, typed as the README says."""

from __future__ import annotations

import json
import subprocess
import time
import uuid

import httpx
import pytest

from tests.integration.product.conftest import Product


def name() -> str:
    return f"box-{uuid.uuid4().hex[:6]}"


def until_gone(product: Product, box: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if product.dumont("show", box).returncode != 0:
            return
        if json.loads(product.ok("show", box, "--json"))["phase"] == "destroyed":
            return
        time.sleep(0.5)
    raise AssertionError(f"{box} is still there")


def test_rent_use_and_give_back(product: Product) -> None:
    box = name()
    said = product.ok("up", box, "--gpu", "RTX 4090", "--max-price", "0.60")
    assert f"dumont ssh {box}" in said

    shown = product.json("show", box)
    assert shown["phase"] == "running"
    assert shown["instance"]["gpu"] == "RTX 4090"
    assert 0 < shown["instance"]["usd_per_hour"] <= 0.60
    assert [rung["rung"] for rung in shown["ladder"] if rung["reached_at"]] == [
        "rented", "running", "port_mapped", "tcp", "ssh", "agent",
    ]  # fmt: skip

    product.ok("ssh", box, "--", "echo hello > /workspace/hello")
    assert product.ok("ssh", box, "--", "cat /workspace/hello") == "hello\n"
    assert "4090" in product.ok("ssh", box, "--", "nvidia-smi --query-gpu=name --format=csv")

    assert box in product.ok("ls")
    lines = product.ok("events", box, "--json").splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert "machine.ready" in kinds

    product.ok("destroy", box, "--yes")
    until_gone(product, box)


def test_plain_ssh_finds_the_machine_and_checks_its_key(product: Product) -> None:
    box = name()
    product.ok("up", box, "--gpu", "RTX 4090", "--max-price", "0.60")
    managed = product.home / ".ssh" / "config"
    done = subprocess.run(
        ["ssh", "-F", str(managed), "-o", "BatchMode=yes", f"dumont-{box}", "echo $((6*7))"],
        capture_output=True, text=True, timeout=30, env=product.env, check=False,
    )  # fmt: skip
    assert done.stdout == "42\n", done.stderr
    assert "Permanently added" not in done.stderr
    product.ok("destroy", box, "--yes", "--no-wait")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["up", "my/box", "--gpu", "RTX 4090", "--max-price", "1"], 2, "name"),
        (["up", "b", "--gpu", "RTX 4095", "--max-price", "1"], 2, "did you mean"),
        (["up", "b", "--gpu", "RTX 4090", "--max-price", "0"], 2, "max"),
        (["show", "nobody"], 3, "nobody"),
        (["destroy", "nobody", "--yes"], 3, "nobody"),
    ],
)
def test_bad_input_is_named(product: Product, arguments: list[str], code: int, words: str) -> None:
    done = product.dumont(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_machine_of_the_same_name_is_refused(product: Product) -> None:
    box = name()
    product.ok("up", box, "--gpu", "RTX 4090", "--max-price", "0.60", "--no-wait")
    again = product.dumont("up", box, "--gpu", "RTX 4090", "--max-price", "0.60", "--no-wait")
    assert again.returncode == 5
    assert box in again.stderr
    product.ok("destroy", box, "--yes", "--no-wait")


def test_a_price_nobody_asks_is_a_visible_state(product: Product) -> None:
    box = name()
    product.ok("up", box, "--gpu", "RTX 4090", "--max-price", "0.01", "--no-wait")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        shown = product.json("show", box)
        if shown["phase"] == "stuck":
            break
        time.sleep(0.5)
    assert "cheapest is $" in shown["reason"]
    assert shown["next_try_at"] is not None
    product.ok("destroy", box, "--yes", "--no-wait")


def test_every_page_of_the_summary_answers(product: Product) -> None:
    urls = product.status()["urls"]
    assert len(urls) >= 4
    for title, url in urls.items():
        answer = httpx.get(url, follow_redirects=True, timeout=10, trust_env=False)
        assert answer.status_code == 200, f"{title} {url}: {answer.status_code}"
