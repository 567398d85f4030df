"""A real API over real PostgreSQL and Temporal; the cloud behind the workers is in memory."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import insert
from temporalio.client import Client

from activities.accounts import AccountActivities
from activities.budgets import BudgetActivities
from activities.endings import EndingActivities
from activities.evidence import ProviderEvidence
from activities.fleet import FleetActivities, primaries
from activities.instances import InstanceActivities
from activities.listing import SharedListing
from activities.market import MarketActivities
from activities.readiness import ReadinessActivities
from activities.records import RecordActivities
from activities.sweep import SweepActivities
from api.app import create_app
from api.services import Services
from dumont.config import Settings
from dumont.db.budgets import PostgresBudgets, spent_of_ledger
from dumont.db.engine import Database
from dumont.db.machine_store import PostgresMachineStore
from dumont.db.secret_store import PostgresSecretStore
from dumont.db.tables import users
from dumont.domain.reconcile import OwnerStatus
from dumont.security.keys import load_or_create_keys
from dumont.security.ssh import new_machine_secrets
from dumont.security.vault import Vault
from dumont.temporal.client import connect
from dumont.temporal.codec import CodecKey
from dumont.temporal.search_attributes import register_search_attributes
from tests.support.fakes import FakeCloud, FakeShell
from tests.support.temporal import TemporalServer
from worker.compose_budgets import budgets_served
from worker.roles import ControlActivities, VastActivities, control_worker, vast_worker

PASSWORD = "correct horse battery staple"
EMAIL = "owner@example.com"
PUBLIC_KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
COOKIE_LOGIN = {"email": EMAIL, "password": PASSWORD}
NOWHERE = "127.0.0.1:1"
"""Where no Temporal listens."""


def order(**changes: Any) -> dict[str, Any]:
    """A good body of POST /machines."""
    requirement = {"gpu": "RTX 4090", "max_usd_per_hour": 0.6}
    return {"name": "my-box", "requirement": requirement, "ssh_keys": [PUBLIC_KEY]} | changes


@dataclass
class Running:
    """An API that serves, and a client of it that is not logged in."""

    app: FastAPI
    http: httpx.AsyncClient
    settings: Settings

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    async def login(self, *, email: str = EMAIL, password: str = PASSWORD) -> httpx.Response:
        answer = await self.http.post(
            "/api/v1/auth/login", json={"email": email, "password": password}
        )
        self.http.cookies.clear()
        return answer

    async def owner(self) -> Session:
        answer = await self.login()
        assert answer.status_code == 200, answer.text
        return Session(self, answer.json()["access_token"])

    async def somebody_else(self) -> Session:
        """Another user, without rights over the deployment."""
        email = f"{secrets.token_hex(4)}@example.com"
        async with self.services.database.transaction() as connection:
            await connection.execute(
                insert(users).values(
                    user_id=f"u{secrets.token_hex(4)}",
                    email=email,
                    password_hash=await self.services.passwords.hash(PASSWORD),
                    is_admin=False,
                    created_at=datetime.now(UTC),
                )
            )
        answer = await self.login(email=email)
        return Session(self, answer.json()["access_token"])


@dataclass
class Session:
    """Calls with one bearer credential."""

    api: Running
    token: str

    async def call(self, method: str, path: str, **how: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} | how.pop("headers", {})
        return await self.api.http.request(method, f"/api/v1{path}", headers=headers, **how)

    async def get(self, path: str, **how: Any) -> httpx.Response:
        return await self.call("GET", path, **how)

    async def post(self, path: str, body: Any = None, **how: Any) -> httpx.Response:
        return await self.call("POST", path, json=body, **how)

    async def delete(self, path: str, **how: Any) -> httpx.Response:
        return await self.call("DELETE", path, **how)

    async def until_phase(self, ref: str, phase: str) -> dict[str, Any]:
        """The machine once it is in a phase."""
        async with asyncio.timeout(60):
            while True:
                machine: dict[str, Any] = (await self.get(f"/machines/{ref}")).json()
                if machine.get("phase") == phase:
                    return machine
                await asyncio.sleep(0.1)

    async def api_key(self, *scopes: str, **more: Any) -> Session:
        made = await self.post("/api-keys", {"name": "test", "scopes": list(scopes)} | more)
        assert made.status_code == 201, made.text
        return Session(self.api, made.json()["secret"])


def settings_for(database_url: str, state: Path, **more: Any) -> Settings:
    """Settings of a test's API, whatever the environment says."""
    given = {
        "env": "test",
        "database_url": database_url,
        "temporal_address": NOWHERE,
        "temporal_ui_url": "http://127.0.0.1:8233",
        "state_dir": state,
        "owner_email": EMAIL,
        "owner_password": PASSWORD,
        "web_dir": state / "no-web",
        "s3_url": None,
        "vast_api_key": None,
        "gcp_credentials": None,
    }
    return Settings(_env_file=None, **(given | more))


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Running]:
    """The API on a port of its own, until the block ends."""
    app = create_app(settings)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # the test run keeps its own handlers
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(30):
            while not server.started:
                assert not task.done(), task
                await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield Running(app, http, settings)
    finally:
        server.should_exit = True
        await task


