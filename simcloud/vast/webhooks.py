"""Webhooks: at-least-once, signed, retried; a wake-up call without an instance id."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import secrets
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel

from simcloud.store import Store
from simcloud.vast.errors import VastError, invalid
from simcloud.vast.knobs import KnobStore

log = logging.getLogger(__name__)

MAX_WEBHOOKS = 4
TIMEOUT_S = 10.0
_ATTEMPTS = 6

NOTIFICATIONS: dict[str, tuple[str, str]] = {
    "outbid": ("Instance outbid", "Your instance {id}{label} was outbid and has been stopped."),
    "instance_stopped": ("Instance stopped", "Your instance {id}{label} has been stopped."),
    "instance_resumed": ("Instance resumed", "Your instance {id}{label} has been resumed."),
    "instance_offline": ("Instance offline", "The host of your instance {id}{label} is offline."),
    "instance_online": (
        "Instance back online",
        "The host of your instance {id}{label} is back online.",
    ),
    "maintenance": (
        "Maintenance scheduled",
        "Maintenance is scheduled for the host of your instance {id}{label}.",
    ),
}
"""Slug (without `client:`) -> subject and message."""


class Webhook(BaseModel):
    """One registered receiver."""

    id: int
    url: str
    name: str | None
    notification_types: list[str]
    """`client:...` slugs; empty means all."""
    secret: str
    enabled: bool
    created_at: float

    def public(self) -> dict[str, Any]:
        """Return it as listings show it: without its secret."""
        return self.model_dump(exclude={"secret"})


class Webhooks:
    """The account's webhooks and their deliveries."""

    def __init__(self, store: Store, *, user_id: int, knobs: KnobStore) -> None:
        self._store = store
        self._documents = store.collection("vast.webhooks")
        self._user_id = user_id
        self._knobs = knobs
        self._hooks = {int(k): Webhook.model_validate(doc) for k, doc in self._documents.items()}
        self._deliveries: set[asyncio.Task[None]] = set()

    def list(self) -> list[Webhook]:
        """Return all, oldest first."""
        return [*self._hooks.values()]

    def get(self, number: int) -> Webhook:
        """Return one.

        Raises:
            VastError: 404 when it does not exist.
        """
        if number not in self._hooks:
            raise VastError(404, "not_found", f"webhook {number} not found")
        return self._hooks[number]

    def create(self, body: dict[str, Any], *, now: float) -> Webhook:
        """Register a receiver.

        Raises:
            VastError: 400 for a bad URL or type, or a fifth webhook.
        """
        if len(self._hooks) >= MAX_WEBHOOKS:
            raise VastError(400, "limit_exceeded", f"at most {MAX_WEBHOOKS} webhooks")
        hook = Webhook(
            id=self._store.next_id("vast.webhook", start=301),
            url=_url(body.get("url")),
            name=_name(body),
            notification_types=_types(body.get("notification_types", body.get("notif_types"))),
            secret=str(body.get("secret") or secrets.token_hex(24)),
            enabled=bool(body.get("enabled", True)),
            created_at=now,
        )
        self._save(hook)
        return hook

    def update(self, number: int, body: dict[str, Any]) -> Webhook:
        """Change some fields of a receiver.

        Raises:
            VastError: 400 for a bad value, 404 when it does not exist.
        """
        hook = self.get(number).model_copy()
        if "url" in body:
            hook.url = _url(body["url"])
        if "name" in body:
            hook.name = _name(body)
        if "notification_types" in body:
            hook.notification_types = _types(body["notification_types"])
        if "enabled" in body:
            hook.enabled = bool(body["enabled"])
        if body.get("secret"):
            hook.secret = str(body["secret"])
        self._save(hook)
        return hook

    def remove(self, number: int) -> None:
        """Unregister a receiver; raises VastError 404 when it does not exist."""
        self.get(number)
        del self._hooks[number]
        self._documents.delete(str(number))

    def notify(self, slug: str, *, instance_id: int, label: str | None) -> None:
        """Send a notification to every receiver that wants it, in the background."""
        subject, message = NOTIFICATIONS[slug]
        payload = {
            "event_id": str(uuid.uuid4()),
            "user_id": self._user_id,
            "notif_type": slug,
            "subject": subject,
            "message": message.format(id=instance_id, label=f" ({label})" if label else ""),
            "timestamp": int(time.time()),
        }
        for hook in self.list():
            wanted = not hook.notification_types or f"client:{slug}" in hook.notification_types
            if hook.enabled and wanted:
                self._spawn(hook, payload)

    def test(self, number: int) -> None:
        """Send a test notification to one receiver; raises VastError 404 without one."""
        self._spawn(
            self.get(number),
            {
                "event_id": str(uuid.uuid4()),
                "user_id": self._user_id,
                "notif_type": "test",
                "subject": "Test",
                "message": "This is a test notification.",
                "timestamp": int(time.time()),
            },
        )

    async def close(self) -> None:
        """Give up deliveries that are under way."""
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)

    def _spawn(self, hook: Webhook, payload: dict[str, Any]) -> None:
        task = asyncio.create_task(self._deliver(hook, payload))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, hook: Webhook, payload: dict[str, Any]) -> None:
        body = json.dumps(payload).encode()
        pause = self._knobs.values.webhook_retry_seconds
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            for attempt in range(1, _ATTEMPTS + 1):
                stamp = str(int(time.time()))
                try:
                    response = await client.post(
                        hook.url,
                        content=body,
                        headers={
                            "Content-Type": "application/json",
                            "X-Vast-Event-Id": payload["event_id"],
                            "X-Vast-Delivery-Attempt": str(attempt),
                            "X-Vast-Timestamp": stamp,
                            "X-Vast-Signature-256": sign(hook.secret, stamp, body),
                        },
                    )
                except httpx.HTTPError as error:
                    log.info("webhook %s: attempt %s failed: %s", hook.id, attempt, error)
                else:
                    code = response.status_code
                    if code not in (408, 429) and code < 500:
                        return
                await asyncio.sleep(pause)
                pause *= 2
        log.warning("webhook %s: gave up on %s", hook.id, payload["event_id"])

    def _save(self, hook: Webhook) -> None:
        self._hooks[hook.id] = hook
        self._documents.put(str(hook.id), hook.model_dump())


def sign(secret: str, stamp: str, body: bytes) -> str:
    """Return the value of `X-Vast-Signature-256`."""
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def _url(value: Any) -> str:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or not parts.hostname:
        raise invalid("url: an https URL is required")
    # the real service wants public https; here receivers are on loopback
    if parts.scheme != "https" and not (
        parts.scheme == "http" and (parts.hostname == "localhost" or parts.hostname[:4] == "127.")
    ):
        raise invalid("url: must be https (http on loopback only)")
    return str(value)


def _name(body: dict[str, Any]) -> str | None:
    value = body.get("name")
    return None if value is None else str(value)


def _types(value: Any) -> list[str]:
    if value is None:
        return []
    known = {f"client:{slug}" for slug in NOTIFICATIONS}
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise invalid("notification_types: must be a list of slugs")
    wanted = [each if each.startswith("client:") else f"client:{each}" for each in value]
    for each in wanted:
        if each not in known:
            raise invalid(f"notification_types: {each!r} is none of {', '.join(sorted(known))}")
    return wanted
