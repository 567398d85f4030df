"""Both bodies of protected machines in memory: agents that can be cut off, and a cloud of VMs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dumont.domain.errors import AgentRefused, InstanceGone, NotReady
from dumont.domain.instances import Instance, InstanceState, Rental, SshAddress
from dumont.domain.receipts import Receipt
from dumont.ports import VmOrder


@dataclass
class FakeVms:
    """A `VmProvider` in memory."""

    name: str = "gcp"
    account: str = "test"
    vms: dict[str, Instance] = field(default_factory=dict)
    """By name."""
    orders: list[VmOrder] = field(default_factory=list)
    up: list[str] = field(default_factory=lambda: ["us-central1-a", "us-south1-b"])
    on_insert: Callable[[VmOrder], None] = lambda order: None
    _boots: int = 0

    async def insert(self, order: VmOrder) -> Instance:
        self.orders.append(order)
        self.on_insert(order)
        if order.name not in self.vms:
            self.vms[order.name] = self._vm(order.name, order.zone, f"vm{len(self.orders)}")
        return self.vms[order.name]

    async def get(self, *, zone: str, name: str) -> Instance | None:
        return self.vms.get(name)

    async def list_instances(self, *, label_prefix: str) -> list[Instance]:
        return [vm for name, vm in self.vms.items() if name.startswith(label_prefix)]

    async def start(self, *, zone: str, name: str) -> None:
        vm = self.vms.get(name)
        if vm is None:
            raise InstanceGone(f"no VM {name}", provider="gcp")
        self.vms[name] = self._vm(name, zone, vm.instance_id)

    async def stop(self, *, zone: str, name: str) -> None:
        self.vms[name] = self.vms[name].model_copy(
            update={"state": InstanceState.STOPPED, "ssh": None}
        )

    async def delete(self, *, zone: str, name: str) -> None:
        self.vms.pop(name, None)

    async def preemptions(self, *, zone: str, since: datetime) -> list[str]:
        return []

    async def zones(self) -> list[str]:
        return list(self.up)

    def _vm(self, name: str, zone: str, instance_id: str) -> Instance:
        self._boots += 1
        return Instance(
            provider="gcp",
            instance_id=instance_id,
            label=name,
            state=InstanceState.RUNNING,
            ssh=SshAddress(host=f"127.2.0.{self._boots}", port=22, user="dumont"),
            rental=Rental.SPOT,
            region=zone,
            created_at=datetime.now(UTC),
        )


@dataclass
class FakeAgents:
    """A `MachineAgent`: one guard and one primary per address, as `docs/protection.md` has them."""

    guards: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By host: the guard's report."""
    mirrors: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By host: the primary's configuration."""
    unreachable: set[str] = field(default_factory=set)
    said: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    idle_s: float = 1e6
    divergent: list[dict[str, Any]] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    changing: list[str] = field(default_factory=list)
    """Files that never stand still for a barrier."""
    on_call: Callable[[SshAddress, Sequence[str]], None] = lambda address, words: None

    async def call(
        self,
        address: SshAddress,
        *,
        machine_id: str,
        words: Sequence[str],
        stdin: bytes = b"",
        timeout_s: float = 30.0,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        if address.host in self.unreachable:
            raise NotReady(f"{address.host} does not answer")
        self.on_call(address, words)
        self.said.append((address.host, tuple(words)))
        match words[0]:
            case "apply":
                return self._apply(address.host, json.loads(stdin))
            case "status":
                if address.host in self.guards:
                    return {"guard": self.guards[address.host]}
                return {"protection": {"status": "protected", "lag_s": 0.1}}
            case "flush":
                return {
                    "epoch": 1, "sequence": 1, "replicated_at": datetime.now(UTC).isoformat(),
                    "files": 1, "bytes": 1, "hashed": 1, "seconds": 0.1, "changing": self.changing,
                }  # fmt: skip
            case "restore":
                return {"files": 3, "bytes": 300, "verified": 3, "seconds": 0.1}
            case "rtt":
                return {"rtt_ms": 0.2, "worst_ms": 0.4}
            case "divergence":
                return {
                    "files": self.divergent,
                    "total_files": len(self.divergent),
                    "total_bytes": 0,
                }
            case "sessions":
                return {"idle_s": self.idle_s}
            case _:
                return {"guard": self._guard(address.host, list(words))}

    async def fetch(
        self,
        address: SshAddress,
        *,
        machine_id: str,
        paths: Sequence[str],
        to: SshAddress,
        folder: str,
        timeout_s: float = 300.0,
    ) -> int:
        if address.host in self.unreachable:
            raise NotReady(f"{address.host} does not answer")
        self.fetched += paths
        return 10

    def cut(self, standby_host: str) -> None:
        """What a guard does by itself when the link to its primary is lost."""
        self.guards[standby_host] |= {
            "authority": "standby",
            "link": "down",
            "cause": "the link to the GPU was lost",
            "since": datetime.now(UTC).isoformat(),
        }

    def heal(self, standby_host: str) -> None:
        """What it does when the link returns and nothing was written."""
        self.guards[standby_host] |= {"authority": "primary", "link": "up", "false_alarms": 1}

    def _apply(self, host: str, config: dict[str, Any]) -> dict[str, Any]:
        if config["role"] == "primary":
            self.mirrors[host] = config
            return {"protection": {"status": "mirroring"}}
        known = self.guards.get(host)
        if known is None or known["authority"] == "primary":
            self.guards[host] = {
                "authority": "primary",
                "epoch": config["epoch"],
                "held": False,
                "link": "up",
            }
        elif config["epoch"] < known["epoch"]:
            raise AgentRefused("a newer epoch has begun", hint="fenced")
        return {"guard": self.guards[host]}

    def _guard(self, host: str, words: list[str]) -> dict[str, Any]:
        guard = self.guards[host]
        options = dict(zip(words[1::2], words[2::2], strict=False))
        match words[0]:
            case "redirect":
                guard |= {"authority": "standby", "cause": options["--cause"]}
            case "fence":
                epoch = int(options["--epoch"])
                if epoch < guard["epoch"]:
                    raise AgentRefused("a newer epoch has begun", hint="fenced")
                guard |= {"authority": "standby", "held": True, "epoch": epoch}
            case "hand-back":
                guard |= {
                    "authority": "primary",
                    "held": False,
                    "link": "up",
                    "epoch": int(options["--epoch"]),
                    "host": options["--host"],
                    "port": int(options["--port"]),
                }
            case "quiesce" | "unquiesce":
                guard |= {"quiesced": words[0] == "quiesce"}
            case other:
                raise AssertionError(f"no such command: {other}")
        return guard


@dataclass
class MemoryReceipts:
    """A `ReceiptStore` and `HeartbeatTimes` in memory."""

    filed: list[Receipt] = field(default_factory=list)

    async def record(self, receipt: Receipt) -> None:
        if all(
            (r.machine_id, r.number) != (receipt.machine_id, receipt.number) for r in self.filed
        ):
            self.filed.append(receipt)

    async def last_heard(self, *_: object, **__: object) -> datetime | None:
        return None

    async def last_report(self, *_: object, **__: object) -> None:
        return None
