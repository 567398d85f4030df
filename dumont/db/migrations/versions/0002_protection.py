"""protection: heartbeats and receipts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "heartbeats",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=True),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="by this server's clock",
        ),
        sa.Column("heartbeat", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "told",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="what the machine's workflow was told last",
        ),
        sa.PrimaryKeyConstraint("machine_id", "role", name=op.f("pk_heartbeats")),
        comment="The newest of each body; older ones are not kept.",
    )
    op.create_table(
        "receipts",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 of the canonical JSON"),
        sa.Column("receipt", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", "number", name=op.f("pk_receipts")),
        comment="Filed once, never changed.",
    )
    op.execute(
        """
        CREATE FUNCTION receipts_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'a receipt is never changed';
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER receipts_are_final BEFORE UPDATE ON receipts
        FOR EACH ROW EXECUTE FUNCTION receipts_are_final()
        """
    )
