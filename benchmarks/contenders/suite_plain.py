"""Plain pytest: the same calls as a parametrized test with the openai client, nothing recorded."""

import os
from collections.abc import Iterator

import pytest
from openai import OpenAI

RUNS, MODEL = int(os.environ["BENCHMARK_RUNS"]), os.environ["BENCHMARK_MODEL"]


@pytest.fixture(scope="session")
def client() -> Iterator[OpenAI]:
    with OpenAI() as client:
        yield client


@pytest.mark.parametrize("run", range(RUNS))
def test_colour(client: OpenAI, run: int) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        temperature=1.0,
        messages=[
            {"role": "system", "content": "You answer briefly."},
            {"role": "user", "content": "Name a colour."},
        ],
    )
    assert answer.choices[0].message.content
