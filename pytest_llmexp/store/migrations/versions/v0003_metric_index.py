"""An index that holds each metric's values together: a summary reads nothing else of the table."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_metrics_name", "metrics", ["name", "run_id", "value", "kind", "better", "detail"])
