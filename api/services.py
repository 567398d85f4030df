"""What the API's routes stand on, put together once per process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from activities.market import Browse, Browsed
from api.commands import Commands
from api.hours_commands import HoursCommands
from api.metrics import Metrics
from api.remember import Remembered
from api.savings_report import Savings
from api.snapshot_commands import SnapshotCommands
from api.stream import Hub
from dumont.config import Settings
from dumont.db.activity import PostgresActivity
from dumont.db.api_keys import ApiKeys
from dumont.db.budgets import PostgresBudgets, spent_of_ledger
from dumont.db.engine import Database
from dumont.db.events import EventLog
from dumont.db.heartbeats import PostgresHeartbeats
from dumont.db.ledger import PostgresLedger
from dumont.db.leftovers import PostgresLeftovers
from dumont.db.login_failures import LoginFailures
from dumont.db.machine_spans import MachineSpans
from dumont.db.machines import Machines
from dumont.db.receipts import PostgresReceipts
from dumont.db.savings import SavingsRecords
from dumont.db.sessions import Sessions
from dumont.db.snapshots import PostgresSnapshots
from dumont.db.ssh_keys import SshKeys
from dumont.db.users import Users
from dumont.db.working_hours import PostgresWorkingHours
from dumont.security.keys import Keys, load_or_create_keys
from dumont.security.passwords import Passwords
from dumont.security.tokens import AccessTokens
from dumont.temporal.codec import CodecKey, EncryptionCodec


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of one API process."""

    settings: Settings
    keys: Keys
    database: Database
    users: Users
    sessions: Sessions
    api_keys: ApiKeys
    ssh_keys: SshKeys
    login_failures: LoginFailures
    machines: Machines
    heartbeats: PostgresHeartbeats
    activity: PostgresActivity
    receipts: PostgresReceipts
    snapshots: PostgresSnapshots
    ledger: PostgresLedger
    savings: Savings
    leftovers: PostgresLeftovers
    budgets: PostgresBudgets
    working_hours: PostgresWorkingHours
    event_log: EventLog
    hub: Hub
    commands: Commands
    snapshot_commands: SnapshotCommands
    hours_commands: HoursCommands
    offers: Remembered[Browse, Browsed]
    codec: EncryptionCodec
    passwords: Passwords
    access_tokens: AccessTokens
    metrics: Metrics
    owner_known: asyncio.Event
    """Set once there is somebody who can log in."""

    @property
    def session_life(self) -> timedelta:
        """How long a log-in lasts without being renewed."""
        return timedelta(seconds=self.settings.refresh_token_s)


def compose(settings: Settings) -> Services:
    """Put the parts together. Opens no connection.

    Raises:
        DependencyUnavailable: The keys file cannot be used.
        InvalidInput: A URL of the settings is malformed.
    """
    keys = load_or_create_keys(settings.keys_path)
    codec_keys = [CodecKey(key_id=key.key_id, key=key.key) for key in keys.codec]
    database = Database(settings.database_url.get_secret_value())
    machines, event_log = Machines(database), EventLog(database)
    metrics = Metrics()
    commands = Commands(settings, codec_keys=codec_keys)
    return Services(
        settings=settings,
        keys=keys,
        database=database,
        users=Users(database),
        sessions=Sessions(database),
        api_keys=ApiKeys(database),
        ssh_keys=SshKeys(database),
        login_failures=LoginFailures(database),
        machines=machines,
        heartbeats=PostgresHeartbeats(database),
        activity=PostgresActivity(database),
        receipts=PostgresReceipts(database),
        snapshots=PostgresSnapshots(database),
        ledger=PostgresLedger(database),
        savings=Savings(
            ledger=PostgresLedger(database),
            spans=MachineSpans(database),
            records=SavingsRecords(database),
        ),
        leftovers=PostgresLeftovers(database),
        budgets=PostgresBudgets(database, spent=spent_of_ledger(database)),
        working_hours=PostgresWorkingHours(database),
        event_log=event_log,
        hub=Hub(
            database=database,
            event_log=event_log,
            machines=machines,
            settings=settings,
            metrics=metrics,
        ),
        # Vast.ai counts searches by the day.
        offers=Remembered(for_s=10),
        commands=commands,
        snapshot_commands=SnapshotCommands(commands),
        hours_commands=HoursCommands(commands),
        codec=EncryptionCodec(codec_keys),
        passwords=Passwords(),
        access_tokens=AccessTokens(
            keys.token, issuer=f"dumont/{settings.env}", lifetime_s=settings.access_token_s
        ),
        metrics=metrics,
        owner_known=asyncio.Event(),
    )
