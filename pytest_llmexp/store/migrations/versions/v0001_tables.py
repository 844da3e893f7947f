"""All tables and indexes. Written out, not taken from schema.py: that goes on to later versions."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TOTALS = ["run_id", "role", "latency_s", "input_tokens", "output_tokens", "cost_usd"]


def upgrade() -> None:
    """Make the tables, parents before children."""
    _experiments()
    _calls()
    _prompts_and_metrics()
    _evidence()


def _text(name: str, *more: Any, nullable: bool = False, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), *more, nullable=nullable, primary_key=primary_key)


def _integer(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _real(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double().with_variant(sa.REAL(), "sqlite"), nullable=nullable)


def _parent(table: str) -> sa.ForeignKey:
    return sa.ForeignKey(f"{table}.id", ondelete="CASCADE")


def _one_per_case_and_test(table: str, last: str) -> None:
    case, test = sa.text("case_id IS NOT NULL"), sa.text("case_id IS NULL")
    key = ["experiment_id", "test"]
    op.create_index(f"uq_{table}_case", table, [*key, "case_id", last], unique=True, sqlite_where=case)
    op.create_index(f"uq_{table}_test", table, [*key, last], unique=True, sqlite_where=test)


def _experiments() -> None:
    op.create_table(
        "experiments",
        _text("id", primary_key=True),
        _text("name"),
        _text("status"),
        _text("started_at"),
        _text("finished_at", nullable=True),
        _integer("exit_status", nullable=True),
        _text("git_commit", nullable=True),
        _text("git_branch", nullable=True),
        _integer("git_dirty", nullable=True),
        _text("command"),
        _text("python_version"),
        _text("platform"),
        _text("packages"),
        _text("user", nullable=True),
        _text("tags"),
        _text("metadata"),
        _text("model_source"),
        sa.CheckConstraint("status IN ('running', 'finished', 'interrupted')"),
        sa.CheckConstraint("json_valid(packages)"),
        sa.CheckConstraint("json_valid(tags)"),
        sa.CheckConstraint("json_valid(metadata)"),
    )
    op.create_index("ix_experiments_name", "experiments", ["name", "id"])
    op.create_table(
        "experiment_runs",
        _text("id", primary_key=True),
        _text("experiment_id", _parent("experiments")),
        _text("test"),
        _text("case_id"),
        _text("params"),
        _integer("run_index"),
        _text("status"),
        _text("phase", nullable=True),
        _text("started_at"),
        _real("duration_s", nullable=True),
        _text("worker"),
        _text("tags"),
        _text("error", nullable=True),
        _text("input", nullable=True),
        _text("output", nullable=True),
        _text("expected", nullable=True),
        sa.CheckConstraint("status IN ('running', 'passed', 'failed', 'error', 'skipped', 'crashed')"),
        sa.CheckConstraint("phase IN ('setup', 'call', 'teardown')"),
        sa.CheckConstraint("run_index >= 1"),
        sa.CheckConstraint("json_valid(params)"),
        sa.CheckConstraint("json_valid(tags)"),
    )
    op.create_index("ix_experiment_runs_experiment", "experiment_runs", ["experiment_id", "id"])


def _calls() -> None:
    op.create_table(
        "bots",
        _text("id", primary_key=True),
        _text("experiment_id", _parent("experiments")),
        _text("name"),
        _text("kind"),
        _text("model_name"),
        _real("temperature", nullable=True),
        _text("system_prompt", nullable=True),
        _text("system_prompt_hash", nullable=True),
        _text("params"),
        sa.CheckConstraint("json_valid(params)"),
    )
    op.create_index("ix_bots_experiment", "bots", ["experiment_id"])
    op.create_table(
        "calls",
        _text("id", primary_key=True),
        _text("experiment_id", _parent("experiments")),
        _text("run_id", _parent("experiment_runs"), nullable=True),
        _text("parent_call_id", nullable=True),
        _integer("ordinal"),
        _text("role"),
        _text("bot_id", nullable=True),
        _text("client", nullable=True),
        _text("endpoint"),
        _text("model_requested", nullable=True),
        _text("model_returned", nullable=True),
        _real("temperature", nullable=True),
        _text("status"),
        _integer("attempts"),
        _text("started_at"),
        _real("latency_s", nullable=True),
        _real("first_token_s", nullable=True),
        _integer("input_tokens", nullable=True),
        _integer("output_tokens", nullable=True),
        _integer("cached_tokens", nullable=True),
        _integer("reasoning_tokens", nullable=True),
        _real("cost_usd", nullable=True),
        _text("price_source", nullable=True),
        _text("request_key", nullable=True),
        _text("replayed_from", nullable=True),
        _text("error", nullable=True),
        _text("request", nullable=True),
        _text("response", nullable=True),
        sa.CheckConstraint("role IN ('generation', 'evaluation')"),
        sa.CheckConstraint("status IN ('running', 'ok', 'error')"),
    )
    op.create_index("ix_calls_experiment", "calls", ["experiment_id"])
    op.create_index(
        "ix_calls_run", "calls", ["run_id", "role", "latency_s", "input_tokens", "output_tokens", "cost_usd"]
    )


def _prompts_and_metrics() -> None:
    op.create_table(
        "prompt_versions",
        _text("name", primary_key=True),
        _text("hash", primary_key=True),
        _text("role"),
        _text("template"),
        _text("parameters"),
        _text("first_seen_at"),
        sa.CheckConstraint("json_valid(parameters)"),
    )
    op.create_table(
        "prompt_uses",
        _text("run_id", _parent("experiment_runs"), primary_key=True),
        _text("id", primary_key=True),
        _text("hash"),
        _text("name"),
        _text("variables"),
        sa.ForeignKeyConstraint(["name", "hash"], ["prompt_versions.name", "prompt_versions.hash"]),
        sa.CheckConstraint("json_valid(variables)"),
    )
    op.create_index("ix_prompt_uses_version", "prompt_uses", ["name", "hash"])
    op.create_table(
        "metrics",
        _text("run_id", _parent("experiment_runs"), primary_key=True),
        _text("name", primary_key=True),
        _text("kind"),
        _real("value"),
        _text("better", nullable=True),
        _text("detail"),
        sa.CheckConstraint("kind IN ('boolean', 'ordinal', 'float')"),
        sa.CheckConstraint("better IN ('higher', 'lower')"),
        sa.CheckConstraint("value > -9e999 AND value < 9e999"),
        sa.CheckConstraint("json_valid(detail)"),
        sqlite_with_rowid=False,
    )


def _evidence() -> None:
    op.create_table(
        "summaries",
        _text("experiment_id", _parent("experiments")),
        _text("test"),
        _text("case_id", nullable=True),
        _text("metric"),
        _integer("n"),
        _integer("missing"),
        _real("mean", nullable=True),
        _real("sd", nullable=True),
        _real("min", nullable=True),
        _real("median", nullable=True),
        _real("max", nullable=True),
        _real("low", nullable=True),
        _real("high", nullable=True),
        _text("method"),
    )
    op.create_index(
        "uq_summaries_case",
        "summaries",
        ["experiment_id", "test", "case_id", "metric"],
        unique=True,
        sqlite_where=sa.text("case_id IS NOT NULL"),
    )
    op.create_index(
        "uq_summaries_test",
        "summaries",
        ["experiment_id", "test", "metric"],
        unique=True,
        sqlite_where=sa.text("case_id IS NULL"),
    )
    op.create_table(
        "verdicts",
        _text("experiment_id", _parent("experiments")),
        _text("test"),
        _text("case_id", nullable=True),
        _text("gate"),
        _text("verdict"),
        _real("estimate", nullable=True),
        _real("low", nullable=True),
        _real("high", nullable=True),
        _integer("n"),
        _integer("missing"),
        _text("baseline_id", nullable=True),
        _text("detail"),
        sa.CheckConstraint("verdict IN ('passed', 'failed', 'undecided')"),
    )
    op.create_index(
        "uq_verdicts_case",
        "verdicts",
        ["experiment_id", "test", "case_id", "gate"],
        unique=True,
        sqlite_where=sa.text("case_id IS NOT NULL"),
    )
    op.create_index(
        "uq_verdicts_test",
        "verdicts",
        ["experiment_id", "test", "gate"],
        unique=True,
        sqlite_where=sa.text("case_id IS NULL"),
    )
    op.create_table(
        "annotations",
        _text("id", primary_key=True),
        _text("run_id", _parent("experiment_runs"), nullable=True),
        _text("call_id", _parent("calls"), nullable=True),
        _text("author"),
        _text("name"),
        _real("value", nullable=True),
        _text("comment", nullable=True),
        _text("created_at"),
    )
    op.create_index("ix_annotations_call", "annotations", ["call_id"])
    op.create_index("ix_annotations_run", "annotations", ["run_id"])
