"""Operations: every change is one; they are kept, listed, waited for.

A finished operation may carry an error: the request was accepted and failed later. Nothing here
does the work itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import Iterable
from typing import Any

from simcloud.clock import Clock
from simcloud.gcp import errors, wire
from simcloud.gcp.records import Operation
from simcloud.store import Store

_KEPT = 10_000
_REQUEST_ID_LIFE_S = 3600.0
SYSTEM_USER = "system"


class Operations:
    """All operations of the project, oldest first."""

    def __init__(self, *, store: Store, clock: Clock, project: str) -> None:
        self._clock = clock
        self._project = project
        self._documents = store.collection("gcp_operations")
        self._requests = store.collection("gcp_request_ids")
        self._operations = {
            key: Operation.model_validate(document) for key, document in self._documents.items()
        }
        self._done: dict[str, asyncio.Event] = {}

    def start(
        self,
        *,
        type: str,
        scope: str,
        target: str,
        target_id: str,
        user: str,
        request_id: str | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> Operation:
        """Record that work has begun.

        Args:
            type: Such as `insert`, or `compute.instances.preempted` for Google's own doing.
            scope: `zones/z`, `regions/r` or `global`.
            target: Path of the resource from `projects/` on.
            target_id: Its numeric id.
            user: E-mail of who asked.
            request_id: The client's idempotency key.
            arguments: What a restarted simcloud needs to go on.
        """
        now = self._clock.now()
        operation = Operation(
            id=wire.numeric_id(),
            name=(
                f"operation-{int(now * 1000)}-{secrets.token_hex(7)[:13]}"
                f"-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
            ),
            scope=scope,
            type=type,
            target=target,
            target_id=target_id,
            status="RUNNING",
            user=user,
            inserted=now,
            started=now,
            arguments=arguments or {},
        )
        self._operations[operation.name] = operation
        self._save(operation)
        if request_id is not None:
            self._requests.put(request_id, {"operation": operation.name, "at": now})
        self._prune()
        return operation

    def finish(
        self,
        operation: Operation,
        *,
        error: errors.OperationError | None = None,
        message: str | None = None,
    ) -> Operation:
        """Record that work has ended, well or with `error`."""
        operation.status = "DONE"
        operation.ended = self._clock.now()
        operation.status_message = message
        operation.arguments = {}
        if error is not None:
            operation.error = {"code": error.code, "message": error.message}
            operation.http_status = error.http_status
            operation.http_message = error.http_message
        self._save(operation)
        waiting = self._done.pop(operation.name, None)
        if waiting is not None:
            waiting.set()
        return operation

    def repeated(self, *, request_id: str | None, type: str, target: str) -> Operation | None:
        """Return the operation that `request_id` started within the last hour, or None.

        Raises:
            errors.GoogleError: 400 if the id is not a UUID, or belonged to another request.
        """
        if request_id is None:
            return None
        try:
            valid = uuid.UUID(request_id).int != 0
        except ValueError:
            valid = False
        if not valid:
            raise errors.invalid("requestId", request_id, "Must be a valid, non-zero UUID.")
        known = self._requests.get(request_id)
        if known is None or self._clock.now() - known["at"] > _REQUEST_ID_LIFE_S:
            return None
        operation = self._operations.get(known["operation"])
        if operation is not None and (operation.type, operation.target) != (type, target):
            raise errors.invalid("requestId", request_id, "It was used for a different request.")
        return operation

    def get(self, *, scope: str, name: str) -> Operation:
        """Return one operation.

        Raises:
            errors.GoogleError: 404.
        """
        operation = self._operations.get(name)
        if operation is None:
            # clients may name it by its numeric id
            operation = next((o for o in self._operations.values() if o.id == name), None)
        if operation is None or operation.scope != scope:
            raise errors.not_found(f"projects/{self._project}/{scope}/operations/{name}")
        return operation

    async def wait(self, operation: Operation, *, seconds: float) -> Operation:
        """Return the operation when it is done, or as it is after `seconds`."""
        if operation.status != "DONE":
            event = self._done.setdefault(operation.name, asyncio.Event())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), seconds)
        return operation

    def delete(self, operation: Operation) -> None:
        """Forget an operation; the work goes on."""
        self._operations.pop(operation.name, None)
        self._documents.delete(operation.name)

    def list(self, *, scope: str | None = None) -> list[Operation]:
        """Return the operations of a scope, or all, oldest first."""
        return [o for o in self._operations.values() if scope is None or o.scope == scope]

    def unfinished(self) -> Iterable[Operation]:
        """Return what was running when an earlier simcloud ended."""
        return [o for o in self._operations.values() if o.status != "DONE"]

    def render(self, operation: Operation) -> dict[str, Any]:
        """Return the operation as sent on the wire."""
        where = wire.project_link(self._project, *operation.scope.split("/"))
        body: dict[str, Any] = {
            "kind": "compute#operation",
            "id": operation.id,
            "name": operation.name,
            "operationType": operation.type,
            "targetLink": wire.link(operation.target),
            "targetId": operation.target_id,
            "status": operation.status,
            "user": operation.user,
            "progress": 100 if operation.status == "DONE" else 0,
            "insertTime": wire.timestamp(operation.inserted),
            "selfLink": f"{where}/operations/{operation.name}",
        }
        collection = operation.scope.partition("/")[0]
        if collection in ("zones", "regions"):
            body[collection.removesuffix("s")] = where
        if operation.started is not None:
            body["startTime"] = wire.timestamp(operation.started)
        if operation.ended is not None:
            body["endTime"] = wire.timestamp(operation.ended)
        if operation.status_message is not None:
            body["statusMessage"] = operation.status_message
        if operation.error is not None:
            body["error"] = {"errors": [operation.error]}
            body["httpErrorStatusCode"] = operation.http_status
            body["httpErrorMessage"] = operation.http_message
        return body

    def _save(self, operation: Operation) -> None:
        self._documents.put(operation.name, operation.model_dump())

    def _prune(self) -> None:
        excess = len(self._operations) - _KEPT
        if excess <= 0:
            return
        finished = [o for o in self._operations.values() if o.status == "DONE"]
        for operation in finished[:excess]:
            self.delete(operation)
