"""`VmProvider` for Google Compute."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dumont.domain.errors import AuthFailed, InstanceGone, ProviderUnavailable
from dumont.domain.instances import Instance
from dumont.ports import VmOrder
from dumont.providers.gateway import Gateway, Limit, Urgency
from dumont.providers.gcp.client import ComputeClient, Services, is_done, operation_failure
from dumont.providers.gcp.deletions import GcpDeletions
from dumont.providers.gcp.errors import PROVIDER, NameTaken
from dumont.providers.gcp.firewall import RULE, EndpointRule
from dumont.providers.gcp.mapping import (
    instance_from,
    instance_resource,
    moment,
    request_id,
    tail,
)
from dumont.providers.gcp.remains import GcpRemains

GCP_LIMITS: dict[str, Limit] = {
    # Google allows 20 requests a second and more; what it refuses teaches the gateway.
    "insert": Limit(interval_s=0.05),
    "get": Limit(interval_s=0.05),
    "list": Limit(interval_s=0.5),
    "start": Limit(interval_s=0.05),
    "stop": Limit(interval_s=0.05),
    "delete": Limit(interval_s=0.05, urgency=Urgency.DESTROY, max_wait_s=300),
    "operation": Limit(interval_s=0.05),
    "firewalls": Limit(interval_s=0.05),
    "zones": Limit(interval_s=0.5, urgency=Urgency.BACKGROUND),
}

OPERATION_TIMEOUT_S = 180.0
"""Longest wait for one operation; a stop may take 90 s and a preemption's notice 30 s more."""


