"""ledger: what was rented when at which price, and what it cost."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "rentals",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False, comment="the provider's id"),
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False, comment="gpu or standby"),
        sa.Column("gpu", sa.Text(), nullable=True),
        sa.Column("gpu_count", sa.Integer(), nullable=True),
        sa.Column("host_id", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("rental", sa.Text(), nullable=True),
        sa.Column("machine_type", sa.Text(), nullable=True),
        sa.Column("disk_gb", sa.Double(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="by the provider's clock, or when it was intended",
        ),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "missing_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="no proof of anything yet",
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True, comment="verified"),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="by this server's clock",
        ),
        sa.Column(
            "metered_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="the change up to which its lines are written",
        ),
        sa.PrimaryKeyConstraint("provider", "resource_id", name=op.f("pk_rentals")),
        comment="What providers bill us for, from its first second to its last.",
    )
    op.create_index("ix_rentals_machine_id", "rentals", ["machine_id"], unique=False)
    op.create_index(
        "ix_rentals_open",
        "rentals",
        ["provider"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "ix_rentals_unmetered",
        "rentals",
        ["metered_at"],
        unique=False,
        postgresql_where=sa.text("metered_at IS NULL OR metered_at < changed_at"),
    )
    op.create_table(
        "price_changes",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("usd_per_hour", sa.Double(), nullable=True),
        sa.Column("disk_usd_per_hour", sa.Double(), nullable=True),
        sa.Column("address_usd_per_hour", sa.Double(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "resource_id", "at", name=op.f("pk_price_changes")),
        comment="State and prices of rentals as they were seen, from a moment on.",
    )
    op.create_table(
        "ledger",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False, comment="of UTC"),
        sa.Column("machine_id", sa.Text(), nullable=True),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("quantity", sa.Double(), nullable=True),
        sa.Column("usd", sa.Double(), nullable=True, comment="null: unknown, never zero"),
        sa.Column(
            "known_usd", sa.Double(), nullable=True, comment="what is known of an unknown usd"
        ),
        sa.Column("gpu", sa.Text(), nullable=True),
        sa.Column("gpu_count", sa.Integer(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("rental", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("billed_seconds", sa.Double(), nullable=True),
        sa.Column("billed_usd", sa.Double(), nullable=True),
        sa.Column("billed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "billed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the bill was read; null: no bill has it",
        ),
        sa.Column("metered_seconds", sa.Double(), nullable=True),
        sa.Column("metered_usd", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("provider", "resource_id", "item", "day", name=op.f("pk_ledger")),
        comment="One line for each resource, item and day.",
    )
    op.create_index("ix_ledger_machine_id_day", "ledger", ["machine_id", "day"], unique=False)
    op.create_index(
        "ix_ledger_owner_page",
        "ledger",
        ["owner_id", "day", "provider", "resource_id", "item"],
        unique=False,
    )
    op.create_table(
        "ledger_marks",
        sa.Column(
            "name", sa.Text(), nullable=False, comment="`bills/<provider>/<account>` or `events`"
        ),
        sa.Column("day", sa.Date(), nullable=True, comment="the last day whose bill is settled"),
        sa.Column(
            "at", sa.DateTime(timezone=True), nullable=True, comment="when the bill was read last"
        ),
        sa.Column(
            "seq", sa.BigInteger(), nullable=True, comment="the last event that was followed"
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ledger_marks")),
        comment="How far the ledger has read.",
    )
