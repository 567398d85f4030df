"""budgets, and the receipts of what was done for them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "budgets",
        sa.Column("key", sa.Text(), nullable=False, comment="machine/<id>, owner/<id> or total"),
        sa.Column("owner_id", sa.Text(), nullable=True, comment="null: of the whole deployment"),
        sa.Column("budget", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "above_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="since when $/h is above its cap, without a break",
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_budgets")),
    )
    op.create_index("ix_budgets_owner_id", "budgets", ["owner_id"], unique=False)
    op.create_table(
        "budget_acts",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("budget_key", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=True, comment="null: of the whole deployment"),
        sa.Column("machine_id", sa.Text(), nullable=True),
        sa.Column("act", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_budget_acts")),
        comment="Receipts. Filed once, never changed.",
    )
    op.create_index(
        "ix_budget_acts_budget_key", "budget_acts", ["budget_key", "period"], unique=False
    )
    op.create_index("ix_budget_acts_owner_id", "budget_acts", ["owner_id", "at"], unique=False)
    op.create_table(
        "budget_reservations",
        sa.Column("label", sa.Text(), nullable=False, comment="of the attempt that rents"),
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("usd_per_hour", sa.Double(), nullable=False),
        sa.Column("reserved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("label", name=op.f("pk_budget_reservations")),
        comment="What is being rented and is in no machine's record yet.",
    )
    op.create_index(
        op.f("ix_budget_reservations_owner_id"), "budget_reservations", ["owner_id"], unique=False
    )
    op.create_index("ix_ledger_day", "ledger", ["day"], unique=False)
