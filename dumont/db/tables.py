"""The tables. `migrations/` creates them; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Time = DateTime(timezone=True)
_LIVE = text("phase <> 'destroyed'")

users = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("email", Text, nullable=False, unique=True, comment="lower case"),
    Column("password_hash", Text, nullable=False),
    Column("is_admin", Boolean, nullable=False),
    Column("created_at", _Time, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("user_id", ForeignKey("users.user_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("cookie_digest", LargeBinary, nullable=False, unique=True),
    Column("created_at", _Time, nullable=False),
    Column("expires_at", _Time, nullable=False, index=True),
    Column("revoked_at", _Time),
    Column("revoked_because", Text),
    comment="One log-in: the family of its refresh tokens, and its browser cookie.",
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column(
        "session_id",
        ForeignKey("sessions.session_id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("parent", LargeBinary, comment="digest of the token that it was exchanged for"),
    Column("created_at", _Time, nullable=False),
    Column("used_at", _Time),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("user_id", ForeignKey("users.user_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", _Time, nullable=False),
    Column("expires_at", _Time),
    Column("last_used_at", _Time),
    Column("revoked_at", _Time),
)

ssh_keys = Table(
    "ssh_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("user_id", ForeignKey("users.user_id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("created_at", _Time, nullable=False),
    UniqueConstraint("user_id", "fingerprint"),
)

login_failures = Table(
    "login_failures",
    metadata,
    Column("bucket", Text, primary_key=True, comment="who is counted: an address, or with a name"),
    Column("failures", Integer, nullable=False),
    Column("window_ends_at", _Time, nullable=False),
)

machines = Table(
    "machines",
    metadata,
    Column("machine_id", Text, primary_key=True),
    # No foreign key: a projection must never refuse what a workflow reports.
    Column("owner_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("version", Integer, nullable=False, comment="MachineState.version, the fence"),
    Column("spec", JSONB, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("ladder", JSONB, nullable=False, server_default=text("'{}'")),
    Column("created_at", _Time, nullable=False),
    Column("updated_at", _Time, nullable=False),
    Index("uq_machines_live_name", "owner_id", "name", unique=True, postgresql_where=_LIVE),
    Index("ix_machines_live_page", "owner_id", "created_at", "machine_id", postgresql_where=_LIVE),
    Index("ix_machines_phase_page", "owner_id", "phase", "created_at", "machine_id"),
    Index("ix_machines_owner_name", "owner_id", "name", "created_at"),
)

machine_secrets = Table(
    "machine_secrets",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("host_key_public", Text, nullable=False),
    Column("access_key_public", Text, nullable=False),
    Column("key_id", Text, nullable=False, comment="the vault key that sealed it"),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", _Time, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("machine_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", _Time, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("summary", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    UniqueConstraint("machine_id", "key"),
    Index("ix_events_machine_page", "machine_id", "seq"),
    comment="Written only under the append lock: seq order is the order of becoming visible.",
)

intents = Table(
    "intents",
    metadata,
    Column("label", Text, primary_key=True),
    Column("machine_id", Text, nullable=False, index=True),
    Column("generation", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("provider", Text, nullable=False),
    Column("offer_id", Text, nullable=False),
    Column("host_id", Text),
    Column("usd_per_hour", Double, nullable=False),
    Column("at", _Time, nullable=False),
    Column("outcome", Text),
    Column("closed_at", _Time),
)

bad_hosts = Table(
    "bad_hosts",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("host_id", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("last_failed_at", _Time, nullable=False),
)

sightings = Table(
    "sightings",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("first_seen_at", _Time, nullable=False),
    Column("last_seen_at", _Time, nullable=False),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("instance_id", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("boot_id", Text),
    Column("received_at", _Time, nullable=False, comment="by this server's clock"),
    Column("heartbeat", JSONB, nullable=False),
    Column("told", JSONB, comment="what the machine's workflow was told last"),
    comment="The newest of each body; older ones are not kept.",
)

receipts = Table(
    "receipts",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("detected_at", _Time, nullable=False),
    Column("closed_at", _Time, nullable=False),
    Column("digest", Text, nullable=False, comment="SHA-256 of the canonical JSON"),
    Column("receipt", JSONB, nullable=False),
    comment="Filed once, never changed.",
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("snapshot_id", Text, primary_key=True),
    Column("taken_at", _Time, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("verified_at", _Time),
    Column("forgotten_at", _Time, comment="deleted from the repository"),
    Column("record", JSONB, nullable=False),
    comment="A copy of what the repository says; the repository is the truth.",
)

snapshot_policies = Table(
    "snapshot_policies",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("policy", JSONB, nullable=False),
    comment="Only of machines whose owner said something.",
)

working_hours = Table(
    "working_hours",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("hours", JSONB, nullable=False),
    comment="Only of machines that have any.",
)

snapshot_tries = Table(
    "snapshot_tries",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("tried_at", _Time, nullable=False),
    Column("failures", Integer, nullable=False, comment="in a row"),
    Column("error", Text, nullable=False),
    comment="The last one of each machine.",
)

activity_readings = Table(
    "activity_readings",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("at", _Time, primary_key=True, comment="the second, by this server's clock"),
    Column("reading", JSONB, nullable=False),
    Index("ix_activity_readings_at", "at"),
    comment="What primaries' agents saw in minutes that are not merged yet.",
)

activity = Table(
    "activity",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("minute", _Time, primary_key=True),
    Column("sample", JSONB, nullable=False),
    Index("ix_activity_minute", "minute"),
    comment="Minutes that are over; deleted after eight days.",
)

idle_policies = Table(
    "idle_policies",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("policy", JSONB, nullable=False),
    comment="Only of machines whose owner said something.",
)

keep_alives = Table(
    "keep_alives",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("keep_alive", JSONB, nullable=False),
)

idle_states = Table(
    "idle_states",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("generation", Integer, nullable=False, comment="another one begins anew"),
    Column("state", JSONB, nullable=False),
    comment="Whom idleness warned, and who refused it.",
)

budgets = Table(
    "budgets",
    metadata,
    Column("key", Text, primary_key=True, comment="machine/<id>, owner/<id> or total"),
    Column("owner_id", Text, comment="null: of the whole deployment"),
    Column("budget", JSONB, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("set_at", _Time, nullable=False),
    Column("above_since", _Time, comment="since when $/h is above its cap, without a break"),
    Index("ix_budgets_owner_id", "owner_id"),
)

budget_acts = Table(
    "budget_acts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("at", _Time, nullable=False),
    Column("budget_key", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("owner_id", Text, comment="null: of the whole deployment"),
    Column("machine_id", Text),
    Column("act", JSONB, nullable=False),
    Index("ix_budget_acts_budget_key", "budget_key", "period"),
    Index("ix_budget_acts_owner_id", "owner_id", "at"),
    comment="Receipts. Filed once, never changed.",
)

budget_reservations = Table(
    "budget_reservations",
    metadata,
    Column("label", Text, primary_key=True, comment="of the attempt that rents"),
    Column("machine_id", Text, nullable=False),
    Column("owner_id", Text, nullable=False, index=True),
    Column("generation", Integer, nullable=False),
    Column("usd_per_hour", Double, nullable=False),
    Column("reserved_at", _Time, nullable=False),
    Column("released_at", _Time),
    comment="What is being rented and is in no machine's record yet.",
)

leftover_surveys = Table(
    "leftover_surveys",
    metadata,
    Column("source", Text, primary_key=True, comment="where the sweep looked"),
    Column("surveyed_at", _Time, nullable=False),
    Column("survey", JSONB, nullable=False),
    comment="What the last sweep over leftovers found at each source.",
)

rentals = Table(
    "rentals",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True, comment="the provider's id"),
    Column("machine_id", Text, nullable=False),
    Column("owner_id", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("role", Text, nullable=False, comment="gpu or standby"),
    Column("gpu", Text),
    Column("gpu_count", Integer),
    Column("host_id", Text),
    Column("region", Text),
    Column("rental", Text),
    Column("machine_type", Text),
    Column("disk_gb", Double),
    Column("created_at", _Time, comment="by the provider's clock, or when it was intended"),
    Column("first_seen_at", _Time, nullable=False),
    Column("last_seen_at", _Time),
    Column("missing_since", _Time, comment="no proof of anything yet"),
    Column("ended_at", _Time, comment="verified"),
    Column("ended_by", Text),
    Column("changed_at", _Time, nullable=False, comment="by this server's clock"),
    Column("metered_at", _Time, comment="the change up to which its lines are written"),
    Index("ix_rentals_open", "provider", postgresql_where=text("ended_at IS NULL")),
    Index("ix_rentals_machine_id", "machine_id"),
    Index(
        "ix_rentals_unmetered",
        "metered_at",
        postgresql_where=text("metered_at IS NULL OR metered_at < changed_at"),
    ),
    comment="What providers bill us for, from its first second to its last.",
)

price_changes = Table(
    "price_changes",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("at", _Time, primary_key=True),
    Column("state", Text, nullable=False),
    Column("usd_per_hour", Double),
    Column("disk_usd_per_hour", Double),
    Column("address_usd_per_hour", Double),
    Column("source", Text, nullable=False),
    comment="State and prices of rentals as they were seen, from a moment on.",
)

ledger = Table(
    "ledger",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("day", Date, primary_key=True, comment="of UTC"),
    Column("machine_id", Text),
    Column("owner_id", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("basis", Text, nullable=False),
    Column("start", _Time, nullable=False),
    Column("end", _Time, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("quantity", Double),
    Column("usd", Double, comment="null: unknown, never zero"),
    Column("known_usd", Double, comment="what is known of an unknown usd"),
    Column("gpu", Text),
    Column("gpu_count", Integer),
    Column("region", Text),
    Column("rental", Text),
    Column("source", Text, nullable=False),
    Column("billed_seconds", Double),
    Column("billed_usd", Double),
    Column("billed_until", _Time),
    Column("billed_at", _Time, comment="when the bill was read; null: no bill has it"),
    Column("metered_seconds", Double),
    Column("metered_usd", Double),
    Index("ix_ledger_owner_page", "owner_id", "day", "provider", "resource_id", "item"),
    Index("ix_ledger_machine_id_day", "machine_id", "day"),
    Index("ix_ledger_day", "day"),
    comment="One line for each resource, item and day.",
)

ledger_marks = Table(
    "ledger_marks",
    metadata,
    Column("name", Text, primary_key=True, comment="`bills/<provider>/<account>` or `events`"),
    Column("day", Date, comment="the last day whose bill is settled"),
    Column("at", _Time, comment="when the bill was read last"),
    Column("seq", BigInteger, comment="the last event that was followed"),
    comment="How far the ledger has read.",
)
