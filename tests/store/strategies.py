"""Hypothesis strategies for any record at all. Apart from examples.py, as Hypothesis is slow to import."""

import itertools
from typing import Any

from hypothesis import strategies as st

from pytest_llmexp.core.models import Annotation, BotSpec, PromptUse, Record
from tests.store.examples import NOON, call, experiment, metric, run, step, summary, verdict, version


def _no_pair(text: str) -> bool:
    """Refuse a surrogate pair in two halves: JSON has only the one character it means."""
    return not any("\ud800" <= a <= "\udbff" and "\udc00" <= b <= "\udfff" for a, b in itertools.pairwise(text))


nasty = st.sampled_from(
    ["\x00", "\x1a", "\x1a0000", "\x1b[31m", "\u202e", "\ud800", "\udfff", "\\u0000", "'\";--%_*", ""]
)
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


@st.composite
def families(draw: st.DrawFn) -> list[Record]:
    """Return one record of each type, belonging together, every other field anything its type allows."""
    case_id, finite = draw(maybe(texts)), draw(floats)
    tokens = {name: draw(maybe(whole)) for name in ("input_tokens", "cached_tokens", "cache_write_tokens")}
    seconds = {name: draw(maybe(floats)) for name in ("latency_s", "wait_s", "cost_usd", "temperature")}
    named = {name: draw(maybe(texts)) for name in ("client", "model_requested", "finish_reason", "error")}
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
        step(
            name=draw(texts),
            kind=draw(texts),
            error=draw(maybe(texts)),
            input=draw(json_values),
            output=draw(json_values),
            attributes=draw(objects),
        ),
        call(
            request=draw(json_values),
            response=draw(json_values),
            stream=draw(json_values),
            **tokens,
            **seconds,
            **named,
        ),
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
