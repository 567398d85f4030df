"""The Google side put together: every part made once, and handed to the routes as one object."""

from __future__ import annotations

import asyncio
import contextlib

from simcloud.context import CloudContext
from simcloud.gcp.addresses import Addresses
from simcloud.gcp.auth import Tokens
from simcloud.gcp.firewalls import Firewalls
from simcloud.gcp.inventory import Inventory
from simcloud.gcp.ledger import Ledger
from simcloud.gcp.lifecycle import Lifecycle
from simcloud.gcp.metadata_server import MetadataServers
from simcloud.gcp.operations import Operations
from simcloud.gcp.power import Power
from simcloud.gcp.quotas import Quotas
from simcloud.gcp.render import Renderer
from simcloud.gcp.stockouts import Stockouts
from simcloud.gcp.watch import Watch

PROJECT = "simcloud-demo"
"""The one project there is."""


class Service:
    """All parts of the Google side."""

    def __init__(self, context: CloudContext) -> None:
        self.context = context
        self.project = PROJECT
        store, clock = context.store, context.clock
        self.tokens = Tokens(store=store, project=PROJECT, token_uri=f"{context.gcp_url}/token")
        self.credentials_file = context.settings.state.resolve() / "gcp-credentials.json"
        self.tokens.write_credentials(self.credentials_file)
        self._anonymous_allowed = context.settings.gcp_anonymous
        self.inventory = Inventory(store=store, project=PROJECT)
        self.firewalls = Firewalls(store=store, project=PROJECT)
        self.operations = Operations(store=store, clock=clock, project=PROJECT)
        self.ledger = Ledger(store=store, clock=clock)
        self.stockouts = Stockouts(store)
        self.quotas = Quotas(
            store=store, inventory=self.inventory, enforced=context.settings.strict
        )
        self.addresses = Addresses(
            store=store,
            pool=context.addresses,
            ledger=self.ledger,
            quotas=self.quotas,
            project=PROJECT,
        )
        self.renderer = Renderer(project=PROJECT, inventory=self.inventory)
        self.metadata = MetadataServers(
            inventory=self.inventory, tokens=self.tokens, project=PROJECT
        )
        self.power = Power(
            context,
            project=PROJECT,
            inventory=self.inventory,
            ledger=self.ledger,
            metadata=self.metadata,
            stockouts=self.stockouts,
        )
        self.lifecycle = Lifecycle(
            context, inventory=self.inventory, operations=self.operations, power=self.power
        )
        self.watch = Watch(context, inventory=self.inventory, lifecycle=self.lifecycle)
        self._watching: asyncio.Task[None] | None = None

    @property
    def anonymous_allowed(self) -> bool:
        """Whether requests without credentials are served."""
        return self._anonymous_allowed

    def allow_anonymous(self, allowed: bool) -> None:
        """Choose whether requests without credentials are served, until the next start."""
        self._anonymous_allowed = allowed

    async def start(self) -> None:
        """Take up where an earlier simcloud with this state ended, and begin to watch."""
        self.lifecycle.take_up(last_seen=self.watch.last_seen())
        self._watching = asyncio.create_task(self.watch.run())

    async def stop(self) -> None:
        """End all background work; machines are ended by the engine's owner."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self.lifecycle.close()
        self.metadata.close_all()
