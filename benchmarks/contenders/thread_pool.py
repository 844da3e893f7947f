"""A script by hand: the openai client in a thread pool. It keeps the answers, and writes them nowhere."""

import os
from concurrent.futures import ThreadPoolExecutor

from openai import OpenAI

RUNS, IN_FLIGHT = int(os.environ["BENCHMARK_RUNS"]), int(os.environ["BENCHMARK_IN_FLIGHT"])
MODEL = os.environ["BENCHMARK_MODEL"]


def ask(client: OpenAI) -> str:
    """Make one call and return the answer's text."""
    answer = client.chat.completions.create(
        model=MODEL,
        temperature=1.0,
        messages=[
            {"role": "system", "content": "You answer briefly."},
            {"role": "user", "content": "Name a colour."},
        ],
    )
    assert answer.choices[0].message.content
    return answer.choices[0].message.content


with OpenAI() as shared, ThreadPoolExecutor(IN_FLIGHT) as pool:
    answers = list(pool.map(ask, [shared] * RUNS))
print(f"{len(answers)} answers")
