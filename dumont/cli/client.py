"""The API as typed calls: one method for each thing a command asks of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import httpx
from pydantic import BaseModel

from dumont.cli.calls import Calls, body, part
from dumont.cli.credentials import Server
from dumont.cli.http import Http
from dumont.cli.sse import Message, decode, lines
from dumont.domain.protection import Barrier
from dumont.domain.resources import (
    Accepted,
    ApiKeyCreate,
    ApiKeyCreated,
    ApiKeyView,
    DrillOrder,
    EventPage,
    EventView,
    HibernateOrder,
    LogText,
    MachineCreate,
    MachinePage,
    MachineView,
    OfferList,
    ReceiptList,
    ReceiptView,
    SshKeyCreate,
    SshKeyView,
    UserView,
    WakeQuoteView,
)

if TYPE_CHECKING:
    from dumont.cli.budget_calls import BudgetCalls
    from dumont.cli.hours_calls import HoursCalls
    from dumont.cli.idle_calls import IdleCalls
    from dumont.cli.ledger_calls import LedgerCalls
    from dumont.cli.savings_calls import SavingsCalls
    from dumont.cli.snapshot_calls import SnapshotCalls
    from dumont.domain.leftover_resources import LeftoverList

FLUSH_TIMEOUT = httpx.Timeout(connect=5, read=700, write=10, pool=5)
"""Seconds. The server itself waits for a barrier for about eleven minutes."""

PAGE = 200
"""Items asked for at once: the most the API gives."""


class Api(Calls):
    """A server's API.

    Every method raises the `DumontError` the server named, or `DependencyUnavailable` when it does
    not answer. Reads are repeated when the server asks for patience.
    """

    def __init__(
        self,
        *,
        server: Server,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(
            http=Http(server=server, transport=transport)
            if sleep is None
            else Http(server=server, transport=transport, sleep=sleep)
        )

    @property
    def url(self) -> str:
        """The server's address."""
        return self._http.server.url

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def snapshots(self) -> SnapshotCalls:
        """What the server does about snapshots, over the same connection."""
        from dumont.cli.snapshot_calls import SnapshotCalls  # most commands need none of it

        return SnapshotCalls(http=self._http)

    @property
    def budgets(self) -> BudgetCalls:
        """What the server does about budgets, over the same connection."""
        from dumont.cli.budget_calls import BudgetCalls  # most commands need none of it

        return BudgetCalls(http=self._http)

    @property
    def hours(self) -> HoursCalls:
        """What the server does about working hours, over the same connection."""
        from dumont.cli.hours_calls import HoursCalls  # most commands need none of it

        return HoursCalls(http=self._http)

    @property
    def ledger(self) -> LedgerCalls:
        """What the server's ledger has, over the same connection."""
        from dumont.cli.ledger_calls import LedgerCalls  # most commands need none of it

        return LedgerCalls(http=self._http)

    @property
    def savings(self) -> SavingsCalls:
        """What the server knows of savings, over the same connection."""
        from dumont.cli.savings_calls import SavingsCalls  # most commands need none of it

        return SavingsCalls(http=self._http)

    @property
    def idle(self) -> IdleCalls:
        """What the server does about idleness, over the same connection."""
        from dumont.cli.idle_calls import IdleCalls  # most commands need none of it

        return IdleCalls(http=self._http)

    # Account

    def me(self) -> UserView:
        """Who we are to the server."""
        return self._read("/auth/me", UserView)

    def log_out(self, *, refresh_token: str) -> None:
        """Revoke a refresh token."""
        self._http.call("POST", "/auth/logout", json={"refresh_token": refresh_token})

    def ssh_keys(self) -> list[SshKeyView]:
        """The owner's stored public keys."""
        return self._read_list("/ssh-keys", SshKeyView)

    def add_ssh_key(self, *, key: SshKeyCreate) -> SshKeyView:
        """Store a public key."""
        return self._parse(self._http.call("POST", "/ssh-keys", json=body(key)), SshKeyView)

    def remove_ssh_key(self, *, key_id: str) -> None:
        """Forget a public key. Machines that have it keep it."""
        self._http.call("DELETE", f"/ssh-keys/{part(key_id)}", repeatable=True)

    def api_keys(self) -> list[ApiKeyView]:
        """The owner's API keys, without their secrets."""
        return self._read_list("/api-keys", ApiKeyView)

    def create_api_key(self, *, key: ApiKeyCreate) -> ApiKeyCreated:
        """Make an API key; the only time its secret is seen."""
        return self._parse(self._http.call("POST", "/api-keys", json=body(key)), ApiKeyCreated)

    def revoke_api_key(self, *, key_id: str) -> None:
        """End an API key at once."""
        self._http.call("DELETE", f"/api-keys/{part(key_id)}", repeatable=True)

    # Machines

    def create_machine(self, *, machine: MachineCreate, idempotency_key: str) -> MachineView:
        """Ask for a machine; the same key again answers with the same machine."""
        response = self._http.call(
            "POST",
            "/machines",
            # What was not said is the server's to choose: it knows whether it has standbys.
            json=machine.model_dump(mode="json", exclude_unset=True),
            headers={"Idempotency-Key": idempotency_key},
            repeatable=True,
        )
        return self._parse(response, MachineView)

    def machine(self, *, ref: str, timeout: httpx.Timeout | None = None) -> MachineView:
        """A machine by its name or id."""
        return self._parse(
            self._http.call("GET", f"/machines/{part(ref)}", timeout=timeout), MachineView
        )

    def machines(
        self,
        *,
        phases: Sequence[str] = (),
        limit: int | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> Iterator[MachineView]:
        """All machines, page by page.

        Args:
            phases: Only those in these phases; all but destroyed ones when empty.
            limit: Stop after so many.
            timeout: Another one than usual, for shell completion.
        """
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            response = self._http.call(
                "GET",
                "/machines",
                params={"cursor": cursor, "limit": size, "phase": list(phases) or None},
                timeout=timeout,
                repeatable=timeout is None,
            )
            page = self._parse(response, MachinePage)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return
            left = None if left is None else left - len(page.items)

    def destroy_machine(self, *, ref: str) -> MachineView:
        """Ask for a machine's end; asking twice is the same."""
        response = self._http.call("DELETE", f"/machines/{part(ref)}", repeatable=True)
        return self._parse(response, Accepted).machine

    # Protection

    def drill(self, *, ref: str, order: DrillOrder) -> MachineView:
        """Ask a machine to fail over on purpose; asked twice by a lost answer, it does it once."""
        return self._command(ref, "drill", order)

    def fail_back(self, *, ref: str) -> MachineView:
        """Let a machine return to its GPU as soon as that has everything."""
        return self._command(ref, "fail-back")

    def hibernate(self, *, ref: str, order: HibernateOrder) -> MachineView:
        """Ask a machine to keep its workspace and give back what it rents."""
        return self._command(ref, "hibernate", order)

    def wake(self, *, ref: str) -> MachineView:
        """Ask a hibernated machine to come back."""
        return self._command(ref, "wake")

    def wake_quote(self, *, ref: str) -> WakeQuoteView:
        """What waking a machine would cost and take now."""
        return self._read(f"/machines/{part(ref)}/wake-quote", WakeQuoteView)

    def _command(self, ref: str, what: str, order: BaseModel | None = None) -> MachineView:
        """Send a machine a wish, as often as it takes: it is carried out once."""
        response = self._http.call(
            "POST",
            f"/machines/{part(ref)}/{what}",
            json=body(order) if order is not None else None,
            headers={"Idempotency-Key": str(uuid.uuid4())},
            repeatable=True,
        )
        return self._parse(response, Accepted).machine

    def flush(self, *, ref: str) -> Barrier:
        """Wait until everything written before is on the standby."""
        response = self._http.call(
            "POST", f"/machines/{part(ref)}/flush", repeatable=True, timeout=FLUSH_TIMEOUT
        )
        return self._parse(response, Barrier)

    def receipts(self, *, ref: str) -> ReceiptList:
        """The receipts of a machine's failovers, newest first."""
        return self._read(f"/machines/{part(ref)}/receipts", ReceiptList)

    def receipt(self, *, ref: str, number: int) -> ReceiptView:
        """One of them."""
        return self._read(f"/machines/{part(ref)}/receipts/{number}", ReceiptView)

    def machine_events(self, *, ref: str, limit: int | None = None) -> Iterator[EventView]:
        """A machine's events, newest first."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self._read(f"/machines/{part(ref)}/events", EventPage, cursor=cursor, limit=size)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return
            left = None if left is None else left - len(page.items)

    def logs(self, *, ref: str) -> LogText:
        """What the provider has of the instance's output."""
        return self._read(f"/machines/{part(ref)}/logs", LogText)

    def leftovers(self) -> LeftoverList:
        """What costs money although no machine runs on it, as the last sweeps found it."""
        from dumont.domain.leftover_resources import LeftoverList

        return self._read("/leftovers", LeftoverList)

    def offers(self, **query: str | float | None) -> OfferList:
        """What the market rents now; the parameters of `GET /offers`."""
        return self._read("/offers", OfferList, **query)

    def stream(self, *, after: int | None = None, machine: str | None = None) -> Generator[Message]:
        """The event stream, message by message, pings included.

        Args:
            after: Start behind this event; None starts now.
            machine: Only this machine's.

        Raises:
            DependencyUnavailable: It broke; what came before stands.
        """
        with self._http.stream("/events", params={"after": after, "machine": machine}) as response:
            yield from decode(lines(response.iter_text()))
