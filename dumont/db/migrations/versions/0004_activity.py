"""activity: what agents saw by the minute, and what owners want of idleness."""

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
