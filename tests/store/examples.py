"""Records as a session makes them, for the tests of the store, and hypothesis strategies for any record at all."""

from typing import Any

from hypothesis import strategies as st

from pytest_llmexp.core.models import (
    Annotation,
    BotSpec,
    Call,
    Experiment,
    Metric,
    PromptUse,
    PromptVersion,
    Record,
    Run,
    Summary,
    Verdict,
)

NOON = "2026-01-31T12:00:00.000000Z"


def _no_pair(text: str) -> bool:
    """Refuse a surrogate pair in two halves: JSON has only the one character it means."""
    return not any("\ud800" <= a <= "\udbff" and "\udc00" <= b <= "\udfff" for a, b in zip(text, text[1:], strict=False))


nasty = st.sampled_from(["\x00", "\x1a", "\x1a0000", "\x1b[31m", "\u202e", "\ud800", "\udfff", "\\u0000", "'\";--%_*", ""])
texts = st.lists(st.one_of(nasty, st.text(st.characters(codec=None, categories=None), max_size=8)), max_size=4).map(
    "".join
)
json_texts = texts.filter(_no_pair)
floats = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**63), 2**63 - 1)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), floats, json_texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(json_texts, inner, max_size=3)),
    max_leaves=8,
)
objects = st.dictionaries(json_texts, json_values, max_size=3)
labels = st.dictionaries(json_texts, json_texts, max_size=3)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for values that may be unknown."""
    return st.one_of(st.none(), strategy)


def experiment(id: str = "exp_1", name: str = "x", **fields: Any) -> Experiment:
    """Return an experiment."""
    return Experiment(id=id, name=name, **{"started_at": NOON, **fields})


def run(id: str = "run_1", experiment_id: str = "exp_1", **fields: Any) -> Run:
    """Return a run."""
    return Run(id=id, experiment_id=experiment_id, **{"test": "t", "run_index": 1, "started_at": NOON, **fields})


def call(id: str = "call_1", run_id: str | None = "run_1", **fields: Any) -> Call:
    """Return a call."""
    return Call(id=id, run_id=run_id, **{"experiment_id": "exp_1", "ordinal": 1, "started_at": NOON, **fields})


def metric(name: str = "m", value: float = 1.0, run_id: str = "run_1", **fields: Any) -> Metric:
    """Return a metric."""
    return Metric(run_id=run_id, name=name, value=value, **{"kind": "float", **fields})


def summary(case_id: str | None, mean: float = 1.0, **fields: Any) -> Summary:
    """Return a summary."""
    rest: dict[str, Any] = dict.fromkeys(("sd", "min", "median", "max", "low", "high"))
    rest |= {"experiment_id": "exp_1", "test": "t", "metric": "m", "n": 1, "missing": 0, "method": "none"} | fields
    return Summary(case_id=case_id, mean=mean, **rest)


def verdict(case_id: str | None, **fields: Any) -> Verdict:
    """Return a verdict."""
    rest: dict[str, Any] = {"experiment_id": "exp_1", "test": "t", "gate": "mean(m) > 1", "verdict": "undecided"}
    rest |= {"estimate": None, "low": None, "high": None, "n": 0, "missing": 0} | fields
    return Verdict(case_id=case_id, **rest)


def version(name: str = "mod.p", hash: str = "sha256:00", **fields: Any) -> PromptVersion:
    """Return a prompt version."""
    rest = {"role": "user", "template": "t {{ a }}", "parameters": ("a",), "first_seen_at": NOON, **fields}
    return PromptVersion(name=name, hash=hash, **rest)


@st.composite
def families(draw: st.DrawFn) -> list[Record]:
    """Return one record of each type, belonging together, every other field anything its type allows."""
    case_id, finite = draw(maybe(texts)), draw(floats)
    tokens = {name: draw(maybe(whole)) for name in ("input_tokens", "output_tokens", "cached_tokens")}
    seconds = {name: draw(maybe(floats)) for name in ("latency_s", "first_token_s", "cost_usd", "temperature")}
    named = {name: draw(maybe(texts)) for name in ("client", "model_requested", "model_returned", "error")}
    spread = {name: draw(maybe(st.floats(allow_nan=False))) for name in ("sd", "min", "median", "max", "low", "high")}
    prompt = version(
        draw(texts), template=draw(texts), role=draw(texts), parameters=tuple(draw(st.lists(json_texts, max_size=3)))
    )
    return [
        experiment(
            name=draw(texts),
            command=draw(texts),
            user=draw(maybe(texts)),
            git_dirty=draw(maybe(st.booleans())),
            exit_status=draw(maybe(whole)),
            tags=draw(labels),
            packages=draw(labels),
            metadata=draw(objects),
        ),
        run(
            test=draw(texts),
            case_id=draw(texts),
            params=draw(objects),
            error=draw(maybe(texts)),
            phase=draw(maybe(st.sampled_from(["setup", "call", "teardown"]))),
            duration_s=draw(maybe(floats)),
            tags=draw(labels),
            input=draw(json_values),
            output=draw(json_values),
            expected=draw(json_values),
        ),
        call(request=draw(json_values), response=draw(json_values), **tokens, **seconds, **named),
        BotSpec(
            id="bot_1",
            experiment_id="exp_1",
            name=draw(texts),
            kind="simple",
            model_name=draw(texts),
            system_prompt=draw(maybe(texts)),
            params=draw(objects),
        ),
        prompt,
        PromptUse(id="use_1", run_id="run_1", name=prompt.name, hash=prompt.hash, variables=draw(objects)),
        metric(draw(texts), finite, better=draw(maybe(st.sampled_from(["higher", "lower"]))), detail=draw(objects)),
        summary(case_id, metric=draw(texts), **spread),
        verdict(case_id, gate=draw(texts), detail=draw(texts), estimate=draw(maybe(floats))),
        Annotation(
            id="note_1",
            run_id="run_1",
            author=draw(texts),
            name=draw(texts),
            value=draw(maybe(floats)),
            comment=draw(maybe(texts)),
            created_at=NOON,
        ),
    ]

