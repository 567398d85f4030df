"""HTTP to Vast.ai: one method a call, every call through the gateway, every answer judged.

It returns rows as Vast.ai sends them; `mapping.py` turns them into our words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from dumont.domain.errors import (
    AuthFailed,
    InstanceGone,
    OutcomeUnknown,
    ProviderUnavailable,
    RequestRefused,
)
from dumont.providers.gateway import Gateway
from dumont.providers.vast.errors import PROVIDER, contract_id, error_for

_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


class VastClient:
    """Vast.ai's REST API for one key.

    Args:
        url: Base address without path, `https://console.vast.ai`.
        api_key: The account's key; sent as a bearer token and nowhere else.
        gateway: The account's rate-limit gateway.
        timeout_s: Longest wait for any step of one call.
        transport: Replaces the network in tests.
    """

    def __init__(
        self,
        *,
        url: str,
        api_key: str,
        gateway: Gateway,
        timeout_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not api_key.strip() or not api_key.isascii() or any(c.isspace() for c in api_key):
            raise AuthFailed(
                "the Vast.ai key is empty or contains blanks",
                provider=PROVIDER,
                field="VAST_API_KEY",
                hint="copy it from https://cloud.vast.ai/manage-keys/",
            )
        self._gateway = gateway
        options: dict[str, Any] = {
            "timeout": timeout_s,
            "transport": transport,
            "follow_redirects": False,
            "headers": {"Accept": "application/json", "User-Agent": "dumont-cloud"},
        }
        self._http = httpx.AsyncClient(
            base_url=url, auth=_Bearer(api_key), trust_env=False, **options
        )
        # Logs are fetched from storage that must not see the key.
        self._anonymous = httpx.AsyncClient(trust_env=False, **options)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()
        await self._anonymous.aclose()

    async def search(self, query: Mapping[str, Any]) -> list[Any]:
        """Offer rows. `query` is a filter body of `POST /bundles/`."""
        payload = await self._call(
            "search", "POST", "/api/v0/bundles/", body=query, about_instance=False
        )
        return _rows(payload, "offers")

    async def create(self, offer_id: str, order: Mapping[str, Any]) -> str:
        """Rent an ask; returns the new instance's id.

        Raises:
            OutcomeUnknown: Vast.ai may have acted, and its answer says neither yes nor no.
        """
        try:
            payload = await self._call(
                "create", "PUT", f"/api/v0/asks/{_id(offer_id)}/", body=order, lost=OutcomeUnknown
            )
        except ProviderUnavailable as error:
            if isinstance(error.__cause__, _NEVER_SENT):
                raise
            raise OutcomeUnknown(
                f"the rental may have happened: {error.message}",
                provider=PROVIDER,
                instance_id=error.instance_id,
            ) from error
        instance_id = contract_id(payload)
        if instance_id is None:
            raise OutcomeUnknown(
                "Vast.ai accepted the rental and did not say which instance it is",
                provider=PROVIDER,
            )
        return instance_id

    async def show(self, instance_id: str) -> dict[str, Any] | None:
        """One instance's row; None when Vast.ai says that there is none."""
        payload = await self._call(
            "get", "GET", f"/api/v0/instances/{_id(instance_id)}/", query={"owner": "me"}
        )
        row = payload.get("instances", "absent")
        if row is None or (isinstance(row, dict) and row):
            return row
        raise ProviderUnavailable(
            f"Vast.ai's answer about instance {instance_id} has no instance in it",
            provider=PROVIDER,
        )

    async def list_page(self, *, after_token: str | None) -> dict[str, Any]:
        """One page of all instances in the order of their ids; 25 are the most Vast.ai gives."""
        query = {
            "select_filters": "{}",
            "order_by": json.dumps([{"col": "id", "dir": "asc"}]),
            "limit": "25",
        }
        if after_token is not None:
            query["after_token"] = after_token
        return await self._call(
            "list", "GET", "/api/v1/instances/", query=query, about_instance=False
        )

    async def update(self, instance_id: str, change: Mapping[str, Any]) -> None:
        """Change `state` or `label`."""
        await self._call("update", "PUT", f"/api/v0/instances/{_id(instance_id)}/", body=change)

    async def reboot(self, instance_id: str) -> None:
        """Start its container again on the GPU that it holds. Raises InstanceGone."""
        await self._call("reboot", "PUT", f"/api/v0/instances/reboot/{_id(instance_id)}/", body={})

    async def destroy(self, instance_id: str) -> None:
        """End an instance. Raises InstanceGone."""
        await self._call("destroy", "DELETE", f"/api/v0/instances/{_id(instance_id)}/", body={})

    async def change_bid(self, instance_id: str, *, price: float) -> None:
        """Bid $/h for the whole instance."""
        path = f"/api/v0/instances/bid_price/{_id(instance_id)}/"
        await self._call("bid", "PUT", path, body={"client_id": "me", "price": price})

    async def attach_key(self, instance_id: str, *, public_key: str) -> None:
        """Let one more SSH key in."""
        path = f"/api/v0/instances/{_id(instance_id)}/ssh/"
        await self._call("ssh", "POST", path, body={"ssh_key": public_key})

    async def request_logs(self, instance_id: str, *, tail: int) -> str:
        """Ask for the last lines of the output; returns the address where they will appear."""
        path = f"/api/v0/instances/request_logs/{_id(instance_id)}/"
        payload = await self._call("logs", "PUT", path, body={"tail": str(tail)})
        address = payload.get("result_url")
        if not isinstance(address, str) or not address.startswith(("http://", "https://")):
            raise ProviderUnavailable("Vast.ai did not say where the log is", provider=PROVIDER)
        return address

    async def fetch_logs(self, address: str) -> str | None:
        """The log at `address`; None when it is not there yet."""
        try:
            response = await self._anonymous.get(address)
        except httpx.HTTPError as error:
            raise ProviderUnavailable(
                f"the log of the instance cannot be fetched: {_reason(error)}", provider=PROVIDER
            ) from error
        return response.text if response.status_code == 200 else None

    async def account(self) -> dict[str, Any]:
        """Who the key belongs to."""
        return await self._call("account", "GET", "/api/v0/users/current", about_instance=False)

    async def charges_page(
        self, *, since: int, until: int, after_token: str | None
    ) -> dict[str, Any]:
        """One page of the bill between two Unix times."""
        query = {
            "select_filters": json.dumps({"day": {"gte": since, "lte": until}}),
            "format": "tree",
            "latest_first": "false",
            "limit": "500",
        }
        if after_token is not None:
            query["after_token"] = after_token
        return await self._call(
            "charges", "GET", "/api/v0/charges/", query=query, about_instance=False
        )

    async def _call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        lost: type[ProviderUnavailable] | type[OutcomeUnknown] = ProviderUnavailable,
        about_instance: bool = True,
    ) -> dict[str, Any]:
        async def attempt() -> dict[str, Any]:
            try:
                response = await self._http.request(method, path, params=query, json=body)
            except _NEVER_SENT as error:
                raise ProviderUnavailable(
                    f"Vast.ai cannot be reached: {_reason(error)}", provider=PROVIDER
                ) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise lost(
                    f"Vast.ai's answer to {operation!r} was lost: {_reason(error)}",
                    provider=PROVIDER,
                ) from error
            try:
                return _judge(response)
            except InstanceGone as error:
                if about_instance:
                    raise
                raise ProviderUnavailable(
                    f"Vast.ai does not know {method} {path}: {error.message}",
                    provider=PROVIDER,
                    hint="check VAST_URL",
                ) from error

        return await self._gateway.call(operation, attempt)


class _Bearer(httpx.Auth):
    def __init__(self, api_key: str) -> None:
        self._value = f"Bearer {api_key}"

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = self._value
        yield request


def _judge(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    payload: dict[str, Any] | None = body if isinstance(body, dict) else None
    error = error_for(
        status=response.status_code,
        headers=response.headers,
        text=response.text[:10_000],
        payload=payload,
    )
    if error is not None:
        raise error
    assert payload is not None
    return payload


def _rows(payload: Mapping[str, Any], key: str) -> list[Any]:
    rows = payload.get(key)
    if not isinstance(rows, list):
        raise ProviderUnavailable(f"Vast.ai's answer has no list of {key} in it", provider=PROVIDER)
    return rows


def _id(value: str) -> str:
    """An id as it may stand in a path; anything else must not become another path."""
    if not value.isascii() or not value.isdigit():
        raise RequestRefused(f"{value!r} is not a Vast.ai id", provider=PROVIDER)
    return value


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
