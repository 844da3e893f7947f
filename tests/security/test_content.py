"""S11: with `experiment_log_content = off` nothing that was said is on the disk, and what can be counted is."""

from __future__ import annotations

import pytest

from pytest_llmexp.core.models import Call, Run
from pytest_llmexp.localmodel import Answer, LocalModelServer, Request, faults
from pytest_llmexp.tracking.content import LEFT_OUT, without_content
from tests.conftest import Suite

SUITE = """
    import pytest
    from pydantic import BaseModel
    from pytest_llmexp import prompt, step

    class Place(BaseModel):
        name: str

    def lookup(place: str) -> str:
        '''Look up in the canary-atlas.'''
        return "canary-found"

    @prompt("user")
    def ask(what):
        '''canary-template {{ what }}'''

    @pytest.mark.experiment(n=1)
    @pytest.mark.parametrize("what", ["canary-parameter"], ids=["first"])
    def test_x(bot, llm_client, experiment_run, record_metric, what):
        experiment_run.record(input="canary-input", output="canary-output", expected="canary-expected")
        with step("look", query="canary-query") as looked:
            looked.output = bot("canary-system")(ask(what)).content
        bot("canary-system", tools=[lookup])("canary-asked")
        chunks = llm_client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "canary-streamed"}], stream=True,
            stream_options={"include_usage": True},
        )
        assert "canary" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        record_metric("length", 7)

    @pytest.mark.experiment(n=1)
    def test_fails(bot):
        assert bot("You.")("canary-question").content == "canary-expected"

    @pytest.mark.experiment(n=1)
    def test_refused(bot):
        bot("You.")("refuse this canary")

    @pytest.mark.experiment(n=1)
    def test_raises(bot):
        with step("broken"):
            raise ValueError("canary-reason")
"""


def answer(request: Request) -> Answer:
    """Repeat, or refuse."""
    said = str(request.body["messages"][-1]["content"])
    return faults.client_error(400, "canary-refusal") if "refuse" in said else Answer(f"canary-answer to {said}")


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_what_was_said_is_kept_off_the_disk_and_what_counts_is_not(suite: Suite, workers: tuple[str, ...]) -> None:
    suite.write(SUITE)
    suite.pytester.makeini("[pytest]\nexperiment_log_content = off")
    with LocalModelServer(answer) as server:
        options = (f"--experiment-base-url={server.base_url}", "--experiment-model=m")
        result = suite.run("--experiment-name=x", *options, *workers, new_process=True)
    result.assert_outcomes(passed=1, failed=3)
    store = suite.store()
    experiment = store.experiment("x")
    for file in suite.path.glob("message_log.db*"):
        assert b"canary" not in file.read_bytes(), file.name
    runs = {run.test.partition("::")[2]: run for run in store.runs(experiment.id)}
    assert {name: run.error for name, run in runs.items()} == {
        "test_x": None,
        "test_fails": "AssertionError",
        "test_refused": "openai.BadRequestError",
        "test_raises": "ValueError",
    }
    assert runs["test_x"].case_id == "first"
    calls = store.calls(experiment.id, runs["test_x"].id)
    assert len(calls) == 3
    assert all(call.input_tokens and call.latency_s and call.request_key and call.finish_reason for call in calls)
    assert [call.error for call in store.calls(experiment.id) if call.error] == ["HTTP 400"]
    assert {bot.system_prompt_hash is not None for bot in store.bots(experiment.id)} == {True}
    (version,) = store.prompt_versions(experiment.id)
    assert (version.template, version.hash.startswith("sha256:")) == ("", True)
    assert [metric.value for metric in store.metrics(experiment.id)] == [7.0]
    steps = {step.name: (step.input, step.output, step.error) for step in store.steps(experiment.id)}
    assert steps == {"look": (None, None, None), "broken": (None, None, "ValueError")}


def test_by_default_everything_is_kept(suite: Suite) -> None:
    suite.write(SUITE)
    with LocalModelServer(answer) as server:
        suite.run(f"--experiment-base-url={server.base_url}", "--experiment-model=m", "-k", "test_x")
    store = suite.store()
    (run,) = store.runs(store.experiments()[0].id)
    assert (run.input, run.params) == ("canary-input", {"what": "canary-parameter"})
    assert "canary-streamed" in str(store.calls(run.experiment_id)[2].stream)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ("ValueError: secret", "ValueError"),
        ("my.pkg.SomeError: secret: more", "my.pkg.SomeError"),
        ("HTTP 429: secret", "HTTP 429"),
        ("Failed: secret", "Failed"),
        ("the answer is not JSON", "the answer is not JSON"),
        ("the stream ended with an error: secret", "the stream ended with an error"),
        ("secret: SomeError", LEFT_OUT),
        ("assert 'secret' == 1", LEFT_OUT),
        ("", LEFT_OUT),
    ],
)
def test_of_errors_their_kind_is_kept(error: str, kept: str) -> None:
    record = without_content(Run(id="r", experiment_id="e", test="t", run_index=1, started_at="", error=error))
    assert isinstance(record, Run)
    assert record.error == kept


def test_of_a_stream_that_was_closed_early_only_that_is_kept() -> None:
    stream = {"content_type": "text/event-stream", "events": [{"data": "secret"}], "closed_early": True}
    record = without_content(Call(id="c", experiment_id="e", ordinal=1, started_at="", stream=stream))
    assert isinstance(record, Call)
    assert (record.closed_early, record.stream) == (True, {"closed_early": True})


def test_another_word_is_a_usage_error(suite: Suite) -> None:
    suite.write(SUITE)
    suite.pytester.makeini("[pytest]\nexperiment_log_content = maybe")
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*experiment_log_content is 'maybe'; allowed: on, off"])
