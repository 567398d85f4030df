"""The API's description: what OpenAPI shows beyond what the routes say themselves."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from api.errors import MEDIA_TYPE

DESCRIPTION: Final = """Interactive GPU machines on spot prices.

Errors are problem details (RFC 9457) with a stable `code`; see docs/errors.md. Lists are paged by
cursor. Writes that create take an `Idempotency-Key`. News come from `GET /events` (SSE).
"""

TAGS: Final[list[dict[str, Any]]] = [
    {"name": "machines", "description": "The machines and what happens to them."},
    {"name": "protection", "description": "Barrier, drill, the way back, receipts of failovers."},
    {"name": "hibernation", "description": "Machines that rest cost nothing, and wake."},
    {"name": "idleness", "description": "Who is idle, why, what happens then, and keeping it up."},
    {"name": "snapshots", "description": "Workspaces in the object store, and back."},
    {"name": "budgets", "description": "What may be spent, and what is done to keep to it."},
    {"name": "leftovers", "description": "What costs money although no machine runs on it."},
    {"name": "ledger", "description": "What machines cost, line by line, and how it is known."},
    {"name": "savings", "description": "What was saved, what it cost, and how it is known."},
    {"name": "events", "description": "Live news of all your machines."},
    {"name": "offers", "description": "What the market rents."},
    {"name": "auth", "description": "Logging in and out."},
    {"name": "account", "description": "API keys and SSH keys."},
    {"name": "agents", "description": "Where the agents on machines report."},
    {"name": "webhooks", "description": "What providers call; it only makes us look sooner."},
    {"name": "codec", "description": "Temporal's payloads, for its Web UI."},
    {"name": "health", "description": "State of this process and of what it stands on."},
    {"name": "meta", "description": "Version and links."},
]


def describe(app: FastAPI) -> None:
    """Make the app's OpenAPI tell its errors as they are sent."""
    generate = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            for operations in schema["paths"].values():
                for operation in operations.values():
                    _tell_errors(operation)
            for unused in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(unused, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]


def _tell_errors(operation: dict[str, Any]) -> None:
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for status, response in operation["responses"].items():
        if not status.startswith(("4", "5")):
            continue
        content = response.setdefault("content", {})
        schema = content.pop("application/json", {}).get("schema", {})
        if schema.get("$ref", "").endswith("/Health"):
            content["application/json"] = {"schema": schema}
            continue
        content[MEDIA_TYPE] = content.get(MEDIA_TYPE, {}) | problem
        if response.get("description") in ("", "Validation Error"):
            response["description"] = "An input is malformed or impossible; `field` names it."
