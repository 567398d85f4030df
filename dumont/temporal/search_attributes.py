"""Search attributes: what Temporal's UI can filter machines by. Plain text: never a secret.

They must exist before a worker polls: an upsert of an unregistered one fails the workflow task for
ever. Registering again what exists is harmless.
"""

from __future__ import annotations

from typing import Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
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
    """Add the attributes; those that exist already are left as they are."""
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=client.namespace, search_attributes=_TYPES)
    )
