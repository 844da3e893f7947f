"""bot, async_bot, record_metric, experiment_run, llm_client: with the real client against the loopback server."""

from __future__ import annotations

from pytest_llmexp.localmodel import Answer, LocalModelServer
from tests.conftest import Suite


def test_everything_a_run_uses_is_recorded(suite: Suite) -> None:
    suite.write("""
        import pytest
        from pydantic import BaseModel
        from pytest_llmexp import metric, prompt

        @prompt("system")
        def sysprompt(role):
            '''You are a {{ role }}.'''
        @prompt("user")
        def ask(job):
            '''Name this job: {{ job }}'''
        class Job(BaseModel):
            name: str
        class Score(BaseModel):
            score: int

        @metric(better="higher", bounds=(-1000, 1000))
        def judged(bot, job):
            return bot("You are a judge.", output=Score, name="judge")(f"Rate {job.name}").score

        @pytest.mark.experiment(n=2, tags={"suite": "demo"})
        @pytest.mark.parametrize("temperature", [0.5])
        def test_x(bot, record_metric, experiment_run, temperature):
            namer = bot(sysprompt("manager"), temperature=temperature, output=Job, seed=experiment_run.index)
            job = namer(ask("builds apps"))
            judged(bot, job)
            record_metric("words", len(job.name.split()), better="lower")
            experiment_run.tag(language="en")
            experiment_run.record(input={"job": "builds apps"}, output=job, expected=None)
    """)
    suite.run("--experiment-name=x").assert_outcomes(passed=2)
    store = suite.store()
    experiment = store.experiment("x")
    run = store.runs(experiment.id)[0]
    assert (run.case_id, run.params, run.run_index) == ("0.5", {"temperature": 0.5}, 1)
    assert run.tags == {"suite": "demo", "language": "en"}
    assert run.input == {"job": "builds apps"}
    assert list(run.output) == ["name"]
    generation, evaluation = store.calls(experiment.id, run.id)
    assert (generation.role, evaluation.role) == ("generation", "evaluation")
    assert (generation.temperature, evaluation.temperature) == (0.5, None)
    assert generation.request["messages"] == [
        {"role": "system", "content": "You are a manager."},
        {"role": "user", "content": "Name this job: builds apps"},
    ]
    assert generation.response["choices"][0]["message"]["content"]
    assert generation.model_returned == "local-sampler (not an LLM)"
    assert generation.input_tokens
    assert generation.cost_usd == 0
    bots = {bot.id: bot for bot in store.bots(experiment.id)}
    assert bots[str(generation.bot_id)].system_prompt == "You are a manager."
    assert bots[str(generation.bot_id)].params["seed"] == 1
    assert {bot.name for bot in bots.values()} == {"sysprompt", "judge"}
    uses = [use for use in store.prompt_uses(experiment.id) if use.run_id == run.id]
    assert [(use.name.rpartition(".")[2], use.variables) for use in uses] == [
        ("sysprompt", {"role": "manager"}),
        ("ask", {"job": "builds apps"}),
    ]
    metrics = {metric.name: metric for metric in store.metrics(experiment.id) if metric.run_id == run.id}
    assert (metrics["judged"].kind, metrics["judged"].detail) == ("ordinal", {"bounds": [-1000.0, 1000.0]})
    assert metrics["words"].better == "lower"


def test_bots_are_simple_structured_or_with_tools(suite: Suite) -> None:
    suite.write("""
        import pytest
        from pydantic import BaseModel
        class Out(BaseModel):
            name: str
        def weather(city: str) -> str:
            '''Tell the weather in a city.'''
            return f"sunny in {city}"
        @pytest.mark.experiment(n=1)
        def test_x(bot):
            assert bot("You answer.")("Name a job.")
            assert isinstance(bot(output=Out)("Name a job."), Out)
            reply = bot("You help.", tools=[weather])("What is the weather in Paris?")
            assert [result.result for result in reply.tool_results] == ["sunny in Paris"]
            with pytest.raises(TypeError, match="not both"):
                bot(output=Out, tools=[weather])
    """)
    suite.run().assert_outcomes(passed=1)


def test_an_overridden_client_is_still_tracked(suite: Suite) -> None:
    with LocalModelServer(script=lambda request: Answer(text=f"asked {request.body['model']}")) as server:
        suite.write(
            f"""
            import pytest
            from openai import OpenAI
            @pytest.fixture(scope="session")
            def llm_client():
                with OpenAI(base_url={server.base_url!r}, api_key="secret-key-of-mine") as client:
                    yield client
            """,
            "conftest.py",
        )
        suite.write("""
            import pytest
            @pytest.mark.experiment(n=1)
            def test_x(bot, llm_client):
                assert bot("You.", model="mine")("Hello") == "asked mine"
                answer = llm_client.chat.completions.create(model="raw", messages=[{"role": "user", "content": "Hi"}])
                assert answer.choices[0].message.content == "asked raw"
            @pytest.mark.experiment(n=1)
            async def test_async(async_bot):
                assert await async_bot("You.", model="mine")("Hello") == "asked mine"
        """)
        suite.run("--experiment-name=x").assert_outcomes(passed=2)
    store = suite.store()
    calls = store.calls(store.experiment("x").id)
    assert sorted(call.model_requested or "" for call in calls) == ["mine", "mine", "raw"]
    assert all(call.run_id for call in calls)
    assert [call.bot_id is None for call in sorted(calls, key=lambda call: call.model_requested or "")] == [
        False,
        False,
        True,
    ]


def test_the_model_and_the_address_come_from_the_options(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=1)
        def test_x(bot):
            bot("You.")("default")
            bot("You.", model="other")("named")
    """)
    with LocalModelServer() as server:
        suite.run(
            "--experiment-name=x", "--experiment-model=mine", f"--experiment-base-url={server.base_url}"
        ).assert_outcomes(passed=1)
        assert [request.body["model"] for request in server.requests] == ["mine", "other"]
    store = suite.store()
    assert store.experiment("x").model_source == f"mine at {server.base_url}"


def test_a_named_model_without_key_or_address_is_an_error_with_a_hint(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=1)
        def test_x(bot): bot("You.", model="gpt-4o")
    """)
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*'gpt-4o' was asked for, but there is neither a key nor a base URL*OPENAI_API_KEY*"])


def test_fixtures_outside_an_experiment_say_what_to_do(suite: Suite) -> None:
    suite.write("""
        def test_metric(record_metric): pass
        def test_bot(bot): pass
        def test_run(experiment_run): pass
    """)
    result = suite.run()
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*@pytest.mark.experiment*"])


def test_function_fixtures_belong_to_their_run_and_wider_ones_are_shared(suite: Suite) -> None:
    suite.write("""
        import pytest
        made = []
        @pytest.fixture(scope="module")
        def once():
            made.append("module")
        @pytest.fixture
        def each(bot, once):
            made.append("run")
            bot("You.")("from a fixture")
        @pytest.mark.experiment(n=3)
        def test_x(each): pass
        def test_counts(): assert made == ["module", "run", "run", "run"]
    """)
    suite.run("--experiment-name=x").assert_outcomes(passed=4)
    store = suite.store()
    experiment = store.experiment("x")
    assert len({call.run_id for call in store.calls(experiment.id)}) == 3
