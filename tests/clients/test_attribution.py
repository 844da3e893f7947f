"""With 32 runs in flight, over every library, in tasks and threads, each call is its run's."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_llmexp.localmodel import LocalModelServer
from tests.tracking.conftest import Lab

pytestmark = pytest.mark.filterwarnings("ignore")
RUNS = 32


def _body(index: int) -> Any:
    return {"model": "m", "messages": [{"role": "user", "content": f"run {index}"}]}


async def _ask_in_tasks(lab: Lab, index: int) -> None:
    import aiohttp
    import anthropic

    url = f"{lab.server.base_url}/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        anthropic.AsyncAnthropic(base_url=lab.server.root_url, api_key="x") as client,
    ):

        async def over_aiohttp() -> None:
            async with session.post(url, json=_body(index)) as answer:
                await answer.json()

        await asyncio.gather(over_aiohttp(), client.messages.create(**_body(index), max_tokens=9), over_aiohttp())


def _ask_in_threads(lab: Lab, index: int) -> None:
    import requests

    url = f"{lab.server.base_url}/chat/completions"
    with ThreadPoolExecutor(2) as pool:
        for asked in [pool.submit(requests.post, url, json=_body(index), timeout=30) for _ in range(2)]:
            asked.result().raise_for_status()


def test_nothing_goes_to_the_wrong_run(tmp_path: Path) -> None:
    async def one(lab: Lab, index: int) -> None:
        with lab.run(index=index):
            await asyncio.gather(_ask_in_tasks(lab, index), asyncio.to_thread(_ask_in_threads, lab, index))

    async def all_runs(lab: Lab) -> None:
        await asyncio.gather(*(one(lab, index) for index in range(1, RUNS + 1)))

    with LocalModelServer(lambda _: "yes", latency_s=0.05) as server:
        lab = Lab(server, tmp_path)
        asyncio.run(all_runs(lab))
        assert lab.close() == []
    indices = {run.id: run.run_index for run in lab.store.runs(lab.id)}
    calls = lab.calls()
    for call in calls:
        assert call.request["messages"][0]["content"] == f"run {indices[str(call.run_id)]}"
    assert Counter(Counter(call.run_id for call in calls).values()) == {5: RUNS}
    lab.store.close()
