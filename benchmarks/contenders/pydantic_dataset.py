"""pydantic-evals: one case, repeated, asked through AsyncOpenAI; its progress bar is off, which makes it faster."""

import asyncio
import os

from openai import AsyncOpenAI
from pydantic_evals import Case, Dataset  # type: ignore[import-not-found,unused-ignore]  # in no other environment

RUNS, IN_FLIGHT = int(os.environ["BENCHMARK_RUNS"]), int(os.environ["BENCHMARK_IN_FLIGHT"])
MODEL = os.environ["BENCHMARK_MODEL"]


async def evaluate() -> None:
    """Evaluate and fail if any run failed."""
    async with AsyncOpenAI() as client:

        async def ask(question: str) -> str:
            answer = await client.chat.completions.create(
                model=MODEL,
                temperature=1.0,
                messages=[
                    {"role": "system", "content": "You answer briefly."},
                    {"role": "user", "content": question},
                ],
            )
            assert answer.choices[0].message.content
            return answer.choices[0].message.content

        dataset: Dataset[str, str, None] = Dataset(name="colours", cases=[Case(name="colour", inputs="Name a colour.")])
        report = await dataset.evaluate(ask, max_concurrency=IN_FLIGHT, repeat=RUNS, progress=False)
    if report.failures or len(report.cases) != RUNS:
        raise SystemExit(f"{len(report.cases)} of {RUNS} runs passed; {report.failures[:1]}")


asyncio.run(evaluate())
