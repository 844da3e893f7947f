"""Which requests are calls of a model, of which one, and how warm."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmexp.tracking import wire

VERTEX = "/v1/projects/p/locations/us-central1/publishers"


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("/v1/chat/completions", {"model": "m", "messages": []}, "m"),
        ("/v1/completions", {"model": "m", "prompt": "x"}, "m"),
        ("/v1/responses", {"model": "m", "input": "x"}, "m"),
        ("/v1/embeddings", {"model": "m", "input": ["x"]}, "m"),
        ("/openai/deployments/mine/chat/completions", {"messages": []}, "mine"),
        ("/openai/deployments/mine/chat/completions", {"model": "m", "messages": []}, "m"),
        ("/v1/messages", {"model": "claude", "messages": []}, "claude"),
        ("/v1beta/models/gemini-3:generateContent", {"contents": []}, "gemini-3"),
        ("/v1beta/models/gemini-3:streamGenerateContent", {"contents": []}, "gemini-3"),
        ("/v1beta/models/embed:embedContent", {"model": "models/embed", "content": {}}, "embed"),
        ("/v1beta/models/embed:batchEmbedContents", {"requests": []}, "embed"),
        (f"{VERTEX}/google/models/gemini-3:generateContent", {"contents": []}, "gemini-3"),
        (f"{VERTEX}/google/models/embed:predict", {"instances": [{"content": "x"}]}, "embed"),
        (f"{VERTEX}/anthropic/models/claude-x@20260101:streamRawPredict", {"messages": []}, "claude-x@20260101"),
        ("/model/amazon.nova-pro-v1:0/converse", {"messages": []}, "amazon.nova-pro-v1:0"),
        ("/model/amazon.nova-pro-v1%3A0/converse-stream", {"messages": []}, "amazon.nova-pro-v1:0"),
        (
            "/model/arn%3Aaws%3Abedrock%3Aus%3A1%3Aprofile%2Fx/invoke",
            {"inputText": "x"},
            "arn:aws:bedrock:us:1:profile/x",
        ),
        ("/model/meta.llama/invoke-with-response-stream", {"prompt": "x"}, "meta.llama"),
        ("/api/chat", {"model": "llama", "messages": []}, "llama"),
        ("/api/generate", {"model": "llama", "prompt": "x"}, "llama"),
        ("/api/embed", {"model": "llama", "input": "x"}, "llama"),
    ],
)
def test_a_call_names_a_model_and_carries_something_for_it(path: str, body: Any, model: str) -> None:
    assert wire.requested_model(path, body) == model


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/files", {"model": "m"}),
        ("/v1/fine_tuning/jobs", {"model": "m", "training_file": "f"}),
        ("/v1/threads/t/messages", {"role": "user", "content": "x"}),
        ("/cars", {"model": "T", "content": "black"}),
        ("/v1/x", {"model": 1, "input": "x"}),
        ("/v1/x", {"model": "", "input": "x"}),
        ("/v1/messages/count_tokens", {"model": "claude", "messages": []}),
        ("/v1/responses/input_tokens", {"model": "m", "input": "x"}),
        ("/v1beta/models/gemini-3:countTokens", {"contents": []}),
        ("/v1beta/models/gemini-3:generateContent", {}),
        ("/v1beta/cachedContents", {"model": "models/gemini-3"}),
        ("/model/amazon.nova/count-tokens", {"messages": []}),
        ("/api/generate", {"model": "llama"}),  # only loads it
        ("/api/pull", {"model": "llama"}),
        ("/v1/chat/completions", [{"model": "m", "messages": []}]),
        ("/v1/chat/completions", None),
    ],
)
def test_other_requests_are_none(path: str, body: Any) -> None:
    assert wire.requested_model(path, body) is None


@pytest.mark.parametrize(
    ("body", "temperature"),
    [
        ({"temperature": 0}, 0.0),
        ({"temperature": 0.7}, 0.7),
        ({"generationConfig": {"temperature": 0.2}}, 0.2),
        ({"inferenceConfig": {"temperature": 0.3}}, 0.3),
        ({"options": {"temperature": 0.4}}, 0.4),
        ({"temperature": None, "options": {"temperature": 1}}, 1.0),
        ({"temperature": True}, None),
        ({"temperature": "0.5"}, None),
        ({"temperature": float("nan")}, None),
        ({"temperature": 10**400}, None),
        ({"options": [0.4]}, None),
        ({}, None),
        ([], None),
    ],
)
def test_the_temperature_is_read_where_each_family_says_it(body: Any, temperature: float | None) -> None:
    assert wire.requested_temperature(body) == temperature
