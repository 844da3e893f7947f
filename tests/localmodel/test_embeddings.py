"""Embeddings, seen through the real client."""

import math

import pytest
from openai import BadRequestError, OpenAI

from pytest_llmexp.localmodel import LABEL, LOCAL_MODEL


def similarity(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def test_vectors_are_unit_vectors_of_the_asked_dimensions(client: OpenAI) -> None:
    answer = client.embeddings.create(model="x", input=["a bill", ""], dimensions=64)
    assert answer.model == LABEL
    assert [len(item.embedding) for item in answer.data] == [64, 64]
    assert all(math.isclose(math.hypot(*item.embedding), 1, rel_tol=1e-6) for item in answer.data)


def test_texts_with_shared_words_are_nearer(client: OpenAI) -> None:
    texts = ["the invoice is wrong", "the invoice is too high", "parcels arrive tomorrow"]
    near, other, far = (d.embedding for d in client.embeddings.create(model=LOCAL_MODEL, input=texts).data)
    assert similarity(near, other) > similarity(near, far)


def test_both_encodings_carry_the_same_vector(client: OpenAI) -> None:
    # The client asks for base64 unless told otherwise, and decodes it.
    encoded = client.embeddings.create(model=LOCAL_MODEL, input="a word").data[0].embedding
    plain = client.embeddings.create(model=LOCAL_MODEL, input="a word", encoding_format="float").data[0].embedding
    assert encoded == pytest.approx(plain, abs=1e-6)


def test_lists_of_tokens_are_taken(client: OpenAI) -> None:
    assert len(client.embeddings.create(model=LOCAL_MODEL, input=[[1, 2], [3]]).data) == 2


def test_empty_input_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="input"):
        client.embeddings.create(model=LOCAL_MODEL, input=[])
