"""Ports in memory, for workflow tests: a cloud that can be told to misbehave, and what it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from dumont.domain.errors import InstanceGone, NotReady, OfferGone, OutcomeUnknown, ProviderError
from dumont.domain.events import MachineEvent
from dumont.domain.instances import (
    Charge,
    Instance,
    InstanceOrder,
    InstanceState,
    ProviderAccount,
    Rental,
    SshAddress,
)
from dumont.domain.ladder import AgentHello
from dumont.domain.offers import GpuRequirement, Offer
from dumont.ports import Intent, LadderRecord, MachineRecord, MachineSecrets, OwnedMachine


def offer(number: int = 1, *, usd: float = 0.30, host: str | None = None) -> Offer:
    """An RTX 4090 on the spot market."""
    return Offer(
        provider="vast",
        offer_id=str(1000 + number),
        host_id=host or f"host{number}",
        gpu="RTX 4090",
        gpu_count=1,
        rental=Rental.SPOT,
        usd_per_hour=usd,
        gpu_usd_per_hour=usd,
        reliability=0.99,
    )


@dataclass
class FakeCloud:
    """A `GpuProvider` in memory. Hooks let a test decide what happens to each order."""

    offers: list[Offer] = field(default_factory=lambda: [offer(1), offer(2, usd=0.32)])
    name: str = "vast"
    account: str = "test"
    instances: dict[str, Instance] = field(default_factory=dict)
    orders: list[InstanceOrder] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)
    on_create: Callable[[InstanceOrder], None] = lambda order: None
    """Raise here to refuse before anything exists."""
    after_create: Callable[[InstanceOrder, str], None] = lambda order, instance_id: None
    """Raise here to lose the answer of a create that succeeded."""
    born: Callable[[InstanceOrder], InstanceState] = lambda order: InstanceState.RUNNING
    on_destroy: Callable[[str], None] = lambda instance_id: None
    on_list: Callable[[], None] = lambda: None
    _ids: count[int] = field(default_factory=lambda: count(1))

    async def search_offers(self, requirement: GpuRequirement, *, limit: int = 64) -> list[Offer]:
        return [o for o in self.offers if o.usd_per_hour <= requirement.max_usd_per_hour][:limit]

    async def browse_offers(
        self, *, gpu: str | None, gpu_count: int | None, rental: Rental, disk_gb: float, limit: int
    ) -> list[Offer]:
        return sorted(self.offers, key=lambda o: o.usd_per_hour)[:limit]

    async def create(self, order: InstanceOrder) -> str:
        self.orders.append(order)
        if order.offer_id not in {o.offer_id for o in self.offers}:
            raise OfferGone("no such offer", provider="vast")
        self.on_create(order)
        found = next(o for o in self.offers if o.offer_id == order.offer_id)
        instance_id = str(next(self._ids))
        self.instances[instance_id] = Instance(
            provider="vast",
            instance_id=instance_id,
            label=order.label,
            state=self.born(order),
            ssh=SshAddress(host=f"127.1.1.{instance_id}", port=22),
            rental=Rental.SPOT if order.bid_usd_per_hour else Rental.ON_DEMAND,
            usd_per_hour=found.usd_per_hour,
            gpu=found.gpu,
            gpu_count=1,
            host_id=found.host_id,
            region="Texas, US",
            created_at=datetime.now(UTC),
        )
        self.after_create(order, instance_id)
        return instance_id

    def set_state(self, instance_id: str, state: InstanceState) -> None:
        self.instances[instance_id] = self.instances[instance_id].model_copy(
            update={"state": state}
        )

    def alive(self) -> list[str]:
        return [i.label or "" for i in self.instances.values()]

    async def get(self, instance_id: str) -> Instance | None:
        return self.instances.get(instance_id)

    async def list_instances(self, *, label_prefix: str) -> list[Instance]:
        self.on_list()
        return [i for i in self.instances.values() if (i.label or "").startswith(label_prefix)]

    async def start(self, instance_id: str) -> None:
        raise NotImplementedError

    async def stop(self, instance_id: str) -> None:
        raise NotImplementedError

    async def destroy(self, instance_id: str) -> None:
        self.on_destroy(instance_id)
        if self.instances.pop(instance_id, None) is not None:
            self.destroyed.append(instance_id)

    async def change_bid(self, instance_id: str, *, usd_per_hour: float) -> None:
        raise NotImplementedError

    async def attach_key(self, instance_id: str, *, public_key: str) -> None:
        raise NotImplementedError

    async def logs(self, instance_id: str, *, tail: int = 200) -> str:
        if instance_id not in self.instances:
            raise InstanceGone("no such instance", provider="vast")
        return "hello\n"

    async def account_status(self) -> ProviderAccount:
        return ProviderAccount(account_id="1", credit_usd=10)

    async def charges(self, *, since: datetime, until: datetime) -> list[Charge]:
        return []


def lose_answer(order: InstanceOrder, instance_id: str) -> None:
    """For `after_create`: it exists, and we never hear of it."""
    raise OutcomeUnknown("no answer", provider="vast")


@dataclass
class FakeShell:
    """A `MachineShell` that reaches everything at once, unless told otherwise."""

    on_ssh: Callable[[SshAddress], None] = lambda address: None

    async def probe_tcp(self, address: SshAddress) -> None:
        await asyncio.sleep(0)

    async def probe_ssh(self, address: SshAddress, *, machine_id: str) -> None:
        self.on_ssh(address)

    async def hello(self, address: SshAddress, *, machine_id: str) -> AgentHello:
        return AgentHello(
            agent_version="1",
            protocol=1,
            hostname="box",
            gpus=("NVIDIA GeForce RTX 4090",),
            workspace_writable=True,
        )


def refuse_ssh(address: SshAddress) -> None:
    """For `on_ssh`: never ready."""
    raise NotReady("connection refused")


@dataclass
class MemoryStore:
    """A `MachineStore` and `SecretStore` in memory."""

    records: dict[str, MachineRecord] = field(default_factory=dict)
    events: dict[str, MachineEvent] = field(default_factory=dict)
    rungs: list[LadderRecord] = field(default_factory=list)
    intents: dict[str, Intent] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    bad: list[tuple[str, str]] = field(default_factory=list)
    sightings: dict[str, datetime] = field(default_factory=dict)
    on_write: Callable[[], None] = lambda: None

    async def record(self, record: MachineRecord) -> None:
        self.on_write()
        known = self.records.get(record.spec.machine_id)
        if known is None or known.state.version <= record.state.version:
            self.records[record.spec.machine_id] = record
        await self.record_events(record.events)

    async def record_events(self, events: Sequence[MachineEvent]) -> None:
        self.on_write()
        for event in events:
            self.events.setdefault(event.key, event)

    async def record_rung(self, rung: LadderRecord) -> None:
        self.rungs.append(rung)

    async def record_intent(self, intent: Intent) -> None:
        self.on_write()
        self.intents[intent.label] = intent

    async def close_intent(self, label: str, *, outcome: str) -> None:
        self.outcomes[label] = outcome

    async def record_bad_host(self, *, provider: str, host_id: str, reason: str) -> None:
        self.bad.append((provider, host_id))

    async def bad_hosts(self, *, provider: str, since: datetime) -> list[str]:
        return [host for name, host in self.bad if name == provider]

    async def owned_machines(self, machine_ids: Sequence[str]) -> list[OwnedMachine]:
        return [self._owned(self.records[m]) for m in machine_ids if m in self.records]

    async def live_machines(self) -> list[OwnedMachine]:
        return [self._owned(r) for r in self.records.values() if not r.state.phase.final]

    async def record_sightings(
        self, *, provider: str, keys: Sequence[str], at: datetime
    ) -> dict[str, datetime]:
        self.sightings = {key: self.sightings.get(key, at) for key in keys}
        return dict(self.sightings)

    async def ensure_machine_secrets(self, machine_id: str) -> MachineSecrets:
        return MachineSecrets(
            host_key_private="h", host_key_public="H", access_key_private="a", access_key_public="A"
        )

    async def forget_machine_secrets(self, machine_id: str) -> None:
        return None

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events.values()]

    @staticmethod
    def _owned(record: MachineRecord) -> OwnedMachine:
        return OwnedMachine(spec=record.spec, state=record.state, updated_at=record.at)


__all__ = [
    "FakeCloud",
    "FakeShell",
    "MemoryStore",
    "ProviderError",
    "lose_answer",
    "offer",
    "refuse_ssh",
]
