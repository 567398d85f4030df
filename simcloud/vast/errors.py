"""Errors as Vast.ai words them: an HTTP status, a slug, a message for people."""

from __future__ import annotations

from typing import Any


class VastError(Exception):
    """Ends the request with this answer."""

    def __init__(
        self,
        status: int,
        slug: str,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body: dict[str, Any] = {"success": False, "error": slug, "msg": message, **extra}


def invalid(message: str) -> VastError:
    """A request that makes no sense."""
    return VastError(400, "invalid_args", message)


def no_such_ask(ask_id: int) -> VastError:
    """An offer that is gone, or never was."""
    return VastError(
        404,
        "invalid_args",
        f"error 404/3603: no_such_ask Instance type by id {ask_id} is not available.",
    )


def unavailable(ask_id: int) -> VastError:
    """An offer that cannot start now, when the client asked to cancel in that case."""
    return VastError(
        410, "no_such_ask", f"error 410/3620: no_such_ask ask {ask_id} is no longer available."
    )


def no_such_instance(instance_id: int, slug: str) -> VastError:
    """An instance that does not exist for this key."""
    return VastError(404, slug, f"error 404/3811: {slug} Instance {instance_id} not found.")
