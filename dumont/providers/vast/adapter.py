"""`GpuProvider` for Vast.ai: what each operation has to check before it may be believed."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime
from typing import Any

import httpx
import structlog
from pydantic import ValidationError

from dumont.domain.errors import (
    DumontError,
    InstanceGone,
    OfferGone,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RequestRefused,
)
from dumont.domain.instances import Charge, Instance, InstanceOrder, ProviderAccount, Rental
from dumont.domain.offers import GpuRequirement, Offer
from dumont.providers.gateway import Gateway, Urgency, urgency
from dumont.providers.vast.client import VastClient
from dumont.providers.vast.errors import PROVIDER
from dumont.providers.vast.limits import VAST_LIMITS
from dumont.providers.vast.listing import read_list
from dumont.providers.vast.mapping import (
    charges_from,
    create_body,
    has_exited,
    instance_from,
    offer_from,
    search_query,
)
from dumont.providers.vast.offers import OfferCache
from dumont.providers.vast.rows import ChargeRow, InstanceRow, OfferRow, signed_number

log = structlog.get_logger(__name__)

RENTAL_READS = 4
"""Times that a new instance is looked at to learn how it is paid for."""

LOG_READS = 40
LOG_PAUSE_S = 0.3
"""How a log is waited for; the official client polls 30 times every 0.3 s."""


class VastProvider:
    """One Vast.ai account. Build one per process and account: it holds the rate-limit gateway.

    Args:
        url: Base address without path.
        api_key: The account's key.
        account: Stable name of the account; a fingerprint of the key when unset.
        timeout_s: Longest wait for any step of one HTTP call.
        transport: Replaces the network in tests.
        gateway: Replaces the account's own gateway in tests.
    """

    def __init__(
        self,
        *,
        url: str,
        api_key: str,
        account: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        gateway: Gateway | None = None,
    ) -> None:
        self._account = account or hashlib.sha256(api_key.encode()).hexdigest()[:12]
        self.gateway = gateway or Gateway(
            provider=PROVIDER, account=self._account, limits=VAST_LIMITS
        )
        self._client = VastClient(
            url=url,
            api_key=api_key,
            gateway=self.gateway,
            timeout_s=timeout_s,
            transport=transport,
        )
        self._offers = OfferCache(self._client.search, clock=_loop_time)

    @property
    def name(self) -> str:
        """`vast`."""
        return PROVIDER

    @property
    def account(self) -> str:
        """Fingerprint of the key, or the name given."""
        return self._account

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def search_offers(self, requirement: GpuRequirement, *, limit: int = 64) -> list[Offer]:
        """Offers of this GPU, count and rental within the price, cheapest first."""
        offers = await self._search(
            gpu=requirement.gpu,
            gpu_count=requirement.gpu_count,
            rental=requirement.rental,
            disk_gb=requirement.disk_gb,
            limit=limit,
        )
        return [o for o in offers if o.usd_per_hour <= requirement.max_usd_per_hour]

    async def browse_offers(
        self, *, gpu: str | None, gpu_count: int | None, rental: Rental, disk_gb: float, limit: int
    ) -> list[Offer]:
        """Offers for a person who looks around; gives way to machines that wait."""
        with urgency(Urgency.BACKGROUND):
            return await self._search(
                gpu=gpu, gpu_count=gpu_count, rental=rental, disk_gb=disk_gb, limit=limit
            )

    async def create(self, order: InstanceOrder) -> str:
        """Rent an offer, and make sure that a bid became a bid. See `GpuProvider.create`.

        Raises:
            RequestRefused: Vast.ai rented on demand although a bid was given. The instance was
                destroyed; `instance_id` is set if even that failed.
            OutcomeUnknown: Also when Vast.ai does not say how the new instance is paid for; then
                `instance_id` is set.
        """
        try:
            instance_id = await self._client.create(order.offer_id, create_body(order))
        except InstanceGone as error:
            # Here the thing not found is the offer.
            self._offers.forget(order.offer_id)
            raise OfferGone(
                error.message, provider=PROVIDER, instance_id=error.instance_id
            ) from error
        except OfferGone:
            self._offers.forget(order.offer_id)
            raise
        self._offers.forget(order.offer_id)
        if order.bid_usd_per_hour is not None:
            await self._insist_on_bid(instance_id)
        return instance_id

    async def get(self, instance_id: str) -> Instance | None:
        """The instance; None only when Vast.ai itself says that there is none."""
        row = await self._row(instance_id)
        return None if row is None else instance_from(row)

    async def list_instances(self, *, label_prefix: str) -> list[Instance]:
        """Every instance with such a label; a row of ours that cannot be read fails the list."""
        found: list[Instance] = []
        for row in await read_list(self._client):
            if isinstance(row, InstanceRow):
                if row.label is not None and row.label.startswith(label_prefix):
                    found.append(instance_from(row))
                continue
            if row.label is None or str(row.label).strip().startswith(label_prefix):
                raise ProviderUnavailable(
                    f"Vast.ai lists an instance that cannot be read (label {row.label!r}): "
                    f"{row.problem}",
                    provider=PROVIDER,
                )
            log.warning("vast.row_unreadable", label=row.label, problem=row.problem)
        return found

    async def start(self, instance_id: str) -> None:
        """Ask for the instance to run; a bid that does not win stays queued.

        One that holds its GPU while its container has exited is meant to run already: Vast.ai starts
        that container again only when told to reboot it. Its disk stays either way.
        """
        row = await self._row(instance_id)
        if row is None:
            raise InstanceGone(f"Vast.ai has no instance {instance_id}", provider=PROVIDER)
        if has_exited(row):
            await self._client.reboot(instance_id)
        else:
            await self._client.update(instance_id, {"state": "running"})

    async def stop(self, instance_id: str) -> None:
        """Stop it; its disk goes on billing."""
        with urgency(Urgency.DESTROY):  # It ends the dearest part of the bill.
            await self._client.update(instance_id, {"state": "stopped"})

    async def destroy(self, instance_id: str) -> None:
        """End it for good; one that Vast.ai does not know is ended."""
        try:
            await self._client.destroy(instance_id)
        except InstanceGone:
            log.info("vast.destroy_found_nothing", instance_id=instance_id)

    async def change_bid(self, instance_id: str, *, usd_per_hour: float) -> None:
        """Bid anew for the whole instance."""
        if not usd_per_hour > 0:
            raise RequestRefused(
                "a bid must be more than 0 $/h: without one Vast.ai picks the price itself",
                provider=PROVIDER,
                field="usd_per_hour",
            )
        await self._client.change_bid(instance_id, price=usd_per_hour)

    async def attach_key(self, instance_id: str, *, public_key: str) -> None:
        """Let one more key in."""
        await self._client.attach_key(instance_id, public_key=public_key)

    async def logs(self, instance_id: str, *, tail: int = 200) -> str:
        """The last lines, once Vast.ai has collected them from the host (seconds)."""
        address = await self._client.request_logs(instance_id, tail=tail)
        for _ in range(LOG_READS):
            text = await self._client.fetch_logs(address)
            if text is not None:
                return text
            await asyncio.sleep(LOG_PAUSE_S)
        raise ProviderUnavailable(
            f"the host of instance {instance_id} did not deliver its log within "
            f"{LOG_READS * LOG_PAUSE_S:.0f} s",
            provider=PROVIDER,
        )

    async def account_status(self) -> ProviderAccount:
        """The account behind the key, and its credit."""
        payload = await self._client.account()
        account_id = payload.get("id")
        if account_id is None or isinstance(account_id, dict | list):
            raise ProviderUnavailable("Vast.ai did not say whose key it is", provider=PROVIDER)
        return ProviderAccount(
            account_id=str(account_id), credit_usd=signed_number(payload.get("credit"))
        )

    async def charges(self, *, since: datetime, until: datetime) -> list[Charge]:
        """The bill of all instances, item by item: whole, or an error.

        Raises:
            ProviderUnavailable: A page, or a line of one, cannot be read, or the pages lead nowhere.
        """
        found: list[Charge] = []
        token: str | None = None
        seen: set[str] = set()
        told: list[Any] = []
        while True:
            page = await self._client.charges_page(
                since=int(since.timestamp()), until=int(until.timestamp()), after_token=token
            )
            rows = page.get("results")
            if not isinstance(rows, list):
                raise ProviderUnavailable("Vast.ai's bill has no lines in it", provider=PROVIDER)
            for row in rows:
                # A bill that grows while it is read may show the last line of a page once more.
                if row not in told:
                    found.extend(charges_from(_charge_row(row)))
            told = rows
            token = page.get("next_token") or None
            if token is None:
                return found
            if token in seen:
                raise ProviderUnavailable("Vast.ai's bill leads nowhere", provider=PROVIDER)
            seen.add(token)

    async def _search(
        self, *, gpu: str | None, gpu_count: int | None, rental: Rental, disk_gb: float, limit: int
    ) -> list[Offer]:
        query = search_query(
            gpu=gpu, gpu_count=gpu_count, rental=rental, disk_gb=disk_gb, limit=limit
        )
        offers: list[Offer] = []
        for raw in await self._offers.search(query):
            try:
                offer = offer_from(OfferRow.model_validate(raw), rental=rental, disk_gb=disk_gb)
            except ValidationError as error:
                log.warning("vast.offer_unreadable", problem=str(error.errors()[0]["msg"]))
                continue
            if offer is not None:
                offers.append(offer)
        return sorted(offers, key=lambda o: (o.usd_per_hour, o.offer_id))

    async def _row(self, instance_id: str) -> InstanceRow | None:
        try:
            raw = await self._client.show(instance_id)
        except InstanceGone:
            return None
        if raw is None:
            return None
        try:
            return InstanceRow.model_validate(raw)
        except ValidationError as error:
            raise ProviderUnavailable(
                f"Vast.ai's row of instance {instance_id} cannot be read: "
                f"{error.errors()[0]['msg']}",
                provider=PROVIDER,
            ) from None

    async def _insist_on_bid(self, instance_id: str) -> None:
        """Vast.ai rents on demand, at a multiple of the price, when a bid gets lost on the way."""
        problem = "the new instance is not listed yet"
        for _ in range(RENTAL_READS):
            try:
                row = await self._row(instance_id)
            except ProviderError as error:
                problem = error.message
                continue
            if row is not None and row.is_bid:
                return
            if row is not None and row.is_bid is False:
                raise await self._undo(instance_id)
        raise OutcomeUnknown(
            f"instance {instance_id} was rented, but not whether by the bid: {problem}",
            provider=PROVIDER,
            instance_id=instance_id,
        )

    async def _undo(self, instance_id: str) -> RequestRefused:
        left: str | None = None
        try:
            await self.destroy(instance_id)
        except DumontError:
            left = instance_id
        return RequestRefused(
            f"Vast.ai rented instance {instance_id} on demand although a bid was given; "
            + ("it could not be destroyed yet" if left else "it was destroyed"),
            provider=PROVIDER,
            instance_id=left,
        )


def _charge_row(row: Any) -> ChargeRow:
    try:
        return ChargeRow.model_validate(row)
    except ValidationError as error:
        raise ProviderUnavailable(
            f"a line of Vast.ai's bill cannot be read: {error.errors()[0]['msg']}",
            provider=PROVIDER,
        ) from None


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
