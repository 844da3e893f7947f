"""Reads spans about models, agents and tools. Pure functions; imports no OpenTelemetry.

Two conventions: OpenTelemetry's `gen_ai.*` (https://opentelemetry.io/docs/specs/semconv/gen-ai/) and OpenInference's
`openinference.span.kind`, `llm.*` (https://github.com/Arize-ai/openinference/tree/main/spec).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pytest_llmexp.core.ids import new_id
from pytest_llmexp.core.jsonable import jsonable
from pytest_llmexp.core.models import Call, Json, Role, Step, Usage

Attributes = Mapping[str, Any]

_PREFIXES = ("gen_ai.", "llm.", "openinference.")
_KINDS = {  # of gen_ai.operation.name; others are kinds by themselves
    "text_completion": "chat",
    "generate_content": "chat",
    "execute_tool": "tool",
    "invoke_agent": "agent",
    "create_agent": "agent",
}
_MODEL_KINDS = ("chat", "llm", "embeddings", "embedding")
_INPUTS = ("gen_ai.input.messages", "gen_ai.tool.call.arguments", "input.value")
_OUTPUTS = ("gen_ai.output.messages", "gen_ai.tool.call.result", "output.value")


def tells_of_models(attributes: Attributes) -> bool:
    """Whether a span is about a model, an agent, a tool and the like."""
    return any(name.startswith(_PREFIXES) for name in attributes)


def kind_of(attributes: Attributes) -> str:
    """Return what a span is: agent, tool, chat, llm, retriever, ...; `span` if it does not say."""
    said = attributes.get("openinference.span.kind") or attributes.get("gen_ai.operation.name") or "span"
    kind = str(said).lower()
    return _KINDS.get(kind, kind)


def is_model_call(attributes: Attributes) -> bool:
    """Whether a span is one request to a model and its answer."""
    return kind_of(attributes) in _MODEL_KINDS


def input_of(attributes: Attributes) -> Json:
    """Return what went in; JSON that came as text is parsed."""
    return _first(attributes, _INPUTS)


def output_of(attributes: Attributes) -> Json:
    """Return what came out."""
    return _first(attributes, _OUTPUTS)


def rest_of(attributes: Attributes) -> dict[str, Any]:
    """Return the attributes that are neither input nor output."""
    return {name: value for name, value in attributes.items() if name not in (*_INPUTS, *_OUTPUTS)}


def request_of(attributes: Attributes) -> Json:
    """Return the request of a model call, in a form that `report.conversation` reads."""
    sent = input_of(attributes)
    if "gen_ai.input.messages" not in attributes:
        return sent
    system = _first(attributes, ("gen_ai.system_instructions",))
    return {**({"system": system} if system else {}), "messages": sent}


def response_of(attributes: Attributes) -> Json:
    """Return the response of a model call."""
    received = output_of(attributes)
    return {"output": received} if "gen_ai.output.messages" in attributes else received


def models_of(attributes: Attributes) -> tuple[str | None, str | None]:
    """Return the model that was asked for and the one that answered."""
    named = _text(attributes, "llm.model_name", "embedding.model_name")
    requested = _text(attributes, "gen_ai.request.model") or named
    return requested, _text(attributes, "gen_ai.response.model") or named


def provider_of(attributes: Attributes) -> str:
    """Return who serves the model, as the span names it."""
    return _text(attributes, "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system") or ""


def finish_reason_of(attributes: Attributes) -> str | None:
    """Return why the answer ended."""
    reasons = attributes.get("gen_ai.response.finish_reasons")
    return str(reasons[0]) if isinstance(reasons, list | tuple) and reasons else _text(attributes, "llm.finish_reason")


def temperature_of(attributes: Attributes) -> float | None:
    """Return the temperature that was asked for."""
    said = attributes.get("gen_ai.request.temperature")
    return float(said) if isinstance(said, int | float) and not isinstance(said, bool) else None


def usage_of(attributes: Attributes) -> Usage:
    """Return the tokens; None where the span does not say."""
    return Usage(
        _count(attributes, "gen_ai.usage.input_tokens", "llm.token_count.prompt", "gen_ai.usage.prompt_tokens"),
        _count(
            attributes, "gen_ai.usage.output_tokens", "llm.token_count.completion", "gen_ai.usage.completion_tokens"
        ),
        _count(attributes, "gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read"),
        _count(attributes, "gen_ai.usage.cache_creation.input_tokens", "llm.token_count.prompt_details.cache_write"),
        _count(attributes, "llm.token_count.completion_details.reasoning"),
    )


def call_of(row: Step, attributes: Attributes, ordinal: int, role: Role) -> Call:
    """Return the call that a model's span tells of; `row` is the span as a step."""
    requested, returned = models_of(attributes)
    return Call(
        id=new_id("call"),
        experiment_id=row.experiment_id,
        run_id=row.run_id,
        step_id=row.id,
        ordinal=ordinal,
        role=role,
        client="otel",
        endpoint=provider_of(attributes),
        model_requested=requested,
        model_returned=returned,
        temperature=temperature_of(attributes),
        request=jsonable(request_of(attributes)),
        response=jsonable(response_of(attributes)),
        status="error" if row.error else "ok",
        error=row.error,
        started_at=row.started_at,
        latency_s=row.duration_s,
        finish_reason=finish_reason_of(attributes),
        **usage_of(attributes)._asdict(),
    )


def error_of(span: Any) -> str | None:
    """Return what went wrong: the status's words, else the exception that was recorded."""
    if getattr(span.status.status_code, "name", "") != "ERROR":
        return None
    raised = next((event.attributes or {} for event in span.events if event.name == "exception"), {})
    told = ": ".join(str(raised[name]) for name in ("exception.type", "exception.message") if raised.get(name))
    return str(span.status.description or told or "error")[:10_000]


def iso_of(nanoseconds: int) -> str:
    """Return a span's time as the store keeps it."""
    moment = datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _first(attributes: Attributes, names: tuple[str, ...]) -> Json:
    value = next((attributes[name] for name in names if name in attributes), None)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _text(attributes: Attributes, *names: str) -> str | None:
    return next((str(attributes[name]) for name in names if attributes.get(name)), None)


def _count(attributes: Attributes, *names: str) -> int | None:
    values = (attributes.get(name) for name in names)
    return next(
        (int(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v < 2**63), None
    )
