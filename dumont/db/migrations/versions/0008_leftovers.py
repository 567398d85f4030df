"""what the sweeps over leftovers found last."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "leftover_surveys",
        sa.Column("source", sa.Text(), nullable=False, comment="where the sweep looked"),
        sa.Column("surveyed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("survey", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_leftover_surveys")),
        comment="What the last sweep over leftovers found at each source.",
    )
