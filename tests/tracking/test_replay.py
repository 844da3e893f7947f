"""Replay: a run is served what it got before, nothing else is, and `only` makes no call."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from pytest_llmexp import SimpleBot, metric
from pytest_llmexp.core.errors import ConfigurationError
from pytest_llmexp.core.models import Call
from pytest_llmexp.localmodel import Request, faults
from pytest_llmexp.replaying import ReplayFrom
from pytest_llmexp.store import StoredAnswers
from pytest_llmexp.tracking.replay import Place, ReplayMissError, can_be_replayed
from pytest_llmexp.tracking.replay_files import FileAnswers, find_replay_files, write_replay_file
from pytest_llmexp.tracking.scope import entered
from tests.tracking.conftest import Lab, OpenLab

AUTO, ONLY = ReplayFrom("auto"), ReplayFrom("only")


def count(request: Request) -> str:
    """Answer with a number that no other request gets."""
    return f"answer {request.index}"


def ask(lab: Lab, text: str = "hello", **options: Any) -> str | None:
    with OpenAI(base_url=lab.server.base_url, api_key="x", max_retries=options.pop("max_retries", 0)) as client:
        answer = client.chat.completions.create(
            **{"model": "gpt-x", "messages": [{"role": "user", "content": text}], **options}
        )
    content: str | None = answer.choices[0].message.content
    return content


@pytest.fixture
def recorded(open_lab: OpenLab) -> Lab:
    """An experiment with two runs, each of which asked the same thing twice."""
    lab = open_lab(count)
    for index in (1, 2):
        with lab.run(index=index):
            ask(lab)
            ask(lab)
    lab.close()
    return lab


Again = Callable[..., Lab]


@pytest.fixture
def again(open_lab: OpenLab, recorded: Lab) -> Again:
    """Return a function that opens a later experiment with the same server and store."""
    return lambda replay: open_lab(replay=replay, server=recorded.server)


def test_each_run_gets_its_own_answers_in_the_order_it_asked(recorded: Lab, again: Again) -> None:
    lab = again(AUTO)
    with lab.run(index=2):
        assert [ask(lab), ask(lab)] == ["answer 2", "answer 3"]
    with lab.run(index=1):
        assert [ask(lab), ask(lab)] == ["answer 0", "answer 1"]
    assert len(lab.server.requests) == 4


def test_what_was_never_asked_so_often_or_in_that_run_is_a_new_call(recorded: Lab, again: Again) -> None:
    lab = again(AUTO)
    with lab.run(index=1):
        assert [ask(lab), ask(lab), ask(lab)] == ["answer 0", "answer 1", "answer 4"]
    with lab.run(index=3):
        assert ask(lab) == "answer 5"
    with lab.run("another_test", index=1):
        assert ask(lab) == "answer 6"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-y"},
        {"temperature": 0.5},
        {"messages": [{"role": "user", "content": "hello!"}]},
        {"seed": 1},
        {"max_completion_tokens": 5},
    ],
)
def test_an_edited_request_is_a_new_call(recorded: Lab, again: Again, change: dict[str, Any]) -> None:
    lab = again(AUTO)
    with lab.run(index=1):
        assert ask(lab, **change) == "answer 4"


def test_another_server_is_a_new_call(open_lab: OpenLab, recorded: Lab) -> None:
    lab = open_lab(lambda _: "from elsewhere", replay=AUTO)
    with lab.run(index=1):
        assert ask(lab) == "from elsewhere"


def test_a_replayed_call_is_marked_costs_nothing_and_took_no_time(recorded: Lab, again: Again) -> None:
    lab = again(AUTO)
    with lab.run(index=1) as run:
        ask(lab)
    lab.flush()
    paid, served = recorded.store.calls(recorded.id)[0], lab.call()
    assert (served.run_id, served.status, served.replayed_from) == (run.run.id, "ok", paid.id)
    assert (served.response, served.request, served.endpoint) == (paid.response, paid.request, paid.endpoint)
    assert (served.input_tokens, served.output_tokens) == (paid.input_tokens, paid.output_tokens)
    assert (served.finish_reason, served.model_returned) == ("stop", "local-script (not an LLM)")
    assert (served.cost_usd, served.price_source, served.attempts) == (0.0, "replayed", 0)
    assert (served.latency_s, served.first_token_s) == (None, None)
    (totals,) = lab.store.run_totals(lab.id)
    assert (totals.latency_s, totals.cost_usd) == (None, None)


def test_a_replay_of_a_replay_names_the_call_that_was_paid(recorded: Lab, again: Again) -> None:
    second = again(AUTO)
    with second.run(index=1):
        ask(second)
    second.close()
    third = again(ReplayFrom("only", second.id))
    with third.run(index=1):
        ask(third)
    third.flush()
    assert third.call().replayed_from == recorded.store.calls(recorded.id)[0].id


def test_many_runs_get_their_own_answers_in_whatever_order_they_ask(open_lab: OpenLab) -> None:
    first = open_lab(count)
    for index in range(1, 21):
        with first.run(index=index):
            ask(first)
    first.close()
    for order in (list(range(1, 21)), list(range(20, 0, -1)), [*range(1, 21, 2), *range(2, 21, 2), 1, 20]):
        lab = open_lab(replay=ONLY, server=first.server)
        for index in order:
            with lab.run(index=index):
                assert ask(lab) == f"answer {index - 1}"
        lab.close()


def test_a_run_that_is_made_again_is_served_what_was_recorded_last(recorded: Lab, again: Again) -> None:
    lab = again(AUTO)
    for index, answer in ((1, "answer 4"), (2, "answer 5")):
        with lab.run(index=index):
            assert ask(lab, "new") == answer
    lab.flush()
    for index, answer in ((2, "answer 5"), (1, "answer 4")):
        with lab.run(index=index):
            assert ask(lab, "new") == answer


def test_the_rows_of_the_runs_to_come_are_read_together(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_lab(count)
    for index in range(1, 31):
        with first.run(index=index):
            ask(first)
    first.close()
    reads: list[int] = []
    read = StoredAnswers._read_ahead

    def counted(answers: StoredAnswers, place: Place) -> None:
        reads.append(place.run_index)
        read(answers, place)

    monkeypatch.setattr(StoredAnswers, "_read_ahead", counted)
    for rows_ahead in (2000, 3):
        monkeypatch.setattr("pytest_llmexp.store.recorded._ROWS_AHEAD", rows_ahead)
        lab = open_lab(replay=ONLY, server=first.server)
        for index in range(1, 31):
            with lab.run(index=index):
                ask(lab)
        lab.close()
    assert reads[:4] == [1, 3, 7, 15]
    assert reads[4:] == list(range(1, 31, 2))  # each has been recorded twice now: no more than a few rows are kept


def test_the_latest_experiment_is_replayed_unless_another_is_named(recorded: Lab, again: Again) -> None:
    fresh = again(None)
    with fresh.run(index=1):
        assert ask(fresh) == "answer 4"
    fresh.close()
    for replay, answer in ((AUTO, "answer 4"), (ReplayFrom("auto", recorded.id), "answer 0")):
        lab = again(replay)
        with lab.run(index=1):
            assert ask(lab) == answer
        lab.close()


def test_failed_calls_are_made_again(open_lab: OpenLab) -> None:
    first = open_lab([faults.server_error(), "late"])
    with first.run(), pytest.raises(Exception, match="server had an error"):
        ask(first)
    first.close()
    second = open_lab(replay=AUTO, server=first.server)
    with second.run():
        assert ask(second) == "late"


def test_what_was_tried_again_takes_one_place_among_the_answers(open_lab: OpenLab) -> None:
    first = open_lab(lambda request: faults.server_error() if request.index == 0 else count(request))
    with first.run():
        with pytest.raises(Exception, match="server had an error"):
            ask(first)
        assert [ask(first), ask(first)] == ["answer 1", "answer 2"]
    first.close()
    second = open_lab(replay=AUTO, server=first.server)
    with second.run():
        assert [ask(second), ask(second), ask(second)] == ["answer 1", "answer 2", "answer 3"]


def test_calls_of_metrics_and_bots_are_replayed_with_their_role(open_lab: OpenLab) -> None:
    @metric
    def judged(text: str) -> int:
        return len(SimpleBot("judge", model_name="gpt-x")(text).content)

    def body(lab: Lab) -> None:
        with lab.run():
            judged(SimpleBot("write", model_name="gpt-x")("a line").content)

    first = open_lab(count)
    body(first)
    first.close()
    second = open_lab(replay=ONLY, server=first.server)
    body(second)
    second.flush()
    assert [(call.role, bool(call.replayed_from), bool(call.bot_id)) for call in second.calls()] == [
        ("generation", True, True),
        ("evaluation", True, True),
    ]


def test_calls_outside_of_runs_are_replayed_too(open_lab: OpenLab) -> None:
    first = open_lab(count)
    ask(first)
    first.close()
    second = open_lab(replay=AUTO, server=first.server)
    assert [ask(second), ask(second)] == ["answer 0", "answer 1"]
    second.flush()
    assert [bool(call.replayed_from) for call in second.calls()] == [True, False]


# -- streams that were closed early ------------------------------------------------------------------------------


def read_words(lab: Lab, most: int) -> list[str]:
    """Read so many words of a stream, and leave it."""
    words: list[str] = []
    with OpenAI(base_url=lab.server.base_url, api_key="x", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "hello"}]
        for chunk in client.chat.completions.create(model="m", messages=messages, stream=True):
            words.append(chunk.choices[0].delta.content or "")
            if len(words) == most:
                break
    return words


@pytest.fixture
def left(open_lab: OpenLab) -> Lab:
    """An experiment whose only run read five words of a long answer."""
    lab = open_lab(lambda _: " ".join(map(str, range(20_000))))
    with lab.run():
        assert "".join(read_words(lab, 5)).startswith("0 1")
    lab.close()
    return lab


@pytest.mark.parametrize("replay", [AUTO, ONLY])
def test_who_reads_past_the_end_of_a_part_is_told_so_in_every_mode(
    open_lab: OpenLab, left: Lab, replay: ReplayFrom
) -> None:
    lab = open_lab(replay=replay, server=left.server)
    with lab.run() as run:
        assert len(read_words(lab, 5)) == 5
        assert run.refusal is None
    with lab.run() as run, pytest.raises(ReplayMissError, match="closed early by its client at this point") as raised:
        read_words(lab, 20_000)
    assert run.refusal is raised.value
    assert "run without --experiment-replay to record the call anew" in str(raised.value)
    assert len(left.server.requests) == 1


def test_a_part_that_an_error_left_is_asked_for_again(open_lab: OpenLab) -> None:
    first = open_lab(lambda _: " ".join(map(str, range(20_000))))
    run = first.recording.recorder.begin_run("a_test", 1)
    with entered(run.scope()):
        read_words(first, 5)
    run.end("error", phase="call", error="KeyError: 'x'")
    first.close()
    assert first.call().closed_early
    assert not can_be_replayed(first.store.runs(first.id)[0], first.call())
    second = open_lab(replay=AUTO, server=first.server)
    with second.run():
        read_words(second, 30)
    assert len(first.server.requests) == 2


def test_a_part_is_replayed_from_a_file(open_lab: OpenLab, left: Lab, tmp_path: Path) -> None:
    _write(left, tmp_path / "x.jsonl.gz")
    lab = open_lab(replay=ReplayFrom("only", str(tmp_path)), server=left.server)
    with lab.run():
        words = read_words(lab, 5)
    assert "".join(words).startswith("0 1")
    with lab.run(), pytest.raises(ReplayMissError, match="closed early"):
        read_words(lab, 20_000)


# -- everything that clients ask ---------------------------------------------------------------------------------


class Name(BaseModel):
    name: str


def _every_way(client: OpenAI) -> Iterator[Any]:
    messages: Any = [{"role": "user", "content": "name a job"}]
    yield client.chat.completions.create(model="m", messages=messages).model_dump()
    yield client.chat.completions.with_raw_response.create(model="m", messages=messages).text
    yield client.chat.completions.parse(model="m", messages=messages, response_format=Name).choices[0].message.parsed
    options: Any = {"include_usage": True}
    with client.chat.completions.create(model="m", messages=messages, stream=True, stream_options=options) as chunks:
        yield [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    with client.chat.completions.stream(model="m", messages=messages) as events:
        yield events.get_final_completion().model_dump()
    yield client.responses.create(model="m", input="name a job").output_text
    with client.responses.stream(model="m", input="name a job") as typed:
        yield typed.get_final_response().output_text
    yield client.embeddings.create(model="m", input=["a", "b"]).data[1].embedding


async def _every_way_async(client: AsyncOpenAI) -> list[Any]:
    messages: Any = [{"role": "user", "content": "name a job"}]
    answers: list[Any] = [(await client.chat.completions.create(model="m", messages=messages)).model_dump()]
    async with await client.chat.completions.create(model="m", messages=messages, stream=True) as chunks:
        answers.append([chunk.choices[0].delta.content async for chunk in chunks if chunk.choices])
    async with client.responses.stream(model="m", input="name a job") as typed:
        answers.append((await typed.get_final_response()).output_text)
    return answers


def test_every_way_to_ask_is_replayed_with_the_server_gone(open_lab: OpenLab) -> None:
    def answers(lab: Lab) -> list[Any]:
        async def ask_async() -> list[Any]:
            async with AsyncOpenAI(base_url=lab.server.base_url, api_key="x", max_retries=0) as client:
                return await _every_way_async(client)

        with lab.run(), OpenAI(base_url=lab.server.base_url, api_key="x", max_retries=0) as client:
            return [*_every_way(client), *asyncio.run(ask_async())]

    first = open_lab(None)
    made = answers(first)
    first.close()
    first.server.close()
    second = open_lab(replay=ONLY, server=first.server)
    assert answers(second) == made
    second.flush()
    calls = second.calls()
    assert len(calls) == len(made) == 11
    assert all(call.replayed_from and call.status == "ok" for call in calls)


def test_forty_runs_at_once_get_what_each_of_them_got(open_lab: OpenLab) -> None:
    async def all_runs(lab: Lab) -> list[list[str | None]]:
        async def one(index: int) -> list[str | None]:
            with lab.run(index=index):
                return [await asyncio.to_thread(ask, lab) for _ in range(2)]

        return await asyncio.gather(*(one(index) for index in range(1, 41)))

    first = open_lab(count)
    made = asyncio.run(all_runs(first))
    first.close()
    second = open_lab(replay=ONLY, server=first.server)
    assert asyncio.run(all_runs(second)) == made
    assert len({answer for answers in made for answer in answers}) == 80


# -- only --------------------------------------------------------------------------------------------------------


def miss(lab: Lab, index: int = 1, test: str = "a_test", **change: Any) -> str:
    """Return what is said of a call that is not recorded; nothing is sent, not even by a client that tries again."""
    before = len(lab.server.requests)
    with lab.run(test, index), pytest.raises(ReplayMissError) as raised:
        try:
            ask(lab, **{"max_retries": 2, **change})
        except Exception as error:  # as a test does that falls back
            pytest.fail(f"swallowed as {error!r}")
    assert len(lab.server.requests) == before
    return str(raised.value)


def test_a_miss_names_the_first_difference_to_the_nearest_request(recorded: Lab, again: Again) -> None:
    lab = again(ONLY)
    changed = miss(lab, text="hello world")
    assert "no answer is recorded for call 1 of a_test[run1], to gpt-x" in changed
    assert 'differs at messages[0].content: recorded "hello", now "hello world"' in changed
    assert "--experiment-replay=only makes no call" in changed
    assert "differs at temperature: recorded nothing, now 0.5" in miss(lab, temperature=0.5)
    assert 'differs at model: recorded "gpt-x", now "gpt-y"' in miss(lab, model="gpt-y")


def test_a_miss_shows_long_texts_where_they_differ(recorded: Lab, open_lab: OpenLab) -> None:
    old, new = "a" * 500 + " long, playful " + "b" * 500, "a" * 500 + " short, plain " + "b" * 500
    first = open_lab(count)
    with first.run():
        ask(first, old)
    first.close()
    said = miss(open_lab(replay=ONLY, server=first.server), text=new)
    assert "long, playful" in said
    assert "short, plain" in said
    assert len(said) < 600


def test_a_miss_says_when_only_the_run_is_new(recorded: Lab, again: Again) -> None:
    lab = again(ONLY)
    assert "the same request is recorded, but not for this run, or not as often" in miss(lab, index=3)
    assert "no answer is recorded for this test" in miss(lab, test="another_test")


def test_where_answers_cannot_be_looked_up_no_call_is_made(recorded: Lab, again: Again) -> None:
    lab = again(ONLY)
    replay = lab.recording.recorder.replay
    assert replay is not None
    for source in replay._sources:
        source._store.close()  # type: ignore[attr-defined]
    assert "recorded answers cannot be looked up" in miss(lab)
    assert "is closed" in lab.close()[0]


def test_a_miss_names_the_server_that_was_asked(recorded: Lab, open_lab: OpenLab) -> None:
    lab = open_lab(count, replay=ONLY)
    assert f"was sent to {recorded.server.base_url}/chat/completions" in miss(lab)


def test_a_miss_shows_no_secret(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hunter2-hunter2-hunter2")
    first = open_lab(count)
    with first.run():
        ask(first)
    first.close()
    said = miss(open_lab(replay=ONLY, server=first.server), text="my key is hunter2-hunter2-hunter2")
    assert "my key is" in said
    assert "hunter2" not in said


# -- files -------------------------------------------------------------------------------------------------------


def _write(lab: Lab, path: Path) -> bytes:
    places = {run.id: Place(run.test, run.case_id, run.run_index) for run in lab.store.runs(lab.id)}
    write_replay_file(path, {"experiment": "x"}, ((places[str(call.run_id)], call) for call in lab.calls()))
    return path.read_bytes()


def test_a_file_replays_as_the_store_does(recorded: Lab, again: Again, tmp_path: Path) -> None:
    _write(recorded, tmp_path / "x.jsonl.gz")
    for place in (tmp_path / "x.jsonl.gz", tmp_path):
        lab = again(ReplayFrom("only", str(place)))
        with lab.run(index=2):
            assert [ask(lab), ask(lab)] == ["answer 2", "answer 3"]
        assert 'recorded "hello"' in miss(lab, text="bye")
        lab.close()


def test_the_same_calls_make_the_same_file(recorded: Lab, tmp_path: Path) -> None:
    one, other = _write(recorded, tmp_path / "a.jsonl.gz"), _write(recorded, tmp_path / "b.jsonl.gz")
    assert one == other
    header, *lines = gzip.decompress(one).splitlines()
    assert json.loads(header) == {"experiment": "x", "format": "pytest-llmexp replay", "version": 1}
    assert [json.loads(line)["place"] for line in lines] == [["a_test", "", 1]] * 2 + [["a_test", "", 2]] * 2
    assert [path.name for path in tmp_path.glob("*.part")] == []
    assert (tmp_path / "a.jsonl.gz").stat().st_mode & 0o077 == 0


def test_a_copy_of_a_file_adds_no_sample(recorded: Lab, again: Again, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write(recorded, tmp_path / f"{name}.jsonl.gz")
    lab = again(ReplayFrom("only", str(tmp_path)))
    with lab.run(index=1), pytest.raises(ReplayMissError):
        answers = [ask(lab), ask(lab)]
        assert answers == ["answer 0", "answer 1"]
        ask(lab)


def test_files_that_are_none_are_refused_by_name(recorded: Lab, tmp_path: Path) -> None:
    whole = _write(recorded, tmp_path / "whole.jsonl.gz")
    for content, said in (
        (b"", "is empty"),
        (b"no gzip", "cannot be read as a replay file"),
        (whole[:-20], "cannot be read as a replay file"),
        (gzip.compress(b'{"format": "pytest-llmexp replay", "version": 2}\n'), "is no replay file of version 1"),
        (gzip.compress(b'{"format": "pytest-llmexp replay", "version": 1}\n{"a": 1}\n'), r"line 2: 'place'"),
        (gzip.compress(b"[1]\n"), "cannot be read as a replay file"),
        (whole[:12] + b"\xff" + whole[13:], "cannot be read as a replay file"),
    ):
        (tmp_path / "broken.jsonl.gz").write_bytes(content)
        with pytest.raises(ConfigurationError, match=rf"broken\.jsonl\.gz {said}|broken\.jsonl\.gz cannot.*{said}"):
            FileAnswers([tmp_path / "broken.jsonl.gz"])
    with pytest.raises(ConfigurationError, match="there is no file"):
        find_replay_files(tmp_path / "missing.jsonl.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="holds no"):
        find_replay_files(tmp_path / "empty")


def test_what_a_file_does_not_keep_is_not_needed(recorded: Lab, tmp_path: Path) -> None:
    _write(recorded, tmp_path / "x.jsonl.gz")
    found = FileAnswers([tmp_path / "x.jsonl.gz"]).find(
        Place("a_test", "", 2), str(recorded.calls()[2].request_key), 2, None
    )
    assert isinstance(found, Call)
    assert (found.id, found.response) == (recorded.calls()[3].id, recorded.calls()[3].response)
