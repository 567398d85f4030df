"""Machine names and ids: what an owner types and what the system keys on."""

from __future__ import annotations

import re
import uuid

from dumont.domain.errors import InvalidInput

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
_NAMESPACE = uuid.UUID("5b0d0a34-6a3f-4b0c-9a55-2f2a7c1f0c11")


def check_machine_name(name: str) -> str:
    """Return `name` if a machine may be called so.

    It becomes an SSH host alias, a host name and a path element, hence the narrow rule.

    Raises:
        InvalidInput: Says what is allowed.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be a machine name: use 1-40 lower-case letters, digits and hyphens, "
            "starting with a letter and not ending with a hyphen",
            field="name",
        )
    return name


def machine_id_for(*, owner_id: str, idempotency_key: str) -> str:
    """Machine id of one create request: the same request twice names the same machine."""
    return "m" + uuid.uuid5(_NAMESPACE, f"{owner_id}\n{idempotency_key}").hex[:12]
