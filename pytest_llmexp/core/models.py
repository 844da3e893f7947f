"""The nouns: one frozen dataclass per row of the store, with the columns as fields.

They hold plain data (text, numbers, JSON) and know nothing of pytest, databases or HTTP.
Times are UTC ISO 8601 text, durations seconds, costs USD. `Json` fields hold what json.dumps takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

Json = Any
ExperimentStatus = Literal["running", "finished", "interrupted"]
RunStatus = Literal["running", "passed", "failed", "error", "skipped", "crashed"]
Phase = Literal["setup", "call", "teardown"]
Role = Literal["generation", "evaluation"]
CallStatus = Literal["running", "ok", "error"]
MetricKind = Literal["boolean", "ordinal", "float"]
Better = Literal["higher", "lower"]
ReplayMode = Literal["auto", "only"]
Synchronous = Literal["normal", "full"]
VerdictWord = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One named execution: what `pytest --experiment-name=x` records."""

    id: str
    name: str
    status: ExperimentStatus = "running"
    started_at: str
    finished_at: str | None = None
    exit_status: int | None = None
    git_commit: str | None = None
    git_branch: str | None = None
    git_dirty: bool | None = None
    command: str = ""
    python_version: str = ""
    platform: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Json] = field(default_factory=dict)
    model_source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a case. `case_id` is empty for a test without parameters; `run_index` counts from 1."""

    id: str
    experiment_id: str
    test: str
    case_id: str = ""
    params: Mapping[str, Json] = field(default_factory=dict)
    run_index: int
    status: RunStatus = "running"
    phase: Phase | None = None
    error: str | None = None
    started_at: str
    duration_s: float | None = None
    worker: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    input: Json = None
    output: Json = None
    expected: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to a model and its response. `run_id` is None where no run can be named with certainty.

    `latency_s` leaves out `wait_s`, the time it was held back for a rate limit. `stream` is what a streamed answer can
    be streamed again from; it says so if the client closed it before its end. A replayed call names the call that was
    paid for in `replayed_from`; it has no latency.
    """

    id: str
    experiment_id: str
    run_id: str | None = None
    parent_call_id: str | None = None
    step_id: str | None = None
    ordinal: int
    role: Role = "generation"
    bot_id: str | None = None
    client: str | None = None
    endpoint: str = ""
    model_requested: str | None = None
    model_returned: str | None = None
    temperature: float | None = None
    request: Json = None
    response: Json = None
    stream: Json = None
    status: CallStatus = "running"
    error: str | None = None
    attempts: int = 1
    started_at: str
    latency_s: float | None = None
    first_token_s: float | None = None
    wait_s: float | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    price_source: str | None = None
    request_key: str | None = None
    replayed_from: str | None = None

    @property
    def closed_early(self) -> bool:
        """Whether the client stopped reading a streamed answer before its end: what came is a part of it."""
        return isinstance(self.stream, dict) and self.stream.get("closed_early") is True


# Fields of a call that tell its answer: those that a replayed call has from the recorded one.
ANSWER: Final = (
    "endpoint",
    "response",
    "stream",
    "model_returned",
    "finish_reason",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


class Usage(NamedTuple):
    """Tokens of one call; None where the server did not say. The input includes cached and cache-write tokens."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A named part of a run, such as a retrieval; steps nest, and calls hang under them.

    `kind` is "step" for those of this package, else what a tracing framework calls it (agent, tool, model, ...);
    `source` says who told of it: "step" or "otel".
    """

    id: str
    experiment_id: str
    run_id: str | None = None
    parent_step_id: str | None = None
    name: str
    kind: str = "step"
    source: str = "step"
    input: Json = None
    output: Json = None
    error: str | None = None
    started_at: str
    duration_s: float | None = None
    attributes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BotSpec:
    """A configured model client, once per experiment. The id follows from the other fields."""

    id: str
    experiment_id: str
    name: str
    kind: str
    model_name: str
    temperature: float | None = None
    system_prompt: str | None = None
    system_prompt_hash: str | None = None
    params: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptVersion:
    """One text a @prompt function has had. The key is (name, hash); the name is module-qualified."""

    hash: str
    name: str
    role: str
    template: str
    parameters: tuple[str, ...] = ()
    first_seen_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptUse:
    """A prompt version rendered in a run, or sent in it. The id is the rendered message's."""

    id: str
    run_id: str
    hash: str
    name: str
    variables: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One scalar of one run. `detail` may hold `bounds` as [low, high]."""

    run_id: str
    name: str
    kind: MetricKind
    value: float
    better: Better | None = None
    detail: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A metric over the runs of a case, or over the cases of a test (`case_id` is then None).

    `low` and `high` bound the mean with 95 % confidence by `method`; None where there is no interval.
    """

    experiment_id: str
    test: str
    case_id: str | None
    metric: str
    n: int
    missing: int
    mean: float | None
    sd: float | None
    min: float | None
    median: float | None
    max: float | None
    low: float | None
    high: float | None
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the evidence says of one gate of a test."""

    experiment_id: str
    test: str
    case_id: str | None
    gate: str
    verdict: VerdictWord
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    missing: int
    baseline_id: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A person's judgement of a run or a call; never overwritten."""

    id: str
    run_id: str | None = None
    call_id: str | None = None
    author: str
    name: str
    value: float | None = None
    comment: str | None = None
    created_at: str


class RunTotals(NamedTuple):
    """What the generation calls of one run added up to; a total is None if any call did not say."""

    run_id: str
    calls: int
    latency_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


Record = Experiment | Run | Step | Call | BotSpec | PromptVersion | PromptUse | Metric | Summary | Verdict | Annotation
