"""Steps; what calls need to be told apart by, replayed and hung under steps; an index that finds a run's like.

`calls` is made anew, as the columns that can be large stand last, and `annotations` with it, which refers to it.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OLD = (
    "id, experiment_id, run_id, parent_call_id, ordinal, role, bot_id, client, endpoint, model_requested, "
    "model_returned, temperature, status, attempts, started_at, latency_s, first_token_s, input_tokens, output_tokens, "
    "cached_tokens, reasoning_tokens, cost_usd, price_source, request_key, replayed_from, error, request, response"
)


def upgrade() -> None:
    """Make the table of steps, widen `calls`, make the index."""
    op.create_index("ix_experiment_runs_place", "experiment_runs", ["test", "case_id", "run_index"])
    _steps()
    op.execute("CREATE TEMPORARY TABLE old_annotations AS SELECT * FROM annotations")
    op.drop_table("annotations")
    op.drop_index("ix_calls_experiment", "calls")
    op.drop_index("ix_calls_run", "calls")
    op.rename_table("calls", "old_calls")
    _calls()
    op.execute(f"INSERT INTO calls ({_OLD}) SELECT {_OLD} FROM old_calls")
    op.drop_table("old_calls")
    _annotations()
    op.execute("INSERT INTO annotations SELECT * FROM old_annotations")
    op.execute("DROP TABLE old_annotations")


def _text(name: str, *more: Any, nullable: bool = False, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), *more, nullable=nullable, primary_key=primary_key)


def _integer(name: str, *, nullable: bool = True) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _real(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double().with_variant(sa.REAL(), "sqlite"), nullable=True)


def _parent(table: str) -> sa.ForeignKey:
    return sa.ForeignKey(f"{table}.id", ondelete="CASCADE")


def _steps() -> None:
    op.create_table(
        "steps",
        _text("id", primary_key=True),
        _text("experiment_id", _parent("experiments")),
        _text("run_id", _parent("experiment_runs"), nullable=True),
        _text("parent_step_id", nullable=True),
        _text("name"),
        _text("kind"),
        _text("source"),
        _text("started_at"),
        _real("duration_s"),
        _text("error", nullable=True),
        _text("input", nullable=True),
        _text("output", nullable=True),
        _text("attributes"),
    )
    op.create_index("ix_steps_experiment", "steps", ["experiment_id"])
    op.create_index("ix_steps_run", "steps", ["run_id"])


def _calls() -> None:
    op.create_table(
        "calls",
        _text("id", primary_key=True),
        _text("experiment_id", _parent("experiments")),
        _text("run_id", _parent("experiment_runs"), nullable=True),
        _text("parent_call_id", nullable=True),
        _text("step_id", nullable=True),
        _integer("ordinal", nullable=False),
        _text("role"),
        _text("bot_id", nullable=True),
        _text("client", nullable=True),
        _text("endpoint"),
        _text("model_requested", nullable=True),
        _text("model_returned", nullable=True),
        _real("temperature"),
        _text("status"),
        _integer("attempts", nullable=False),
        _text("started_at"),
        _real("latency_s"),
        _real("first_token_s"),
        _real("wait_s"),
        _text("finish_reason", nullable=True),
        _integer("input_tokens"),
        _integer("output_tokens"),
        _integer("cached_tokens"),
        _integer("cache_write_tokens"),
        _integer("reasoning_tokens"),
        _real("cost_usd"),
        _text("price_source", nullable=True),
        _text("request_key", nullable=True),
        _text("replayed_from", nullable=True),
        _text("error", nullable=True),
        _text("request", nullable=True),
        _text("response", nullable=True),
        _text("stream", nullable=True),
        sa.CheckConstraint("role IN ('generation', 'evaluation')"),
        sa.CheckConstraint("status IN ('running', 'ok', 'error')"),
    )
    op.create_index("ix_calls_experiment", "calls", ["experiment_id"])
    op.create_index("ix_calls_loose", "calls", ["request_key"], sqlite_where=sa.text("run_id IS NULL"))
    totals = ["run_id", "role", "latency_s", "input_tokens", "output_tokens", "cost_usd"]
    op.create_index("ix_calls_run", "calls", totals)


def _annotations() -> None:
    op.create_table(
        "annotations",
        _text("id", primary_key=True),
        _text("run_id", _parent("experiment_runs"), nullable=True),
        _text("call_id", _parent("calls"), nullable=True),
        _text("author"),
        _text("name"),
        _real("value"),
        _text("comment", nullable=True),
        _text("created_at"),
    )
    op.create_index("ix_annotations_run", "annotations", ["run_id"])
    op.create_index("ix_annotations_call", "annotations", ["call_id"])
