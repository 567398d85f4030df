"""Google's own client, kept at arm's length: imported late, called in threads, never trusted to wait.

`Operation.result()` of Google's client polls an endpoint that it chooses itself, whatever endpoint
it was given, so only the `*_unary` calls are used and operations are waited for here. Retries of the
client are off: the caller decides what may be repeated.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from dumont.domain.errors import AuthFailed, DumontError, InvalidInput, ProviderUnavailable
from dumont.providers.gateway import Gateway
from dumont.providers.gcp.errors import (
    PROVIDER,
    operation_error,
    still_running,
    translate,
)

T = TypeVar("T")

_POLLS_S = (0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Pauses between looks at an operation; the last one repeats. A long poll would save a few reads and
hold a thread for two minutes after its caller is gone."""

_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Services:
    """Google's clients for one project."""

    types: Any
    """The module `google.cloud.compute_v1`."""
    instances: Any
    operations: Any
    region_operations: Any
    global_operations: Any
    disks: Any
    addresses: Any
    firewalls: Any
    zones: Any
    options: Mapping[str, Any]
    """Keyword arguments of every call: time limit, no retry."""


class ComputeClient:
    """Google Compute for one project.

    Args:
        project: The project's id.
        credentials: A service account as its JSON says, with its `token_uri`.
        anonymous: Send no credentials; only for an endpoint that wants none. Never the default.
        url: Another endpoint than Google's.
        gateway: The account's rate-limit gateway.
        timeout_s: Longest wait for one HTTP call.
    """

    def __init__(
        self,
        *,
        project: str,
        credentials: Mapping[str, Any] | None,
        anonymous: bool = False,
        url: str | None,
        gateway: Gateway,
        timeout_s: float = 30.0,
    ) -> None:
        if not project:
            raise InvalidInput("no Google project is named", field="GCP_PROJECT")
        if credentials is None and not anonymous:
            raise AuthFailed(
                "no Google service account is configured",
                provider=PROVIDER,
                field="GCP_CREDENTIALS",
                hint="set GCP_CREDENTIALS to the service account's JSON, or to its file",
            )
        self.project = project
        self._credentials = credentials
        self._url = url
        self._gateway = gateway
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="gcp")
        self._loading = threading.Lock()
        self._services: Services | None = None

    def close(self) -> None:
        """Let the threads go; calls under way end by their own time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def call(self, operation: str, send: Callable[[Services], T]) -> T:
        """Run `send` in a thread, through the gateway; its errors come out as ours."""

        async def attempt() -> T:
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(self._timeout_s * 2 + 30):
                    return await loop.run_in_executor(self._threads, self._send, send)
            except TimeoutError:
                raise ProviderUnavailable(
                    f"Google Compute does not answer to {operation!r}", provider=PROVIDER
                ) from None

        return await self._gateway.call(operation, attempt)

    async def wait(
        self,
        operation: Any,
        *,
        what: str,
        zone: str | None,
        region: str | None = None,
        name: str,
        timeout_s: float,
    ) -> None:
        """Wait until an operation is done, and raise what it failed with.

        Args:
            operation: What the call answered that started it.
            what: The verb, for messages.
            zone: Its zone; None for an operation of a region or of the whole project.
            region: Its region, where it is one of a region.
            name: What it is done to, for messages.
            timeout_s: Longest wait.

        Raises:
            OutcomeUnknown: It is not done in time. It goes on.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        looks = 0
        while not is_done(operation):
            pause = _POLLS_S[min(looks, len(_POLLS_S) - 1)]
            if loop.time() + pause > deadline:
                raise still_running(what, name=name, waited_s=timeout_s)
            await asyncio.sleep(pause)
            looks += 1
            operation = await self._look(operation.name, zone, region)
        error = operation_failure(operation, name=name)
        if error is not None:
            raise error

    async def _look(self, operation: str, zone: str | None, region: str | None) -> Any:
        def send(s: Services) -> Any:
            if region is not None:
                return s.region_operations.get(
                    request=s.types.GetRegionOperationRequest(
                        project=self.project, region=region, operation=operation
                    ),
                    **s.options,
                )
            if zone is None:
                request = s.types.GetGlobalOperationRequest(
                    project=self.project, operation=operation
                )
                return s.global_operations.get(request=request, **s.options)
            return s.operations.get(
                request=s.types.GetZoneOperationRequest(
                    project=self.project, zone=zone, operation=operation
                ),
                **s.options,
            )

        return await self.call("operation", send)

    def _send(self, send: Callable[[Services], T]) -> T:
        try:
            return send(self._load())
        except DumontError:
            raise
        except Exception as error:
            raise translate(error) from error

    def _load(self) -> Services:
        with self._loading:
            if self._services is None:
                self._services = self._build()
            return self._services

    def _build(self) -> Services:
        # Two to three seconds and 100 MB: only for who really talks to Google.
        from google.api_core.client_options import ClientOptions
        from google.cloud import compute_v1

        from dumont.providers.gcp.credentials import anonymous, service_account

        credentials = (
            anonymous() if self._credentials is None else service_account(self._credentials)
        )
        options = ClientOptions(api_endpoint=self._url) if self._url else None
        made = {"credentials": credentials, "client_options": options}
        return Services(
            types=compute_v1,
            instances=compute_v1.InstancesClient(**made),
            operations=compute_v1.ZoneOperationsClient(**made),
            region_operations=compute_v1.RegionOperationsClient(**made),
            global_operations=compute_v1.GlobalOperationsClient(**made),
            disks=compute_v1.DisksClient(**made),
            addresses=compute_v1.AddressesClient(**made),
            firewalls=compute_v1.FirewallsClient(**made),
            zones=compute_v1.ZonesClient(**made),
            options={"timeout": self._timeout_s, "retry": None},
        )


def operation_failure(operation: Any, *, name: str) -> Exception | None:
    """What a finished operation failed with, or None."""
    entries = list(operation.error.errors) if operation.error else []
    return operation_error(
        codes=[entry.code for entry in entries],
        message="; ".join(entry.message for entry in entries) or operation.http_error_message,
        status=operation.http_error_status_code,
        name=name,
    )


def is_done(operation: Any) -> bool:
    """Whether an operation has ended, well or badly."""
    return str(getattr(operation.status, "name", operation.status)) == "DONE"
