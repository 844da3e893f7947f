"""The rows of calls: of one that begins, that is tried again, that is served a recorded answer. Knows no client."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.ids import new_id, tagged_hash
from pytest_llmexp.core.models import ANSWER, Call, Json
from pytest_llmexp.tracking import wire
from pytest_llmexp.tracking.exchange import Sent
from pytest_llmexp.tracking.scope import Scope
from pytest_llmexp.tracking.sources import LOCAL_MODEL
from pytest_llmexp.tracking.tracing import step_of


def request_key(sent: Sent, model: str, body: Json) -> str:
    """Return what a request is found by again: the same in every process."""
    address = "" if model == LOCAL_MODEL else sent.address  # the built-in server has another port in every session
    return tagged_hash("request", sent.method, address, sent.path, body)


def new_call(scope: Scope, sent: Sent, body: Json, key: str, ordinal: int, **known: Any) -> Call:
    """Return the row of a call that begins now; `known` are fields that are known already."""
    call_id = new_id("call")
    earlier = scope.asking.call_ids if scope.asking else []
    fields = {
        "experiment_id": scope.experiment.experiment_id,
        "run_id": scope.run.run.id if scope.run else None,
        "parent_call_id": earlier[0] if earlier else None,
        "step_id": step_of(scope),
        "role": scope.role,
        "bot_id": scope.asking.bot.id if scope.asking else None,
        "client": (sent.client or "")[:100] or None,
        "endpoint": sent.address + sent.path,
        "model_requested": wire.requested_model(sent.path, body),
        "temperature": wire.requested_temperature(body),
        "request": body,
        "request_key": key,
    }
    call = Call(id=call_id, ordinal=ordinal, started_at=utc_now(), **{**fields, **known})
    earlier.append(call_id)
    return call


def another_attempt(earlier: Call) -> Call:
    """Return the row of a call that the client tries again."""
    return replace(
        earlier,
        status="running",
        error=None,
        response=None,
        model_returned=None,
        finish_reason=None,
        latency_s=None,
        first_token_s=None,
        attempts=earlier.attempts + 1,
    )


def is_asked_by(call: Call, scope: Scope) -> bool:
    """Say whether a call was made by the bot, in the role and in the step that a scope is in."""
    asking = scope.asking.bot.id if scope.asking else None
    return (call.role, call.bot_id, call.step_id) == (scope.role, asking, step_of(scope))


def served_fields(source: Call) -> dict[str, Any]:
    """Return what a call that is answered by a recorded one has in its row: no attempt, no cost, no time."""
    taken = {name: getattr(source, name) for name in ANSWER}
    return {
        **taken,
        "status": "ok",
        "attempts": 0,
        "cost_usd": 0.0,
        "price_source": "replayed",
        "replayed_from": paid_call(source),
    }


def paid_call(source: Call) -> str:
    """Return the id of the call that was made and paid for, of which a recorded one may be a replay."""
    return source.replayed_from or source.id
