"""activity: what agents saw by the minute, and what owners want of idleness."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "activity_readings",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="the second, by this server's clock",
        ),
        sa.Column("reading", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", "at", name=op.f("pk_activity_readings")),
        comment="What primaries' agents saw in minutes that are not merged yet.",
    )
    op.create_index("ix_activity_readings_at", "activity_readings", ["at"], unique=False)
    op.create_table(
        "activity",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sample", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", "minute", name=op.f("pk_activity")),
        comment="Minutes that are over; deleted after eight days.",
    )
    op.create_index("ix_activity_minute", "activity", ["minute"], unique=False)
    op.create_table(
        "idle_policies",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("policy", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_idle_policies")),
        comment="Only of machines whose owner said something.",
    )
    op.create_table(
        "keep_alives",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("keep_alive", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_keep_alives")),
    )
    op.create_table(
        "idle_states",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False, comment="another one begins anew"),
        sa.Column("state", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_idle_states")),
        comment="Whom idleness warned, and who refused it.",
    )
