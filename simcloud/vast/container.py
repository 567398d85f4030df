"""The physical side of an instance: its container as a machine, its ports, its troubles at boot.

Decides nothing about contracts; fleet.py calls it and gets told by the instance's own fields.
"""

from __future__ import annotations

import asyncio
import hashlib
import shlex
import time
from collections.abc import Callable
from dataclasses import replace

from simcloud.context import CloudContext
from simcloud.faults import FaultRule
from simcloud.machines import GpuSpec, MachineSpec
from simcloud.vast.catalog import DRIVERS
from simcloud.vast.forwards import Forward, Forwards
from simcloud.vast.host import Host
from simcloud.vast.instance import Instance
from simcloud.vast.ordering import environment, ports

BOOT_EFFECTS = frozenset(
    {
        "never_leaves_loading",
        "oci_error",
        "exits",
        "no_ssh",
        "wrong_key",
        "unreachable",
        "ports_missing",
        "slow_boot",
        "small_disk",
    }
)
"""Fault effects that strike while an instance boots (operation `instances.boot`)."""

_IDENTITY_PORT = 70_000


class Containers:
    """Boots and ends the machines of instances."""

    def __init__(self, context: CloudContext, *, save: Callable[[Instance], None]) -> None:
        self._context = context
        self._machines = context.machines
        self._forwards = Forwards()
        self._save = save
        self._proxy = self._claim_proxy()
        self._ports_hidden: dict[int, float] = {}

    @property
    def proxy_address(self) -> str:
        """Where the ssh proxy listens: every instance's `ssh_host`."""
        return self._proxy

    def ports_hidden(self, instance: Instance) -> bool:
        """Whether the port map is still kept back by a fault."""
        return time.monotonic() < self._ports_hidden.get(instance.id, 0.0)

    async def boot(self, instance: Instance, host: Host) -> None:
        """Bring an instance from nothing to running, visibly, step by step.

        Returns when it runs; a fault may make it stay short of that for ever.
        """
        rule = self._context.faults.fire(
            provider="vast",
            operation="instances.boot",
            effects=BOOT_EFFECTS,
            instance=str(instance.id),
            label=instance.label,
        )
        effect = None if rule is None else rule.effect
        delay = self._context.boot_delay()
        await asyncio.sleep(min(0.5, delay * 0.2))
        self._tell(instance, "loading", f"Pulling from {instance.image}")
        if effect == "never_leaves_loading":
            await _for_ever()
        await asyncio.sleep(delay * 0.8 + _seconds(rule, "slow_boot", 30.0))
        if effect == "oci_error":
            self._tell(
                instance,
                "created",
                "Error response from daemon: failed to create task for container: failed to "
                "create shim task: OCI runtime create failed: runc create failed: unable to start "
                "container process: error during container init: nvidia-container-cli: "
                "initialization error: nvml error: driver/library version mismatch: unknown",
            )
            await _for_ever()
        await self._machines.kill(instance.name)
        spec = self._spec(instance, host, effect)
        if rule is not None and effect == "small_disk":
            spec = replace(spec, disk_mb=int(rule.number("mb", 64)))
        await self._machines.boot(spec)
        if effect == "exits":
            await self.end(instance)
            self._tell(instance, "exited", "Error: container exited with code 1")
            await _for_ever()
        if effect == "unreachable":
            # taken up by the kernel, never answered: what a black-holed port looks like from afar
            await _until_listening(instance.address, instance.host_ports.get("22/tcp", 0))
            await self._machines.freeze(instance.name)
        if effect == "ports_missing":
            self._ports_hidden[instance.id] = time.monotonic() + _seconds(rule, effect, 20.0)
        await self._forwards.open(instance.id, self._forward_list(instance))
        instance.running_since = self._context.clock.now()
        self._tell(instance, "running", f"success, running {instance.image}/{instance.runtype}")

    async def end(self, instance: Instance, *, grace_s: float = 0.0) -> None:
        """End an instance's container; without grace at once."""
        await self._forwards.close(instance.id)
        if grace_s > 0:
            await self._machines.shut_down(instance.name, grace_s)
        else:
            await self._machines.kill(instance.name)

    async def wipe(self, instance: Instance) -> None:
        """End it and delete its disk."""
        await self._forwards.close(instance.id)
        await self._machines.wipe(instance.name)
        self._ports_hidden.pop(instance.id, None)

    async def close(self) -> None:
        """Stop forwarding."""
        await self._forwards.close_all()

    def set_keys(self, instance: Instance) -> None:
        """Put the instance's present keys onto its machine."""
        self._machines.set_authorized_keys(instance.name, [each.key for each in instance.keys])

    def _tell(self, instance: Instance, status: str, message: str) -> None:
        instance.actual_status = status
        instance.status_msg = message
        self._save(instance)

    def _claim_proxy(self) -> str:
        settings = self._context.store.collection("settings")
        address = settings.get("vast_proxy")
        address = (
            self._context.addresses.claim("vast-proxy")
            if address is None
            else self._context.addresses.relocate(address)
        )
        settings.put("vast_proxy", address)
        return str(address)

    def _spec(self, instance: Instance, host: Host, effect: str | None) -> MachineSpec:
        slot = host.slots[instance.slot]
        driver, cuda = DRIVERS[host.driver]
        major, minor = divmod(host.model.compute_capability // 10, 10)
        gpu = GpuSpec(
            name=host.model.smi_name,
            memory_mb=host.model.memory_mb,
            driver_version=driver,
            cuda_version=str(cuda),
            power_limit_w=host.model.power_w,
            compute_capability=f"{major}.{minor}",
        )
        return MachineSpec(
            name=instance.name,
            hostname=hashlib.sha256(instance.name.encode()).hexdigest()[:12],
            address=instance.address,
            ssh_port=instance.host_ports.get("22/tcp", 0),
            authorized_keys=()
            if effect == "wrong_key"
            else tuple(each.key for each in instance.keys),
            env=self._environment(instance, slot.num_gpus),
            onstart=_start_script(instance),
            gpus=(gpu,) * slot.num_gpus,
            disk_gb=instance.disk_gb,
            ssh=instance.serves_ssh and effect != "no_ssh",
        )

    @staticmethod
    def _environment(instance: Instance, num_gpus: int) -> dict[str, str]:
        mapped = {
            f"VAST_{protocol.upper()}_PORT_{port}": str(outside)
            for key, outside in instance.host_ports.items()
            for port, _, protocol in [key.partition("/")]
        }
        for port, protocol in ports(instance.env):
            if port >= _IDENTITY_PORT:
                outside = instance.host_ports[identity_key(instance, port, protocol)]
                mapped[f"VAST_{protocol.upper()}_PORT_{port}"] = str(outside)
        return {
            "CONTAINER_ID": str(instance.id),
            "CONTAINER_API_KEY": instance.api_key,
            "VAST_CONTAINERLABEL": f"C.{instance.id}",
            "PUBLIC_IPADDR": instance.address,
            "GPU_COUNT": str(num_gpus),
            "DATA_DIRECTORY": "/workspace",
            "JUPYTER_TOKEN": instance.jupyter_token,
            **mapped,
            **environment(instance.env),
        }

    def _forward_list(self, instance: Instance) -> list[Forward]:
        here = instance.address
        forwards = [
            Forward(listen=(here, outside), target=(here, int(inside)))
            for key, outside in instance.host_ports.items()
            for inside, _, protocol in [key.partition("/")]
            if protocol == "tcp"
            and int(inside) != outside
            and not (inside == "22" and instance.serves_ssh)
        ]
        if instance.serves_ssh:
            # clients add one to the port of an instance that also serves jupyter
            port = instance.ssh_port + (1 if "jupyter" in instance.runtype else 0)
            target = (here, instance.host_ports["22/tcp"])
            forwards.append(Forward(listen=(self._proxy, port), target=target))
        return forwards


def identity_key(instance: Instance, port: int, protocol: str) -> str:
    """Return the `host_ports` key of the n-th identity-mapped port."""
    wishes = [each for each in ports(instance.env) if each[0] >= _IDENTITY_PORT]
    own = [
        key
        for key, outside in instance.host_ports.items()
        if key == f"{outside}/{key.partition('/')[2]}"
    ]
    return own[wishes.index((port, protocol))]


def choose_ports(
    env: list[tuple[str, str]], *, pick: Callable[[], int], ssh: bool, jupyter: bool
) -> dict[str, int]:
    """Return the port map of a new instance: every `-p` gets a random port outside.

    Args:
        env: The order's environment pairs.
        pick: Returns a fresh port number.
        ssh: Whether its sshd's port is mapped.
        jupyter: Whether jupyter's port is mapped as well.
    """
    mapping = {"22/tcp": pick()} if ssh else {}
    if jupyter:
        mapping["8080/tcp"] = pick()
    for port, protocol in ports(env):
        outside = pick()
        inside = outside if port >= _IDENTITY_PORT else port
        mapping.setdefault(f"{inside}/{protocol}", outside)
    return mapping


def _start_script(instance: Instance) -> str | None:
    if instance.onstart:
        return instance.onstart
    if not instance.image_args:
        return None
    # the image's entry point would run the arguments; images exist here by name only
    shell = ["bash"] if instance.image_args[0].startswith("-") else []
    return shlex.join([*shell, *instance.image_args])


def _seconds(rule: FaultRule | None, effect: str, default: float) -> float:
    return rule.number("seconds", default) if rule is not None and rule.effect == effect else 0.0


async def _until_listening(address: str, port: int) -> None:
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def _for_ever() -> None:
    await asyncio.Event().wait()
