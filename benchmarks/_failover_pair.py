"""Both bodies of one machine under the real agents: the product's data plane without its control plane.

What the control plane does between two failures (fence, hand back, configure) is done here with the
same commands, so that a hundred failures take minutes.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

from benchmarks._failover_cloud import Body, Cloud, key_pair
from benchmarks._servers import wait_until
from dumont.domain.agent_config import primary_config, standby_config
from dumont.domain.instances import SshAddress
from dumont.domain.protection import ENDPOINT_PORT, ActiveStandby, ProtectionPolicy

_MACHINE = "mbench"


class FalseAlarm(Exception):
    """The address went to the standby although nothing had been broken."""


class Pair:
    """A primary that is mirrored to a standby behind one address.

    Args:
        cloud: Where both are rented.
        rtt_ms: Round trip that the endpoint's patience is chosen for, as the product does it.
    """

    def __init__(self, *, cloud: Cloud, rtt_ms: float) -> None:
        self.cloud = cloud
        self._rtt_ms = rtt_ms
        self.standby: Body = cloud.rent_standby()
        self.primary: Body = cloud.rent_primary()
        self.primary_hostname = self.primary.run("hostname").strip()
        self._epoch = 1
        self._public = self._sync_key()
        self._configure_standby()

    @property
    def endpoint(self) -> tuple[str, int]:
        """The machine's stable address."""
        return self.standby.host, ENDPOINT_PORT

    def login(self, command: str) -> list[str]:
        """The command line of a user's login through the stable address."""
        host, port = self.endpoint
        return ["ssh", *self.cloud.client, "-p", str(port), f"root@{host}", command]

    def guard(self) -> dict[str, Any]:
        """What the guard says."""
        found = self.standby.status().get("guard")
        return found if isinstance(found, dict) else {}

    def protect(self, *, streams: int = 10, seconds: float = 120) -> None:
        """Have the primary mirror, and wait until everything is on the standby.

        Raises:
            FalseAlarm: The standby took the authority meanwhile.
            TimeoutError, RuntimeError: It does not come to that.
        """
        config = primary_config(
            **self._common(), instance_id=str(self.cloud.instance), standby=self._active(),
            host_key=self.cloud.host_key, private_key=self._key.read_text(),
            policy=ProtectionPolicy(), paused=False, stop_call=None,
        )  # fmt: skip
        config["mirror"]["streams"] = streams
        self.primary.agent("apply", given=json.dumps(config))
        self.wait_protected(seconds=seconds)

    def wait_protected(self, *, seconds: float = 120) -> None:
        """Wait until the agent calls the workspace protected, under this epoch."""

        def protected() -> bool:
            self.check()
            status = self.primary.status()
            return (
                status.get("epoch") == self._epoch
                and status.get("protection", {}).get("status") == "protected"
            )

        try:
            wait_until(protected, what="a protected workspace", seconds=seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {self.primary.status().get('protection')}") from None

    def check(self) -> None:
        """Raises FalseAlarm when the standby has the authority."""
        guard = self.guard()
        if guard.get("authority") == "standby" and guard.get("epoch") == self._epoch:
            raise FalseAlarm(str(guard.get("cause")))

    def renew(self, *, empty: bool = False) -> None:
        """A new epoch with the authority at the primary; `empty`: forget both workspaces.

        Raises:
            TimeoutError, RuntimeError: One of both does not do its part.
        """
        wait_until(self.primary.answers, what="the primary's sshd", seconds=60)
        self._epoch += 1
        self._public = self._sync_key()
        key = json.dumps({"sync_public_key": self._public})
        self.standby.agent(f"fence --epoch {self._epoch}", given=key)
        if empty:
            for body in (self.primary, self.standby):
                clear(body)
        address = f"--host {self.primary.host} --port {self.primary.port}"
        self.standby.agent(f"hand-back --epoch {self._epoch} {address}")
        self._configure_standby()

    def wait_for_endpoint(self) -> None:
        """Wait until the address leads to the primary."""

        def leads_there() -> bool:
            self.check()
            guard = self.guard()
            return guard.get("authority") == "primary" and guard.get("link") == "up"

        wait_until(leads_there, what="the address at the primary", seconds=30)

    def _configure_standby(self) -> None:
        config = standby_config(
            **self._common(), standby=self._active(), sync_public_key=self._public,
            primary=SshAddress(host=self.primary.host, port=self.primary.port),
        )  # fmt: skip
        self.standby.agent("apply", given=json.dumps(config))

    def _common(self) -> dict[str, Any]:
        return {
            "machine_id": _MACHINE,
            "name": "bench",
            "generation": 1,
            "epoch": self._epoch,
            "beat": None,
        }

    def _active(self) -> ActiveStandby:
        host, port = self.endpoint
        return ActiveStandby(
            provider="gcp", instance_id="1", label="bench", zone="bench", number=1,
            ssh=SshAddress(host=host, port=22), endpoint=SshAddress(host=host, port=port),
            rtt_ms=self._rtt_ms,
        )  # fmt: skip

    def _sync_key(self) -> str:
        self._key = self.cloud.folder / f"sync-{self._epoch}"
        return key_pair(self._key)


def clear(body: Body) -> None:
    """Delete everything in a body's workspace but the product's own folder."""
    for entry in body.workspace.iterdir():
        if entry.name == ".dumont":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
