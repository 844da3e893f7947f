"""The two views for people with SQL or Datasette."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the views."""
    op.execute(
        """
CREATE VIEW run_metrics AS
SELECT e.name AS experiment, r.experiment_id, r.id AS run_id, r.test, r.case_id, r.run_index, r.status,
       r.duration_s, r.params, r.tags, m.name AS metric, m.kind, m.value, m.better
FROM experiment_runs AS r
JOIN experiments AS e ON e.id = r.experiment_id
LEFT JOIN metrics AS m ON m.run_id = r.id
"""
    )
    op.execute(
        """
CREATE VIEW metric_summary AS
SELECT e.name AS experiment, s.experiment_id, s.test, s.case_id,
       CASE WHEN s.case_id IS NULL THEN 'test' ELSE 'case' END AS level,
       s.metric, s.n, s.missing, s.mean, s.sd, s.min, s.median, s.max, s.low, s.high, s.method
FROM summaries AS s
JOIN experiments AS e ON e.id = s.experiment_id
"""
    )
