"""The tables. `migrations/` creates them; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
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

snapshot_tries = Table(
    "snapshot_tries",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("tried_at", _Time, nullable=False),
    Column("failures", Integer, nullable=False, comment="in a row"),
    Column("error", Text, nullable=False),
    comment="The last one of each machine.",
)
