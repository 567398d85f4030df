"""Worker processes for benchmarks: `python -m benchmarks._worker control|provider|floor`.

`control` is the product's own control worker: its workflows, sandbox, codec and record activities on
a real database; only the SSH probes answer at once. `provider` stands in for a provider's worker: the
same activity names on the same queue, answered at once from memory, with the same writes to the
database. What is measured is then the control plane alone, not a cloud. `floor` runs a workflow that
does nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from activities.accounts import AccountStatus
from activities.budgets import BudgetActivities
from activities.endings import Ended, EndTarget, Look
from activities.instances import EnsureInstance, Rented, WaitUntilRunning
from activities.market import RankOffers
from activities.readiness import ReadinessActivities
from activities.records import RecordActivities
from benchmarks._floor import Floor
from benchmarks._machines import HOPELESS_USD
from dumont.config import Settings
from dumont.db.budgets import PostgresBudgets, spent_of_ledger
from dumont.db.engine import Database
from dumont.db.machine_store import PostgresMachineStore
from dumont.domain.errors import NoCapacity
from dumont.domain.instances import Instance, InstanceState, ProviderAccount, Rental, SshAddress
from dumont.domain.ladder import AgentHello, Rung
from dumont.domain.offers import Choice, Offer
from dumont.ports import LadderRecord
from dumont.security.keys import load_or_create_keys
from dumont.temporal.client import connect
from dumont.temporal.codec import CodecKey
from dumont.temporal.failures import ErrorInterceptor
from dumont.temporal.queues import PROVIDER_VAST
from dumont.temporal.search_attributes import register_search_attributes
from worker.compose_budgets import budgets_served
from worker.roles import ControlActivities, control_worker, sandbox

FLOOR_QUEUE: Final = "bench-floor"


class OpenDoor:
    """A `MachineShell` to which every machine is ready at once."""

    async def probe_tcp(self, address: SshAddress) -> None:
        """Connected."""

    async def probe_ssh(self, address: SshAddress, *, machine_id: str) -> None:
        """Logged in."""

    async def hello(self, address: SshAddress, *, machine_id: str) -> AgentHello:
        """A machine with one GPU."""
        return AgentHello(
            agent_version="0", protocol=1, hostname="bench", gpus=("GPU",), workspace_writable=True
        )


class InstantProvider:
    """The activities of a provider's worker that a machine's start needs.

    Args:
        store: Where the rungs are noted, as the real ones do.
        diary: A file that gets one line for each time a machine asks for offers: its workflow id and
            the time. None keeps none.
    """

    def __init__(self, *, store: PostgresMachineStore, diary: Path | None) -> None:
        self._store = store
        self._diary = diary.open("a", buffering=1) if diary is not None else None

    @activity.defn
    async def account_status(self) -> list[AccountStatus]:
        """Enough for everything."""
        account = ProviderAccount(account_id="bench", credit_usd=1e6)
        return [AccountStatus(provider="vast", account=account)]

    @activity.defn
    async def rank_offers(self, ask: RankOffers) -> list[Choice]:
        """One offer at half the price that the machine would pay; none for hopeless ones."""
        need = ask.requirement
        if self._diary is not None:
            print(activity.info().workflow_id, time.time(), file=self._diary)
        if need.max_usd_per_hour <= HOPELESS_USD:
            raise NoCapacity("nothing is that cheap")
        usd = need.max_usd_per_hour / 2
        offer = Offer(
            provider="vast", offer_id="1", host_id="1", gpu=need.gpu, gpu_count=need.gpu_count,
            rental=Rental.ON_DEMAND, usd_per_hour=usd, gpu_usd_per_hour=usd,
        )  # fmt: skip
        return [Choice(offer=offer, bid_usd_per_hour=None)]

    @activity.defn
    async def ensure_instance(self, ask: EnsureInstance) -> Rented:
        """Rented."""
        await self._note(ask, ask.spec.machine_id, Rung.RENTED)
        return Rented(instance_id=ask.label, found=False)

    @activity.defn
    async def wait_until_running(self, ask: WaitUntilRunning) -> Instance:
        """Runs, and its port is mapped."""
        await self._note(ask, ask.machine_id, Rung.RUNNING)
        await self._note(ask, ask.machine_id, Rung.PORT_MAPPED)
        return Instance(
            provider="vast", instance_id=ask.instance_id, label=ask.label,
            state=InstanceState.RUNNING, ssh=SshAddress(host="127.0.0.1", port=22),
            rental=Rental.ON_DEMAND, usd_per_hour=0.3, gpu="RTX 4090", gpu_count=1, host_id="1",
        )  # fmt: skip

    @activity.defn
    async def destroy_instances(self, target: EndTarget) -> Ended:
        """Ended."""
        return Ended(instance_ids=target.known_ids)

    @activity.defn
    async def look_for_instances(self, target: EndTarget) -> Look:
        """Gone."""
        return Look(present=())

    async def _note(
        self, ask: EnsureInstance | WaitUntilRunning, machine_id: str, rung: Rung
    ) -> None:
        await self._store.record_rung(
            LadderRecord(
                machine_id=machine_id,
                generation=ask.generation,
                attempt=ask.attempt,
                rung=rung,
                at=datetime.now(UTC),
            )
        )


async def client_of(settings: Settings) -> Client:
    """Temporal, with the deployment's own codec keys."""
    keys = load_or_create_keys(settings.keys_path)
    return await connect(
        address=settings.temporal_address,
        namespace=settings.temporal_namespace,
        codec_keys=[CodecKey(key_id=k.key_id, key=k.key) for k in keys.codec],
    )


def _budgets(database: Database, store: PostgresMachineStore) -> list[Any]:
    """The real ones: their one query is part of a machine's start."""

    async def idle(_: object) -> set[str]:
        return set()

    return budgets_served(
        BudgetActivities(
            budgets=PostgresBudgets(database, spent=spent_of_ledger(database)),
            machines=store.owned_machines,
            idle=idle,
        )
    )


async def _run(role: str, diary: Path | None) -> None:
    settings = Settings(_env_file=None)
    client = await client_of(settings)
    database = Database(settings.database_url.get_secret_value())
    store = PostgresMachineStore(database)
    worker: Worker
    if role == "control":
        await register_search_attributes(client)
        worker = control_worker(
            client,
            ControlActivities(
                records=RecordActivities(store=store),
                readiness=ReadinessActivities(shell=OpenDoor(), store=store),
                money=_budgets(database, store),
            ),
        )
    elif role == "floor":
        worker = Worker(
            client, task_queue=FLOOR_QUEUE, workflows=[Floor], workflow_runner=sandbox()
        )
    else:
        instant = InstantProvider(store=store, diary=diary)
        served: list[Any] = [
            instant.account_status, instant.rank_offers, instant.ensure_instance, instant.wait_until_running,
            instant.destroy_instances, instant.look_for_instances,
        ]  # fmt: skip
        worker = Worker(
            client,
            task_queue=PROVIDER_VAST,
            activities=served,
            interceptors=[ErrorInterceptor()],
            max_concurrent_activities=500,
        )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with worker:
        print("polling", time.time(), flush=True)
        await stop.wait()


def main() -> None:
    """Serve until SIGTERM."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("role", choices=["control", "provider", "floor"])
    arguments.add_argument("--diary", type=Path)
    given = arguments.parse_args()
    asyncio.run(_run(given.role, given.diary))
    sys.stdout.flush()
    os._exit(0)  # temporalio may abort at interpreter exit


if __name__ == "__main__":
    main()
