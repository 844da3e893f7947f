"""openai 3 asks `sys.modules` for httpx at every call: a run that imports it must not fail the calls of others."""

from __future__ import annotations

import subprocess
import sys

import openai
import pytest

from pytest_llmexp.localmodel import LocalModelServer
from tests.conftest import Suite

pytestmark = pytest.mark.skipif(int(openai.__version__.partition(".")[0]) < 3, reason="openai 2 speaks httpx itself")

HTTPX = """
    import time
    time.sleep(0.5)  # in which the module is there, and empty
    from httpx2 import *
"""
ASK = """
    import threading
    def ask(index):
        import openai
        ready.wait(60)
        if index == 1: import httpx
        with openai.OpenAI(base_url={url!r}, api_key="local") as client:
            for _ in range(3): client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "Hi"}}])
    ready = threading.Barrier(4)
"""


@pytest.mark.parametrize("first", ["import openai", "pass"], ids=["before the runs", "in a run"])
def test_a_run_that_imports_httpx_leaves_the_calls_of_others_alone(suite: Suite, first: str) -> None:
    suite.write(HTTPX, "httpx.py")
    with LocalModelServer() as server:
        suite.write(
            f"    {first}"
            + ASK.format(url=server.base_url)
            + """
    import pytest
    @pytest.mark.experiment(n=4)
    def test_x(experiment_run): ask(experiment_run.index)
        """
        )
        suite.run("-p", "no:xdist", "--experiment-concurrency=4", new_process=True).assert_outcomes(passed=4)


def test_so_does_a_run_of_a_script(suite: Suite) -> None:
    suite.write(HTTPX, "httpx.py")
    with LocalModelServer() as server:
        suite.write(
            ASK.format(url=server.base_url)
            + """
    from itertools import count
    from pytest_llmexp import Experiment
    with Experiment("x", num_executions=4, concurrency=4) as experiment:
        numbers = count(1)
        experiment.run(lambda: ask(next(numbers)))
    assert not experiment.errors, experiment.errors
        """,
            "script.py",
        )
        subprocess.run([sys.executable, "script.py"], cwd=suite.path, check=True, timeout=60)


@pytest.mark.parametrize(("concurrency", "imported"), [("4", "True"), ("1", "False")])
def test_httpx_is_imported_only_where_runs_overlap(suite: Suite, concurrency: str, imported: str) -> None:
    suite.write(HTTPX, "httpx.py")
    suite.write(f"""
        import openai, pytest, sys
        @pytest.mark.experiment(n=2)
        def test_x(): assert ("httpx" in sys.modules) is {imported}
    """)
    result = suite.run("-p", "no:xdist", f"--experiment-concurrency={concurrency}", new_process=True)
    result.assert_outcomes(passed=2)
