"""What a model or a user put into a record comes back exactly as it was."""

import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llmexp.core.models import Record
from pytest_llmexp.store import Store, open_store
from pytest_llmexp.store.codec import decode_text, encode_json, encode_text
from tests.store.examples import call, experiment, run
from tests.store.strategies import families, json_values, texts


def _all_of(store: Store, experiment_id: str) -> list[Record]:
    return [
        *store.experiments(),
        *store.runs(experiment_id),
        *store.steps(experiment_id),
        *store.calls(experiment_id),
        *store.bots(experiment_id),
        *store.prompt_versions(experiment_id),
        *store.prompt_uses(experiment_id),
        *store.metrics(experiment_id),
        *store.summaries(experiment_id),
        *store.verdicts(experiment_id),
        *store.annotations(experiment_id),
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(records=families())
def test_every_record_comes_back_as_it_was(records: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "m.db", create=True)
        try:
            store.write(records)
            assert _all_of(store, "exp_1") == records
        finally:
            store.close()


@given(texts)
def test_text_is_encoded_without_nul_and_surrogates_and_back(text: str) -> None:
    encoded = encode_text(text)
    encoded.encode()
    assert "\x00" not in encoded
    assert decode_text(encoded) == text


@given(json_values)
def test_json_text_is_plain_unicode(value: Any) -> None:
    encode_json(value).encode()
    assert "\x00" not in encode_json(value)


@given(st.lists(st.floats()))
def test_numbers_json_does_not_have_become_their_names(numbers: list[float]) -> None:
    encoded = encode_json({"logprobs": numbers})
    for name in ("NaN", "Infinity"):
        assert name not in encoded


@pytest.fixture
def begun(store: Store) -> Store:
    store.write([experiment(), run()])
    return store


def test_an_answer_of_50_megabytes_comes_back(begun: Store) -> None:
    answer = "\x00\ud800\x1b" + "naïve \u202e answer " * (50 * 2**20 // 18) + "\udfff\x1a"
    begun.write([call(response={"content": answer}, error=answer)])
    (stored,) = begun.calls("exp_1")
    assert stored.response == {"content": answer}
    assert stored.error == answer


def test_a_conversation_of_100000_messages_comes_back(begun: Store) -> None:
    request = {"messages": [{"role": "user", "content": f"message {n}"} for n in range(100_000)]}
    begun.write([call(request=request)])
    assert begun.calls("exp_1")[0].request == request


def test_a_mapping_of_any_kind_is_stored_as_an_object(begun: Store) -> None:
    begun.write([run(params=MappingProxyType({"a": (1, 2)}))])
    assert begun.run("run_1").params == {"a": [1, 2]}