class GcpProvider:
    """One Google project. Build one per process: it holds the rate-limit gateway.

    Args:
        credentials: The service account as its JSON file says.
        project: The project; the service account's own when unset.
        url: Another endpoint than Google's.
        anonymous: Send no credentials, for an endpoint that wants none.
        timeout_s: Longest wait for one HTTP call.
        operation_timeout_s: Longest wait for one operation.
    """

    def __init__(
        self,
        *,
        credentials: Mapping[str, Any] | None,
        project: str | None = None,
        url: str | None = None,
        anonymous: bool = False,
        timeout_s: float = 30.0,
        operation_timeout_s: float = OPERATION_TIMEOUT_S,
    ) -> None:
        named = project or (credentials or {}).get("project_id")
        if not isinstance(named, str) or not named:
            raise AuthFailed(
                "the Google service account names no project",
                provider=PROVIDER,
                field="GCP_PROJECT",
                hint="set GCP_PROJECT, or use the whole JSON file of the service account",
            )
        self.gateway = Gateway(provider=PROVIDER, account=named, limits=GCP_LIMITS)
        self._operation_timeout_s = operation_timeout_s
        self._client = ComputeClient(
            project=named,
            credentials=credentials,
            anonymous=anonymous,
            url=url,
            gateway=self.gateway,
            timeout_s=timeout_s,
        )

        self.deletions = GcpDeletions(self._client)
        self._endpoint_rule = EndpointRule(self._client, wait=self._wait_globally)
        self.remains = GcpRemains(self._client, wait=self._wait_for_deletion)

    @property
    def name(self) -> str:
        """`gcp`."""
        return PROVIDER

    @property
    def account(self) -> str:
        """The project's id."""
        return self._client.project

    def close(self) -> None:
        """Let the threads go."""
        self._client.close()

    async def ensure_firewall(self) -> None:
        """Let users in to the endpoints of standbys, by a firewall rule of the project.

        Looks once per process; an insert does it too.

        Raises:
            AuthFailed: The service account may not touch firewall rules; the hint says what to do.
        """
        await self._endpoint_rule.ensure()

    async def insert(self, order: VmOrder) -> Instance:
        """Create the VM and wait for it; one that exists already by this name is the answer."""
        await self.ensure_firewall()
        try:
            operation = await self._insert(order, repeatable=True)
            if is_done(operation) and operation_failure(operation, name=order.name):
                # The request id makes Google repeat the answer of an earlier try. A failed one left
                # nothing behind, and the name still keeps this one from happening twice.
                operation = await self._insert(order, repeatable=False)
            await self._wait(operation, "insert", zone=order.zone, name=order.name)
        except NameTaken:
            pass
        instance = await self.get(zone=order.zone, name=order.name)
        if instance is None:
            raise ProviderUnavailable(
                f"Google Compute has created {order.name} and does not know it", provider=PROVIDER
            )
        return instance

    async def get(self, *, zone: str, name: str) -> Instance | None:
        """The VM, or None when Google itself says that there is none."""
        try:
            vm = await self._client.call(
                "get",
                lambda s: s.instances.get(
                    request=s.types.GetInstanceRequest(
                        project=self.account, zone=zone, instance=name
                    ),
                    **s.options,
                ),
            )
        except InstanceGone:
            return None
        return instance_from(vm)

    async def list_instances(self, *, label_prefix: str) -> list[Instance]:
        """Every VM in all zones whose name starts so; a zone that does not answer fails the list."""

        def send(s: Services) -> list[Instance]:
            request = s.types.AggregatedListInstancesRequest(project=self.account, max_results=500)
            found = []
            for page in s.instances.aggregated_list(request=request, **s.options).pages:
                if page.unreachables:
                    raise ProviderUnavailable(
                        f"Google Compute could not list {', '.join(page.unreachables)}",
                        provider=PROVIDER,
                    )
                for scope, zone in page.items.items():
                    if zone.warning.code not in ("", "NO_RESULTS_ON_PAGE"):
                        raise ProviderUnavailable(
                            f"Google Compute could not list {scope}: {zone.warning.message}",
                            provider=PROVIDER,
                        )
                    found += [vm for vm in zone.instances if vm.name.startswith(label_prefix)]
            return [instance_from(vm) for vm in found]

        return await self._client.call("list", send)

    async def start(self, *, zone: str, name: str) -> None:
        """Start a terminated VM; a zone without capacity raises ProviderUnavailable."""
        await self._change("start", "StartInstanceRequest", zone=zone, name=name)

    async def stop(self, *, zone: str, name: str) -> None:
        """Stop a VM; its disk goes on billing."""
        await self._change("stop", "StopInstanceRequest", zone=zone, name=name)

    async def delete(self, *, zone: str, name: str) -> None:
        """End a VM with its disk; one that Google does not know is ended."""
        with contextlib.suppress(InstanceGone):
            await self._change("delete", "DeleteInstanceRequest", zone=zone, name=name)

    async def preemptions(self, *, zone: str, since: datetime) -> list[str]:
        """Names of VMs that Google took back in a zone since then, each once."""

        def send(s: Services) -> list[str]:
            request = s.types.ListZoneOperationsRequest(
                project=self.account,
                zone=zone,
                filter='operationType="compute.instances.preempted"',
            )
            names = {
                tail(operation.target_link): None
                for operation in s.operations.list(request=request, **s.options)
                if operation.operation_type == "compute.instances.preempted"
                and (at := moment(operation.insert_time)) is not None
                and at >= since
            }
            return list(names)

        return await self._client.call("list", send)

    async def zones(self) -> list[str]:
        """The zones of the project that are up."""

        def send(s: Services) -> list[str]:
            request = s.types.ListZonesRequest(project=self.account)
            zones = s.zones.list(request=request, **s.options)
            return [zone.name for zone in zones if zone.status == "UP"]

        return await self._client.call("zones", send)

    async def _insert(self, order: VmOrder, *, repeatable: bool) -> Any:
        key = request_id(project=self.account, zone=order.zone, name=order.name)
        return await self._client.call(
            "insert",
            lambda s: s.instances.insert_unary(
                request=s.types.InsertInstanceRequest(
                    project=self.account,
                    zone=order.zone,
                    request_id=key if repeatable else None,
                    instance_resource=instance_resource(order),
                ),
                **s.options,
            ),
        )

    async def _change(self, what: str, request: str, *, zone: str, name: str) -> None:
        operation = await self._client.call(
            what,
            lambda s: getattr(s.instances, f"{what}_unary")(
                request=getattr(s.types, request)(project=self.account, zone=zone, instance=name),
                **s.options,
            ),
        )
        await self._wait(operation, what, zone=zone, name=name)

    async def _wait(self, operation: Any, what: str, *, zone: str, name: str) -> None:
        await self._client.wait(
            operation, what=what, zone=zone, name=name, timeout_s=self._operation_timeout_s
        )

    async def _wait_for_deletion(
        self, operation: Any, zone: str | None, region: str | None, name: str
    ) -> None:
        await self._client.wait(
            operation,
            what="delete",
            zone=zone,
            region=region,
            name=name,
            timeout_s=self._operation_timeout_s,
        )

    async def _wait_globally(self, operation: Any, what: str) -> None:
        await self._client.wait(
            operation, what=what, zone=None, name=RULE, timeout_s=self._operation_timeout_s
        )
