"""The machines' key pairs, sealed. Implements `ports.SecretStore`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from dumont.db.engine import Database
from dumont.db.tables import machine_secrets
from dumont.ports import MachineSecrets


class Sealer(Protocol):
    """What `dumont.security.vault.Vault` does; the store never sees a key."""

    def seal(self, secret: bytes, *, context: str) -> tuple[str, bytes]:
        """Seal a secret for one place; returns the key's id and what to store."""
        ...

    def open(self, sealed: tuple[str, bytes], *, context: str) -> bytes:
        """The secret again."""
        ...


class PostgresSecretStore:
    """Key pairs by machine id, encrypted at rest.

    Args:
        database: Where they are kept.
        sealer: Encrypts them.
        make: Makes new pairs for a machine id.
    """

    def __init__(
        self, database: Database, *, sealer: Sealer, make: Callable[[str], MachineSecrets]
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._make = make

    async def ensure_machine_secrets(self, machine_id: str) -> MachineSecrets:
        """The machine's key pairs, made at the first call; of two first calls one wins.

        Raises:
            DependencyUnavailable: The database cannot serve it, or the sealing key is missing.
        """
        context = f"machine/{machine_id}"
        async with self._database.transaction() as connection:
            query = select(machine_secrets).where(machine_secrets.c.machine_id == machine_id)
            row = (await connection.execute(query)).first()
            if row is None:
                new = self._make(machine_id)
                key_id, sealed = self._sealer.seal(new.model_dump_json().encode(), context=context)
                await connection.execute(
                    insert(machine_secrets)
                    .values(
                        machine_id=machine_id,
                        host_key_public=new.host_key_public,
                        access_key_public=new.access_key_public,
                        key_id=key_id,
                        sealed=sealed,
                        created_at=func.now(),
                    )
                    .on_conflict_do_nothing()
                )
                row = (await connection.execute(query)).one()
        opened = self._sealer.open((row.key_id, row.sealed), context=context)
        return MachineSecrets.model_validate_json(opened)

    async def forget_machine_secrets(self, machine_id: str) -> None:
        """Delete them; a later `ensure` makes new ones."""
        async with self._database.transaction() as connection:
            await connection.execute(
                delete(machine_secrets).where(machine_secrets.c.machine_id == machine_id)
            )
