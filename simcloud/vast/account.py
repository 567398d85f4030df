"""The account itself: its identity and its SSH keys."""

from __future__ import annotations

import random
from typing import Any

from pydantic import BaseModel

from simcloud.store import Store
from simcloud.vast.errors import VastError, invalid
from simcloud.vast.instance import AttachedKey

_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-")


class SshKey(BaseModel):
    """A public key of the account."""

    id: int
    user_id: int
    key: str
    created_at: float

    def public(self) -> dict[str, Any]:
        """Return it under every name that clients read."""
        return {
            "id": self.id,
            "user_id": self.user_id,
            "key": self.key,
            "public_key": self.key,
            "created_at": self.created_at,
            "deleted_at": None,
        }


class Account:
    """Who the customer is, and the keys that new instances get."""

    def __init__(self, store: Store, *, now: float) -> None:
        self._store = store
        self._documents = store.collection("vast.ssh_keys")
        settings = store.collection("vast.account")
        if settings.get("user_id") is None:
            settings.put("user_id", random.randint(100_000, 999_999))
            settings.put("created_at", now)
        self.user_id = int(settings.get("user_id") or 0)
        self._keys = {int(k): SshKey.model_validate(doc) for k, doc in self._documents.items()}

    def ssh_keys(self) -> list[SshKey]:
        """Return the account's keys, oldest first."""
        return [*self._keys.values()]

    def attached(self) -> list[AttachedKey]:
        """Return the keys as a new instance gets them."""
        return [AttachedKey(id=key.id, key=key.key) for key in self.ssh_keys()]

    def add(self, text: Any, *, now: float) -> SshKey:
        """Add a key; one that is there already is returned as it is.

        Raises:
            VastError: 400 when it is no OpenSSH public key.
        """
        key = read_key(text)
        known = next((each for each in self.ssh_keys() if same_key(each.key, key)), None)
        return known or self._put(
            SshKey(id=self.next_id(), user_id=self.user_id, key=key, created_at=now)
        )

    def update(self, number: int, text: Any) -> SshKey:
        """Replace the text of a key; raises VastError 400 or 404."""
        return self._put(self.get(number).model_copy(update={"key": read_key(text)}))

    def remove(self, number: int) -> None:
        """Delete a key; raises VastError 404 when it does not exist."""
        self.get(number)
        del self._keys[number]
        self._documents.delete(str(number))

    def get(self, number: int) -> SshKey:
        """Return a key; raises VastError 404 when it does not exist."""
        if number not in self._keys:
            raise VastError(404, "not_found", f"ssh key {number} not found")
        return self._keys[number]

    def next_id(self) -> int:
        """Return a fresh number for a key, of the account or of an instance."""
        return self._store.next_id("vast.ssh_key", start=410_001)

    def _put(self, key: SshKey) -> SshKey:
        self._keys[key.id] = key
        self._documents.put(str(key.id), key.model_dump())
        return key


def read_key(text: Any) -> str:
    """Return a public key line, stripped.

    Raises:
        VastError: 400 when it is no OpenSSH public key.
    """
    words = text.split() if isinstance(text, str) else []
    if len(words) < 2 or not words[0].startswith(_KEY_TYPES) or "\n" in str(text).strip():
        raise invalid("ssh_key: must be one OpenSSH public key, e.g. 'ssh-ed25519 AAAA... me'")
    return str(text).strip()


def same_key(first: str, second: str) -> bool:
    """Whether two key lines hold the same key, whatever their comments."""
    return first.split()[:2] == second.split()[:2]
