"""Disks and reserved addresses of the project: what is left when no VM is.

Facts: the Compute v1 discovery document. A disk names the instances that have it in `users`; an
address that something uses is `IN_USE` and names it in `users`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dumont.domain.errors import ProviderUnavailable, RequestRefused
from dumont.domain.leftovers import CloudAddress, CloudDisk
from dumont.providers.gcp.client import ComputeClient, Services
from dumont.providers.gcp.errors import PROVIDER, ResourceGone
from dumont.providers.gcp.mapping import tail

WaitFor = Callable[[Any, str | None, str | None, str], Awaitable[None]]
"""Waits for the deletion of what is named last, in a zone or a region."""

_PAGE = 500


class GcpRemains:
    """Lists and deletes what VMs can leave behind. Implements `ports.CloudRemains`.

    Args:
        client: The project's client.
        wait: Waits for a deletion.
    """

    def __init__(self, client: ComputeClient, *, wait: WaitFor) -> None:
        self._client = client
        self._wait = wait

    async def list_disks(self, *, label_prefix: str) -> list[CloudDisk]:
        """Every disk in all zones whose name starts so; a zone that does not answer fails the list."""

        def send(s: Services) -> list[CloudDisk]:
            request = s.types.AggregatedListDisksRequest(
                project=self._client.project, max_results=_PAGE
            )
            rows = _complete(s.disks.aggregated_list(request=request, **s.options).pages, "disks")
            return [disk_from(row) for row in rows if row.name.startswith(label_prefix)]

        return await self._client.call("list", send)

    async def list_addresses(self, *, label_prefix: str) -> list[CloudAddress]:
        """Every reserved address in all regions whose name starts so; complete, or it fails."""

        def send(s: Services) -> list[CloudAddress]:
            request = s.types.AggregatedListAddressesRequest(
                project=self._client.project, max_results=_PAGE
            )
            pages = s.addresses.aggregated_list(request=request, **s.options).pages
            rows = _complete(pages, "addresses")
            return [
                address_from(row)
                for row in rows
                # Global ones have no region; nothing of ours is global.
                if row.name.startswith(label_prefix) and row.region
            ]

        return await self._client.call("list", send)

    async def delete_disk(self, *, zone: str, name: str, disk_id: str) -> None:
        """Delete a disk that no instance has. One that is gone, or another of its name, is success.

        Raises:
            RequestRefused: An instance has it.
        """

        def find(s: Services) -> CloudDisk:
            request = s.types.GetDiskRequest(project=self._client.project, zone=zone, disk=name)
            return disk_from(s.disks.get(request=request, **s.options))

        def send(s: Services) -> Any:
            request = s.types.DeleteDiskRequest(project=self._client.project, zone=zone, disk=name)
            return s.disks.delete_unary(request=request, **s.options)

        try:
            disk = await self._client.call("get", find)
            if disk.disk_id != disk_id:
                return
            if disk.users:
                raise _in_use("disk", name, ", ".join(disk.users))
            await self._wait(await self._client.call("delete", send), zone, None, name)
        except ResourceGone:
            return

    async def delete_address(self, *, region: str, name: str, address_id: str) -> None:
        """Release an address that nothing uses. One that is gone, or another of its name, is success.

        Raises:
            RequestRefused: Something uses it.
        """

        def find(s: Services) -> Any:
            request = s.types.GetAddressRequest(
                project=self._client.project, region=region, address=name
            )
            return s.addresses.get(request=request, **s.options)

        def send(s: Services) -> Any:
            request = s.types.DeleteAddressRequest(
                project=self._client.project, region=region, address=name
            )
            return s.addresses.delete_unary(request=request, **s.options)

        try:
            address = await self._client.call("get", find)
            if str(address.id) != address_id:
                return
            if address_from(address).in_use:
                users = ", ".join(tail(user) for user in address.users)
                raise _in_use("address", name, users or "something")
            await self._wait(await self._client.call("delete", send), None, region, name)
        except ResourceGone:
            return


def disk_from(row: Any) -> CloudDisk:
    """The disk that a Compute v1 `Disk` describes."""
    return CloudDisk(
        name=row.name,
        disk_id=str(row.id),
        zone=tail(row.zone),
        size_gb=float(row.size_gb),
        disk_type=tail(row.type_),
        labels=dict(row.labels),
        users=tuple(tail(user) for user in row.users),
        ready=row.status == "READY",
    )


def address_from(row: Any) -> CloudAddress:
    """The address that a Compute v1 `Address` describes. Only `RESERVED` says that nothing uses it."""
    return CloudAddress(
        name=row.name,
        address_id=str(row.id),
        region=tail(row.region),
        address=row.address,
        labels=dict(row.labels),
        in_use=row.status != "RESERVED" or bool(row.users),
    )


def _complete(pages: Any, member: str) -> list[Any]:
    found: list[Any] = []
    for page in pages:
        if page.unreachables:
            raise ProviderUnavailable(
                f"Google Compute could not list {member} of {', '.join(page.unreachables)}",
                provider=PROVIDER,
            )
        for scope, part in page.items.items():
            if part.warning.code not in ("", "NO_RESULTS_ON_PAGE"):
                raise ProviderUnavailable(
                    f"Google Compute could not list {member} of {scope}: {part.warning.message}",
                    provider=PROVIDER,
                )
            found += list(getattr(part, member))
    return found


def _in_use(what: str, name: str, users: str) -> RequestRefused:
    return RequestRefused(f"the {what} {name} is used by {users}", provider=PROVIDER)
