"""When Google ended a VM, from its own record of operations: what is deleted has no page to ask."""

from __future__ import annotations

from datetime import datetime

from dumont.providers.gcp.client import ComputeClient, Services
from dumont.providers.gcp.mapping import moment


class GcpDeletions:
    """Reads a project's operations, which Google keeps for about two weeks."""

    def __init__(self, client: ComputeClient) -> None:
        self._client = client

    async def ended_at(self, *, zone: str, instance_id: str) -> datetime | None:
        """When the deletion of a VM was done; None when no such operation is known.

        Raises:
            ProviderError: Google does not answer, or refuses.
        """

        def send(s: Services) -> datetime | None:
            request = s.types.ListZoneOperationsRequest(
                project=self._client.project, zone=zone, filter='operationType="delete"'
            )
            for operation in s.operations.list(request=request, **s.options):
                if str(operation.target_id) == instance_id and operation.end_time:
                    if operation.error and operation.error.errors:
                        continue
                    return moment(operation.end_time)
            return None

        return await self._client.call("operation", send)
