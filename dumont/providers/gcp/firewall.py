"""The firewall rule that lets users reach their machines through standbys.

Google's default network lets SSH's port in and nothing else; the endpoint listens on another one.
The rule holds for VMs with our tag alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from dumont.domain.errors import AuthFailed, RequestRefused
from dumont.providers.gcp.client import ComputeClient, Services
from dumont.providers.gcp.errors import PROVIDER, NameTaken
from dumont.providers.gcp.mapping import STANDBY_TAG

RULE = "dumont-endpoint"
ENDPOINT_PORT = 2222

_HINT = (
    "give the service account roles/compute.securityAdmin, or make the rule yourself: gcloud "
    f"compute firewall-rules create {RULE} --allow tcp:{ENDPOINT_PORT} --target-tags {STANDBY_TAG}"
)

WaitFor = Callable[[Any, str], Awaitable[None]]
"""Waits for a global operation, named by what it does."""


class EndpointRule:
    """Sees to the rule once per process.

    Args:
        client: The project's client.
        wait: Waits for a global operation.
    """

    def __init__(self, client: ComputeClient, *, wait: WaitFor) -> None:
        self._client = client
        self._wait = wait
        self._lock = asyncio.Lock()
        self._there = False

    async def ensure(self) -> None:
        """Make the rule, or mend it. Whom it lets in is the project's choice once it exists.

        Raises:
            AuthFailed: The service account may not; the hint says how to do without that.
            RequestRefused: Somebody has switched the rule off.
        """
        async with self._lock:
            if self._there:
                return
            try:
                await self._ensure()
            except AuthFailed as error:
                raise AuthFailed(
                    f"the firewall rule {RULE} cannot be seen to: {error.message}",
                    provider=PROVIDER,
                    hint=_HINT,
                ) from error
            self._there = True

    async def _ensure(self) -> None:
        rule = await self._find()
        if rule is None:
            try:
                await self._wait(await self._insert(), "insert of the firewall rule")
                return
            except NameTaken:
                rule = await self._find()
        if rule is None or lets_in(rule):
            return
        if rule.disabled or rule.direction != "INGRESS":
            raise RequestRefused(
                f"the firewall rule {RULE} of the project is switched off or for egress",
                provider=PROVIDER,
                hint="enable it, or delete it: it is then made anew",
            )
        await self._wait(await self._patch(), "patch of the firewall rule")

    async def _find(self) -> Any | None:
        # A list says "none" without an error; a 404 may also come from something in between.
        def send(s: Services) -> Any | None:
            request = s.types.ListFirewallsRequest(
                project=self._client.project, filter=f'name="{RULE}"'
            )
            found = s.firewalls.list(request=request, **s.options)
            return next((rule for rule in found if rule.name == RULE), None)

        return await self._client.call("firewalls", send)

    async def _insert(self) -> Any:
        resource = {
            "name": RULE,
            "description": "SSH to machines of Dumont Cloud through their standbys",
            "network": "global/networks/default",
            "direction": "INGRESS",
            "source_ranges": ["0.0.0.0/0"],
            **_what_it_lets_in(),
        }
        return await self._client.call(
            "firewalls",
            lambda s: s.firewalls.insert_unary(
                request=s.types.InsertFirewallRequest(
                    project=self._client.project, firewall_resource=resource
                ),
                **s.options,
            ),
        )

    async def _patch(self) -> Any:
        return await self._client.call(
            "firewalls",
            lambda s: s.firewalls.patch_unary(
                request=s.types.PatchFirewallRequest(
                    project=self._client.project,
                    firewall=RULE,
                    firewall_resource=_what_it_lets_in(),
                ),
                **s.options,
            ),
        )


def lets_in(rule: Any) -> bool:
    """Whether a rule opens the endpoint's port of VMs with our tag, to whomever."""
    tags = list(rule.target_tags)
    return (
        rule.direction == "INGRESS"
        and not rule.disabled
        and (not tags or STANDBY_TAG in tags)
        and not list(rule.target_service_accounts)
        and any(_covers(allowed) for allowed in rule.allowed)
    )


def _covers(allowed: Any) -> bool:
    if allowed.I_p_protocol not in ("tcp", "6", "all"):
        return False
    ports = list(allowed.ports)
    return not ports or any(
        int(low) <= ENDPOINT_PORT <= int(high or low)
        for low, _, high in (text.partition("-") for text in ports)
    )


def _what_it_lets_in() -> dict[str, Any]:
    return {
        "allowed": [{"I_p_protocol": "tcp", "ports": [str(ENDPOINT_PORT)]}],
        "target_tags": [STANDBY_TAG],
    }
