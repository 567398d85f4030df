"""The product's own parts, and which stack is made of which parts.

The parts are configured as in production: by the environment variables of `dumont.config.Settings`.
None of them knows that it runs embedded, or that its cloud is one in a box.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx

from dumont.cli.embedded import servers
from dumont.cli.embedded.cloud import Cloud, CloudLine
from dumont.cli.embedded.environment import SERVER_FILE, as_variables, set_by_user
from dumont.cli.embedded.layout import Layout
from dumont.cli.embedded.supervisor import Launch, Part
from dumont.config import Settings
from dumont.domain.errors import DependencyUnavailable


def product_env(
    layout: Layout, *, settings: Settings | None, cloud: CloudLine | None
) -> dict[str, str]:
    """The product's variables for worker, API and migration.

    Args:
        layout: The stack.
        settings: What the user configured, passed on where the stack has no word of its own; None
            for a demo.
        cloud: The cloud in a box, once it runs.
    """
    key_id, secret = layout.s3_key
    own: dict[str, Any] = {
        "database_url": servers.database_url(layout),
        "temporal_address": f"127.0.0.1:{layout.ports['temporal']}",
        "temporal_namespace": layout.temporal_namespace,
        "temporal_ui_url": layout.temporal_ui_url,
        "s3_url": layout.s3_url,
        "s3_bucket": layout.s3_bucket,
        "s3_access_key_id": key_id,
        "s3_secret_access_key": secret,
        "state_dir": layout.state.path,
        "api_host": layout.api_host,
        "api_port": layout.ports["api"],
        "api_url": layout.api_url,
        "owner_email": layout.owner_email,
        "owner_password": layout.owner_password,
    }
    if settings is None:
        own["env"] = "demo"
    if cloud is not None:
        own |= {
            "vast_url": cloud.vast_url,
            "vast_api_key": cloud.vast_api_key,
            "gcp_url": cloud.gcp_url,
            "gcp_project": cloud.project,
            "gcp_credentials": cloud.gcp_credentials or "",
        }
    given = {} if settings is None else set_by_user(settings)
    return as_variables({**given, **own})


def stack(
    layout: Layout, *, settings: Settings | None = None, boot_seconds: str | None = None
) -> list[Part]:
    """All parts of a stack.

    Args:
        layout: Where things are.
        settings: The user's configuration, for real clouds; None for the cloud in a box.
        boot_seconds: How long instances of the cloud in a box take to load, `LO,HI`.
    """
    cloud = Cloud(layout, boot_seconds=boot_seconds) if settings is None else None
    needs: tuple[str, ...] = ("database-tables", "postgres", "temporal", "s3")
    if cloud is not None:
        needs += ("simcloud", "machine-power")

    def module(*arguments: str) -> Launch:
        line = cloud.line if cloud is not None else None
        ours = product_env(layout, settings=settings, cloud=line)
        if cloud is None or line is not None:
            layout.state.write(SERVER_FILE, json.dumps(ours, indent=1))
        return Launch(
            command=[sys.executable, "-m", *arguments],
            env={**layout.env, **ours, "PYTHONUNBUFFERED": "1"},
            cwd=layout.state.folder("run"),  # no `.env` there that could slip in
        )

    async def upgrade() -> Launch:
        return module("dumont.db", "upgrade")

    async def worker() -> Launch:
        port = str(layout.ports["worker_health"])
        return module("worker", "--health-port", port)

    async def api() -> Launch:
        return module("api")

    worker_health = f"http://127.0.0.1:{layout.ports['worker_health']}/health"
    api_health = f"{layout.api_local_url}/api/v1/health/ready"
    return [
        servers.postgres(layout),
        servers.temporal(layout),
        servers.object_store(layout),
        *(cloud.parts() if cloud is not None else []),
        Part(name="database-tables", launch=upgrade, needs=("postgres",)),
        Part(
            name="worker",
            launch=worker,
            check=lambda: answers(worker_health),
            needs=needs,
            grace_s=20,  # its own grace for running activities is 10 s
        ),
        Part(name="api", launch=api, check=lambda: answers(api_health), needs=needs, grace_s=10),
    ]


async def answers(url: str) -> None:
    """Return when the URL answers with success; raise what is wrong otherwise."""
    async with servers.http_client() as client:
        response = await client.get(url)
    if not response.is_success:
        raise DependencyUnavailable(f"{url} answered {response.status_code}: {_short(response)}")


def _short(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:200]
