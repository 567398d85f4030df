"""Reserved external addresses: kept, billed and shown. Instances here have ephemeral ones alone.

What uses one (at Google: an instance, a forwarding rule, a router) is told by the control API.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from simcloud.gcp import bodies, checks, errors, prices, wire
from simcloud.gcp.ledger import Ledger
from simcloud.gcp.quotas import Quotas
from simcloud.gcp.records import Address
from simcloud.machines.addresses import AddressPool
from simcloud.store import Store


class InsertAddress(bodies.Body):
    """A new address."""

    name: str = ""
    description: str | None = None
    address: str | None = None
    address_type: str | None = Field(default=None, pattern="^(EXTERNAL|INTERNAL)$")
    network_tier: str | None = Field(default=None, pattern="^(PREMIUM|STANDARD)$")
    labels: dict[str, str] | None = None


class Addresses:
    """The reserved addresses by region and name."""

    def __init__(
        self, *, store: Store, pool: AddressPool, ledger: Ledger, quotas: Quotas, project: str
    ) -> None:
        self._documents = store.collection("gcp_addresses")
        self._pool = pool
        self._ledger = ledger
        self._quotas = quotas
        self._project = project
        self._addresses = {
            key: Address.model_validate(document) for key, document in self._documents.items()
        }
        for address in self._addresses.values():
            address.address = pool.relocate(address.address)
            self._keep(address)

    def list(self, *, region: str | None = None) -> list[Address]:
        """Return the addresses of a region, or all, by name."""
        found = [a for a in self._addresses.values() if region is None or a.region == region]
        return sorted(found, key=lambda address: address.name)

    def get(self, *, region: str, name: str) -> Address:
        """Return one address.

        Raises:
            errors.GoogleError: 404.
        """
        found = self._addresses.get(f"{region}/{name}")
        if found is None:
            raise errors.not_found(self.path(region=region, name=name))
        return found

    def path(self, *, region: str, name: str) -> str:
        """Return the path of an address from `projects/` on."""
        return f"projects/{self._project}/regions/{region}/addresses/{name}"

    def insert(self, wanted: InsertAddress, *, region: str, now: float) -> Address:
        """Reserve an address, and begin to bill it.

        Raises:
            errors.GoogleError: 400 `invalid`, 403 `quotaExceeded`, 409.
        """
        checks.check_name(wanted.name)
        if f"{region}/{wanted.name}" in self._addresses:
            raise errors.already_exists(self.path(region=region, name=wanted.name))
        if wanted.address_type == "INTERNAL":
            raise errors.invalid(
                "resource.addressType", "INTERNAL", "Only external addresses can be had here."
            )
        if wanted.address is not None:
            raise errors.invalid(
                "resource.address", wanted.address, "No address of one's choice can be had here."
            )
        labels = checks.check_labels(wanted.labels)
        self._quotas.check_address(region=region)
        key = wire.numeric_id()
        made = Address(
            id=key,
            name=wanted.name,
            region=region,
            address=self._pool.claim(f"gcp/address/{key}"),
            created=now,
            description=wanted.description,
            network_tier=wanted.network_tier or "PREMIUM",
            labels=labels,
        )
        self._keep(made)
        self._bill(made)
        return made

    def delete(self, *, region: str, name: str) -> Address:
        """Release an address, and return what it was.

        Raises:
            errors.GoogleError: 404, 400 `resourceInUseByAnotherResource`.
        """
        address = self.get(region=region, name=name)
        if address.user is not None:
            raise errors.GoogleError(
                code=400,
                reason="resourceInUseByAnotherResource",
                message=(
                    f"The address resource '{self.path(region=region, name=name)}' is already being "
                    f"used by '{address.user}'"
                ),
            )
        self._addresses.pop(address.key)
        self._documents.delete(address.key)
        self._pool.release(address.address)
        self._ledger.close(resource_id=address.id)
        return address

    def label(self, *, region: str, name: str, body: bodies.Labels) -> Address:
        """Replace the labels of an address.

        Raises:
            errors.GoogleError: 404, 400 `invalid`, 412: the fingerprint is not the current one.
        """
        address = self.get(region=region, name=name)
        if body.label_fingerprint != wire.fingerprint(address.labels):
            raise errors.condition_not_met(
                "Labels fingerprint either invalid or resource labels have changed"
            )
        address.labels = checks.check_labels(body.labels)
        self._keep(address)
        return address

    def use(self, *, region: str, name: str, user: str | None) -> Address:
        """Have something use an address, or nothing; what that costs changes with it.

        Raises:
            errors.GoogleError: 404.
        """
        address = self.get(region=region, name=name)
        address.user = None if user is None else f"projects/{self._project}/{user}"
        self._keep(address)
        self._ledger.close(resource_id=address.id)
        self._bill(address)
        return address

    def render(self, address: Address) -> dict[str, Any]:
        """Return a `compute#address`."""
        body: dict[str, Any] = {
            "kind": "compute#address",
            "id": address.id,
            "creationTimestamp": wire.timestamp(address.created),
            "name": address.name,
            "description": address.description or "",
            "address": address.address,
            "status": "RESERVED" if address.user is None else "IN_USE",
            "region": wire.project_link(self._project, "regions", address.region),
            "selfLink": wire.link(self.path(region=address.region, name=address.name)),
            "networkTier": address.network_tier,
            "addressType": "EXTERNAL",
            "labelFingerprint": wire.fingerprint(address.labels),
        }
        if address.labels:
            body["labels"] = address.labels
        if address.user is not None:
            body["users"] = [wire.link(address.user)]
        return body

    def _keep(self, address: Address) -> None:
        self._addresses[address.key] = address
        self._documents.put(address.key, address.model_dump())

    def _bill(self, address: Address) -> None:
        self._ledger.open(
            resource=f"addresses/{address.key}",
            resource_id=address.id,
            region=address.region,
            sku="address",
            model="STANDARD",
            quantity=1.0,
            unit_price=(
                prices.idle_address_price()
                if address.user is None
                else prices.address_price(spot=False)
            ),
        )
