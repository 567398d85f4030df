"""Who asks: API keys with permissions, and the key that each instance has for itself.

The documentation contradicts itself on how a bad key is refused, so each family of endpoints
refuses in its own documented way.
"""

from __future__ import annotations

import secrets
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request

from simcloud.store import Store
from simcloud.vast.errors import VastError
from simcloud.vast.instance import Instance

_LOGIN_FIRST = ("charges.", "invoices.")
_NOT_FOUND_STYLE = ("charges.", "invoices.", "offers.")
PUBLIC = frozenset({"gpu_names.list", "results.get"})
"""Operations that need no key at all."""
OPTIONAL = frozenset({"offers.search", "offers.search_get", "offers.search_asks"})
"""Operations that work without a key, but not with a wrong one."""
_INSTANCE_KEY_MAY = frozenset({"instances.update", "instances.destroy", "instances.show"})
_CATEGORIES: tuple[tuple[str, str, str], ...] = (
    ("offers.", "misc", "misc"),
    ("asks.", "instance_write", "instance_write"),
    ("instances.", "instance_read", "instance_write"),
    ("volumes.", "instance_read", "instance_write"),
    ("charges.", "billing_read", "billing_write"),
    ("invoices.", "billing_read", "billing_write"),
    ("users.", "user_read", "user_write"),
    ("ssh_keys.", "user_read", "user_write"),
    ("api_keys.", "user_read", "user_write"),
    ("webhooks.", "user_read", "user_write"),
)


class ApiKey(BaseModel):
    """One key of the account."""

    id: int
    key: str
    name: str
    created_at: float
    permissions: dict[str, Any] | None = None
    """`{"api": {category: ...}}`; None may do everything."""

    def allows(self, operation: str, method: str) -> bool:
        """Whether the key's scopes cover an operation."""
        if self.permissions is None:
            return True
        scopes = self.permissions.get("api", self.permissions)
        return not isinstance(scopes, dict) or _category(operation, method) in scopes


def _category(operation: str, method: str) -> str:
    for prefix, read, write in _CATEGORIES:
        if operation.startswith(prefix):
            return read if method == "GET" else write
    return "misc"


class ApiKeys:
    """The account's keys."""

    def __init__(self, store: Store, *, now: float) -> None:
        self._store = store
        self._documents = store.collection("vast.api_keys")
        self._keys = {doc["key"]: ApiKey.model_validate(doc) for doc in self._documents.list()}
        if not self._keys:
            self.create(name="main", permissions=None, now=now)

    @property
    def main(self) -> str:
        """The key given in the start line."""
        return self.list()[0].key

    def create(self, *, name: str, permissions: dict[str, Any] | None, now: float) -> ApiKey:
        """Make a new key."""
        number = self._store.next_id("vast.api_key", start=7001)
        key = ApiKey(
            id=number,
            key=secrets.token_hex(32),
            name=name,
            created_at=now,
            permissions=permissions,
        )
        self._keys[key.key] = key
        self._documents.put(str(number), key.model_dump())
        return key

    def list(self) -> list[ApiKey]:
        """Return all keys, oldest first."""
        return [*self._keys.values()]

    def remove(self, number: int) -> bool:
        """Delete a key; return whether it existed. The first key cannot be deleted."""
        found = next((key for key in self.list()[1:] if key.id == number), None)
        if found is None:
            return False
        del self._keys[found.key]
        self._documents.delete(str(number))
        return True

    def find(self, key: str) -> ApiKey | None:
        """Return the key with this text."""
        return self._keys.get(key)


def presented_key(request: Request) -> str | None:
    """Return the key of a request: bearer token, or `api_key` in the query."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.query_params.get("api_key") or None


def authorize(
    request: Request, operation: str, *, keys: ApiKeys, instances: list[Instance]
) -> None:
    """Let a request pass, or refuse it in the way of its endpoint.

    Raises:
        VastError: 401, 403 or 404, see the module.
    """
    if operation in PUBLIC:
        return
    presented = presented_key(request)
    if presented is None:
        if operation in OPTIONAL:
            return
        if operation.startswith(_LOGIN_FIRST):
            raise VastError(403, "auth_error", "This action requires login.")
        raise VastError(401, "auth_error", "Invalid user key")
    key = keys.find(presented)
    if key is not None:
        if not key.allows(operation, request.method):
            raise VastError(
                403, "forbidden", f"this key may not do {_category(operation, request.method)}"
            )
        return
    owner = next(
        (each for each in instances if secrets.compare_digest(each.api_key, presented)), None
    )
    if owner is not None:
        own = request.path_params.get("id") == owner.id
        if operation in _INSTANCE_KEY_MAY and own:
            return
        raise VastError(403, "forbidden", "an instance's key may only manage that instance")
    status = 404 if operation.startswith(_NOT_FOUND_STYLE) else 401
    raise VastError(status, "auth_error", "Invalid user key")
