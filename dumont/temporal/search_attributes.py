"""Search attributes: what Temporal's UI can filter machines by. Plain text: never a secret.

They must exist before a worker polls: an upsert of an unregistered one fails the workflow task for
ever. Registering again what exists is harmless.
"""

from __future__ import annotations

from typing import Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.client import Client
from temporalio.common import SearchAttributeKey

STATE: Final = SearchAttributeKey.for_keyword("MachineState")
OWNER: Final = SearchAttributeKey.for_keyword("OwnerId")
GPU: Final = SearchAttributeKey.for_keyword("GpuModel")
PROTECTION: Final = SearchAttributeKey.for_keyword("Protection")
HOURLY_USD: Final = SearchAttributeKey.for_float("HourlyUsd")
GENERATION: Final = SearchAttributeKey.for_int("Generation")

_TYPES: Final = {
    STATE.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    OWNER.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    GPU.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    PROTECTION.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    HOURLY_USD.name: IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
    GENERATION.name: IndexedValueType.INDEXED_VALUE_TYPE_INT,
}


async def register_search_attributes(client: Client) -> None:
    """Add the attributes that the namespace does not have yet."""
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = {n: t for n, t in _TYPES.items() if n not in known.custom_attributes}
    if missing:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
        )
