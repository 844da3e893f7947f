"""The tables of the store, their indexes and the two views for people with SQL.

Table and column names are a contract: columns are added by a migration, never renamed. The columns that can be
large stand last in a table, so that a read of the small ones stays off SQLite's overflow pages.
"""

from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    text,
)

from pytest_llmexp.store import columns

VERSIONS: Final = ("0001", "0002", "0003", "0004")
"""Every schema version this package knows, oldest first: the revisions in migrations/versions."""

VERSION_TABLE: Final = "llmexp_version"

metadata = MetaData()

version = Table(
    VERSION_TABLE,
    MetaData(),  # apart: Alembic looks after it
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)

experiments = Table(
    "experiments",
    metadata,
    columns.key("id"),
    columns.text("name"),
    columns.exact("status"),
    columns.exact("started_at"),
    columns.exact("finished_at", nullable=True),
    columns.integer("exit_status"),
    columns.text("git_commit", nullable=True),
    columns.text("git_branch", nullable=True),
    columns.integer("git_dirty", kind="flag"),
    columns.text("command"),
    columns.text("python_version"),
    columns.text("platform"),
    columns.json("packages"),
    columns.text("user", nullable=True),
    columns.json("tags"),
    columns.json("metadata"),
    columns.text("model_source"),
    columns.one_of("status", "running", "finished", "interrupted"),
    *columns.valid("packages", "tags", "metadata"),
    Index("ix_experiments_name", "name", "id"),
)

experiment_runs = Table(
    "experiment_runs",
    metadata,
    columns.key("id"),
    columns.exact("experiment_id", columns.parent("experiments")),
    columns.exact("test"),
    columns.exact("case_id"),
    columns.json("params"),
    columns.integer("run_index", nullable=False),
    columns.exact("status"),
    columns.exact("phase", nullable=True),
    columns.exact("started_at"),
    columns.number("duration_s"),
    columns.text("worker"),
    columns.json("tags"),
    columns.text("error", nullable=True),
    columns.json("input", nullable=True),
    columns.json("output", nullable=True),
    columns.json("expected", nullable=True),
    columns.one_of("status", "running", "passed", "failed", "error", "skipped", "crashed"),
    columns.one_of("phase", "setup", "call", "teardown"),
    CheckConstraint("run_index >= 1"),
    *columns.valid("params", "tags"),
    Index("ix_experiment_runs_experiment", "experiment_id", "id"),
    Index("ix_experiment_runs_place", "test", "case_id", "run_index"),  # finds the same run of other experiments
)

calls = Table(
    "calls",
    metadata,
    columns.key("id"),
    columns.exact("experiment_id", columns.parent("experiments")),
    columns.exact("run_id", columns.parent("experiment_runs"), nullable=True),
    columns.exact("parent_call_id", nullable=True),
    columns.exact("step_id", nullable=True),
    columns.integer("ordinal", nullable=False),
    columns.exact("role"),
    columns.exact("bot_id", nullable=True),
    columns.text("client", nullable=True),
    columns.text("endpoint"),
    columns.text("model_requested", nullable=True),
    columns.text("model_returned", nullable=True),
    columns.number("temperature"),
    columns.exact("status"),
    columns.integer("attempts", nullable=False),
    columns.exact("started_at"),
    columns.number("latency_s"),
    columns.number("first_token_s"),
    columns.number("wait_s"),
    columns.text("finish_reason", nullable=True),
    columns.integer("input_tokens"),
    columns.integer("output_tokens"),
    columns.integer("cached_tokens"),
    columns.integer("cache_write_tokens"),
    columns.integer("reasoning_tokens"),
    columns.number("cost_usd"),
    columns.text("price_source", nullable=True),
    columns.exact("request_key", nullable=True),
    columns.exact("replayed_from", nullable=True),
    columns.text("error", nullable=True),
    columns.json_twice("request"),
    columns.json("response", nullable=True),
    columns.json("stream", nullable=True),
    columns.one_of("role", "generation", "evaluation"),
    columns.one_of("status", "running", "ok", "error"),
    Index("ix_calls_experiment", "experiment_id"),
    Index("ix_calls_loose", "request_key", sqlite_where=text("run_id IS NULL")),
    # Covers Store.run_totals: the sums never touch the rows, which hold whole conversations.
    Index("ix_calls_run", "run_id", "role", "latency_s", "input_tokens", "output_tokens", "cost_usd"),
)

steps = Table(
    "steps",
    metadata,
    columns.key("id"),
    columns.exact("experiment_id", columns.parent("experiments")),
    columns.exact("run_id", columns.parent("experiment_runs"), nullable=True),
    columns.exact("parent_step_id", nullable=True),
    columns.text("name"),
    columns.text("kind"),
    columns.text("source"),
    columns.exact("started_at"),
    columns.number("duration_s"),
    columns.text("error", nullable=True),
    columns.json("input", nullable=True),
    columns.json("output", nullable=True),
    columns.json("attributes"),
    Index("ix_steps_experiment", "experiment_id"),
    Index("ix_steps_run", "run_id"),
)

