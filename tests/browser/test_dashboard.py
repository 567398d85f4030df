"""The dashboard in Debian's Chromium, over the whole running demo stack.

What is done and seen there is in `web/e2e/dashboard.test.mjs`. `DUMONT_PICTURES=DIR` keeps pictures
of every screen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.product.conftest import DUMONT, Product

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"


@pytest.mark.timeout(600)
def test_the_dashboard_as_a_person_uses_it(product: Product) -> None:
    status = product.status()
    key = product.home / "browser_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    wrapper = product.home / "dumont-here"
    wrapper.write_text(f'#!/bin/sh\nexec "{DUMONT}" "$@" --state "{product.state}"\n')
    wrapper.chmod(0o755)
    env = {
        **product.env,
        "DUMONT_URL": status["urls"]["Dashboard"].rstrip("/"),
        "DUMONT_EMAIL": "owner@dumont.local",
        "DUMONT_PASSWORD": (product.state / "owner-password").read_text().strip(),
        "DUMONT_SSH_KEY": str(key),
        "DUMONT_PUBLIC_KEY": key.with_name("browser_key.pub").read_text().strip(),
        "DUMONT_CLI": str(wrapper),
        "CHROMIUM": browser(),
    }
    if "DUMONT_PICTURES" in os.environ:
        env["DUMONT_PICTURES"] = os.environ["DUMONT_PICTURES"]
    product.ok("keys", "ssh", "add", str(key) + ".pub")
    done = subprocess.run(
        [node(), "--test", "--test-reporter=spec", "e2e/dashboard.test.mjs"],
        cwd=WEB, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 15" in done.stdout, done.stdout


def node() -> str:
    """The Node.js that built the dashboard."""
    own = ROOT / ".venv-node/bin/node"
    found = str(own) if own.exists() else shutil.which("node")
    assert found, "no Node.js: scripts/setup.sh --test brings one"
    return found


def browser() -> str:
    """A Chromium."""
    named = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in named if name and (path := shutil.which(name))), None)
    assert found, "no Chromium: scripts/setup.sh --test brings one"
    return found