async def wait_for_owner(api: Running) -> None:
    """The first start makes the owner beside serving."""
    async with asyncio.timeout(30):
        await api.services.owner_known.wait()


@pytest.fixture
async def api(database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    """An API whose Temporal is not there."""
    async with serving(settings_for(database_url, tmp_path)) as running:
        await wait_for_owner(running)
        yield running


@pytest.fixture
async def owner(api: Running) -> Session:
    """Its owner, logged in."""
    return await api.owner()


@dataclass
class Whole:
    """The API with Temporal and workers behind it."""

    api: Running
    owner: Session
    cloud: FakeCloud
    shell: FakeShell
    temporal: Client
    workers: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)


@pytest.fixture
async def whole(
    database_url: str, tmp_path: Path, temporal_server: TemporalServer
) -> AsyncIterator[Whole]:
    """An API whose machines really live, in a namespace of their own on a shared server."""
    async with _whole(database_url, tmp_path, temporal_server) as made:
        yield made


@pytest.fixture
async def fragile(
    database_url: str, tmp_path: Path, own_temporal_server: TemporalServer
) -> AsyncIterator[Whole]:
    """The same over a Temporal that the test may hurt."""
    async with _whole(database_url, tmp_path, own_temporal_server) as made:
        yield made


@asynccontextmanager
async def _whole(url: str, state: Path, server: TemporalServer) -> AsyncIterator[Whole]:
    namespace = await _fresh_namespace(server)
    settings = settings_for(
        url,
        state,
        temporal_address=server.address,
        temporal_namespace=namespace,
        gone_confirm_s=0.1,
    )
    keys = load_or_create_keys(settings.keys_path)
    client = await connect(
        address=server.address,
        namespace=namespace,
        codec_keys=[CodecKey(key_id=key.key_id, key=key.key) for key in keys.codec],
    )
    await register_search_attributes(client)
    database = Database(url)
    cloud, shell = FakeCloud(), FakeShell()
    control, vast = _activities(cloud, shell, database, Vault(keys.vault))
    async with serving(settings) as running:
        await wait_for_owner(running)
        made = Whole(running, await running.owner(), cloud, shell, client)
        async with made.workers as workers:
            await workers.enter_async_context(control_worker(client, control))
            await workers.enter_async_context(vast_worker(client, vast))
            yield made
    await database.close()


def _activities(
    cloud: FakeCloud, shell: FakeShell, database: Database, vault: Vault
) -> tuple[ControlActivities, VastActivities]:
    store = PostgresMachineStore(database)
    listing = SharedListing(cloud, label_prefix="dmt-test-")

    async def ignore(*_: object) -> None:
        return None

    async def nobody(_: str) -> tuple[OwnerStatus, int | None]:
        return OwnerStatus.ABSENT, None

    async def none() -> set[str]:
        return set()

    return ControlActivities(
        records=RecordActivities(store=store),
        readiness=ReadinessActivities(shell=shell, store=store),
        money=_budgets(database, store),
    ), VastActivities(
        instances=InstanceActivities(
            provider=cloud,
            listing=listing,
            store=store,
            secrets=PostgresSecretStore(database, sealer=vault, make=new_machine_secrets),
            onstart=lambda **_: "true",
        ),
        endings=EndingActivities(provider=cloud, listing=listing),
        evidence=ProviderEvidence(provider=cloud, listing=listing),
        market=MarketActivities(provider=cloud, store=store),
        accounts=AccountActivities(provider=cloud),
        fleet=FleetActivities(
            provider=cloud,
            listing=listing,
            homes=primaries(store, provider=cloud.name),
            send_report=ignore,
        ),
        sweep=SweepActivities(
            provider=cloud,
            listing=listing,
            store=store,
            describe_owner=nobody,
            running_machines=none,
            start_machine=ignore,
        ),
    )


def _budgets(database: Database, store: PostgresMachineStore) -> list[Any]:
    async def idle(_: Any) -> set[str]:
        return set()

    return budgets_served(
        BudgetActivities(
            budgets=PostgresBudgets(database, spent=spent_of_ledger(database)),
            machines=store.owned_machines,
            idle=idle,
        )
    )


async def _fresh_namespace(server: TemporalServer) -> str:
    from google.protobuf.duration_pb2 import Duration
    from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest

    client = await Client.connect(server.address)
    name = f"test-{secrets.token_hex(4)}"
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(
            namespace=name, workflow_execution_retention_period=Duration(seconds=86400)
        )
    )
    async with asyncio.timeout(60):
        while True:
            try:
                await (await Client.connect(server.address, namespace=name)).count_workflows()
                return name
            except Exception:
                await asyncio.sleep(0.1)