bots = Table(
    "bots",
    metadata,
    columns.key("id"),
    columns.exact("experiment_id", columns.parent("experiments")),
    columns.text("name"),
    columns.text("kind"),
    columns.text("model_name"),
    columns.number("temperature"),
    columns.text("system_prompt", nullable=True),
    columns.exact("system_prompt_hash", nullable=True),
    columns.json("params"),
    *columns.valid("params"),
    Index("ix_bots_experiment", "experiment_id"),
)

prompt_versions = Table(
    "prompt_versions",
    metadata,
    columns.key("name"),
    columns.key("hash"),
    columns.text("role"),
    columns.text("template"),
    columns.names("parameters"),
    columns.exact("first_seen_at"),
    *columns.valid("parameters"),
)

prompt_uses = Table(
    "prompt_uses",
    metadata,
    columns.key("run_id", columns.parent("experiment_runs")),
    columns.key("id"),
    columns.exact("hash"),
    columns.exact("name"),
    columns.json("variables"),
    ForeignKeyConstraint(["name", "hash"], ["prompt_versions.name", "prompt_versions.hash"]),
    *columns.valid("variables"),
    Index("ix_prompt_uses_version", "name", "hash"),
)

metrics = Table(
    "metrics",
    metadata,
    columns.key("run_id", columns.parent("experiment_runs")),
    columns.key("name"),
    columns.exact("kind"),
    columns.finite("value"),
    columns.exact("better", nullable=True),
    columns.json("detail"),
    columns.one_of("kind", "boolean", "ordinal", "float"),
    columns.one_of("better", "higher", "lower"),
    CheckConstraint("value > -9e999 AND value < 9e999"),  # 9e999 is SQLite's way to write infinity
    *columns.valid("detail"),
    Index("ix_metrics_name", "name", "run_id", "value", "kind", "better", "detail"),  # covers store/evidence.py
    sqlite_with_rowid=False,  # kept in the order of its key: a run's metrics lie together
)


def _evidence_index(table: str, last: str) -> tuple[Index, Index]:
    """One row per case and one per test. A test's row has no case (NULL), which '' (no parameters) is not."""
    case, test = text("case_id IS NOT NULL"), text("case_id IS NULL")
    return (
        Index(f"uq_{table}_case", "experiment_id", "test", "case_id", last, unique=True, sqlite_where=case),
        Index(f"uq_{table}_test", "experiment_id", "test", last, unique=True, sqlite_where=test),
    )


summaries = Table(
    "summaries",
    metadata,
    columns.exact("experiment_id", columns.parent("experiments")),
    columns.exact("test"),
    columns.exact("case_id", nullable=True),
    columns.exact("metric"),
    columns.integer("n", nullable=False),
    columns.integer("missing", nullable=False),
    *(columns.number(name) for name in ("mean", "sd", "min", "median", "max", "low", "high")),
    columns.text("method"),
    *_evidence_index("summaries", "metric"),
)

verdicts = Table(
    "verdicts",
    metadata,
    columns.exact("experiment_id", columns.parent("experiments")),
    columns.exact("test"),
    columns.exact("case_id", nullable=True),
    columns.exact("gate"),
    columns.exact("verdict"),
    *(columns.number(name) for name in ("estimate", "low", "high")),
    columns.integer("n", nullable=False),
    columns.integer("missing", nullable=False),
    columns.exact("baseline_id", nullable=True),
    columns.text("detail"),
    columns.one_of("verdict", "passed", "failed", "undecided"),
    *_evidence_index("verdicts", "gate"),
)

annotations = Table(
    "annotations",
    metadata,
    columns.key("id"),
    columns.exact("run_id", columns.parent("experiment_runs"), nullable=True),
    columns.exact("call_id", columns.parent("calls"), nullable=True),
    columns.text("author"),
    columns.text("name"),
    columns.number("value"),
    columns.text("comment", nullable=True),
    columns.exact("created_at"),
    Index("ix_annotations_run", "run_id"),
    Index("ix_annotations_call", "call_id"),
)

VIEWS: Final = {
    # A row per run and metric (a view cannot have a column per metric); a run without metrics has one row.
    "run_metrics": """
CREATE VIEW run_metrics AS
SELECT e.name AS experiment, r.experiment_id, r.id AS run_id, r.test, r.case_id, r.run_index, r.status,
       r.duration_s, r.params, r.tags, m.name AS metric, m.kind, m.value, m.better
FROM experiment_runs AS r
JOIN experiments AS e ON e.id = r.experiment_id
LEFT JOIN metrics AS m ON m.run_id = r.id
""",
    # A row per summary, with the name of its experiment; level says whether it is of a case or of a test.
    "metric_summary": """
CREATE VIEW metric_summary AS
SELECT e.name AS experiment, s.experiment_id, s.test, s.case_id,
       CASE WHEN s.case_id IS NULL THEN 'test' ELSE 'case' END AS level,
       s.metric, s.n, s.missing, s.mean, s.sd, s.min, s.median, s.max, s.low, s.high, s.method
FROM summaries AS s
JOIN experiments AS e ON e.id = s.experiment_id
""",
}
