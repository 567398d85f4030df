"""snapshots: what is known of them, and what owners want."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "snapshots",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "forgotten_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="deleted from the repository",
        ),
        sa.Column("record", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", "snapshot_id", name=op.f("pk_snapshots")),
        comment="A copy of what the repository says; the repository is the truth.",
    )
    op.create_table(
        "snapshot_policies",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("policy", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_snapshot_policies")),
        comment="Only of machines whose owner said something.",
    )
    op.create_table(
        "snapshot_tries",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("tried_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False, comment="in a row"),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_snapshot_tries")),
        comment="The last one of each machine.",
    )
