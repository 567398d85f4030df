"""The production compose file as Docker Compose itself reads it. No container engine is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.binaries import binary

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
ENV_EXAMPLE = ROOT / "deploy" / "production.env.example"

REQUIRED = {
    "POSTGRES_PASSWORD": "postgres-superuser",
    "TEMPORAL_DB_PASSWORD": "temporal-role",
    "DUMONT_DB_PASSWORD": "dumont-role",
    "AWS_ACCESS_KEY_ID": "dumont-s3-key-id",
    "AWS_SECRET_ACCESS_KEY": "dumont-s3-secret",
    "DUMONT_API_URL": "https://dumont.example.com",
    "DUMONT_OWNER_EMAIL": "owner@example.com",
    "VAST_API_KEY": "vast-key",
}
"""What an administrator has to fill in, with values for tests."""

_INTERPOLATION = re.compile(r"\$\{([A-Z_0-9]+)(?::([-?])([^}]*))?\}")


def variables() -> dict[str, set[str]]:
    """Variables the file interpolates -> their forms: "?" required, "-" with a default, "" plain."""
    found: dict[str, set[str]] = {}
    for name, kind, _ in _INTERPOLATION.findall(FILE.read_text()):
        found.setdefault(name, set()).add(kind)
    return found


def default_of(name: str) -> str:
    """The default that the file gives an optional variable."""
    defaults = {
        d for n, kind, d in _INTERPOLATION.findall(FILE.read_text()) if (n, kind) == (name, "-")
    }
    (default,) = defaults
    return str(default)


def run_config(env: Mapping[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run `docker-compose config` with these variables alone."""
    return subprocess.run(
        [binary("docker-compose"), "--env-file", "/dev/null", "--profile", "*", "-f", FILE, "config", *options],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **env},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def load(env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The whole model: interpolated, merged, normalised."""
    result = run_config(REQUIRED if env is None else env, "--format", "json")
    assert result.returncode == 0, result.stderr
    model: dict[str, Any] = json.loads(result.stdout)
    return model


def built_from() -> set[str]:
    """The files and folders of the tree from which the image's Python part is built."""
    (stage,) = re.findall(r"^FROM \S+ AS python$(.*?)^FROM ", DOCKERFILE.read_text(), re.M | re.S)
    copies = re.findall(r"^COPY (.+) \S+$", stage, re.M)
    return {source for sources in copies for source in sources.split()}
