"""What every backend of the store promises its callers."""

from dataclasses import replace
from typing import Any

import pytest

from pytest_llmexp.core.errors import RecordingError, StoreError, UnknownExperimentError
from pytest_llmexp.core.models import PromptUse, Record, RunTotals
from pytest_llmexp.store import Store, open_store
from tests.store.examples import NOON, call, experiment, metric, run, summary, verdict, version


def test_written_twice_is_stored_once(store: Store) -> None:
    records: list[Record] = [
        experiment(),
        run(),
        call(),
        metric(),
        summary(None),
        summary(""),
        verdict(None),
        version(),
    ]
    store.write(records)
    store.write(records)
    assert store.experiments() == [experiment()]
    assert store.runs("exp_1") == [run()]
    assert store.calls("exp_1") == [call()]
    assert store.metrics("exp_1") == [metric()]
    assert store.summaries("exp_1") == [summary(None), summary("")]
    assert store.verdicts("exp_1") == [verdict(None)]


def test_a_later_record_replaces_an_earlier_one_also_within_one_write(store: Store) -> None:
    done = replace(run(), status="passed", duration_s=1.5)
    store.write([experiment(), run(), done, summary(None, 1.0), summary(None, 2.0)])
    assert store.runs("exp_1") == [done]
    store.write([replace(done, status="failed"), summary(None, 3.0)])
    assert store.run("run_1").status == "failed"
    assert [each.mean for each in store.summaries("exp_1")] == [3.0]


def test_records_may_come_in_any_order_within_one_write(store: Store) -> None:
    store.write([metric(), call(), run(), experiment()])
    assert store.metrics("exp_1") == [metric()]


def test_replacing_an_experiment_keeps_its_runs(store: Store) -> None:
    store.write([experiment(), run(), call()])
    store.write([replace(experiment(), status="finished")])
    assert store.runs("exp_1") == [run()]
    assert store.calls("exp_1") == [call()]


def test_a_prompt_version_keeps_when_it_was_first_seen(store: Store) -> None:
    store.write([experiment(), run(), version(), version(first_seen_at="2027"), version(hash="sha256:01")])
    store.write([version(first_seen_at="2028"), PromptUse(id="u", run_id="run_1", hash="sha256:00", name="mod.p")])
    assert store.prompt_versions("exp_1") == [version()]  # the other version is not used in it
    assert [use.id for use in store.prompt_uses("exp_1")] == ["u"]


def test_a_write_is_all_or_nothing(store: Store) -> None:
    with pytest.raises(RecordingError, match="FOREIGN KEY"):
        store.write([experiment(), metric(run_id="never stored")])
    assert store.experiments() == []
    store.write([experiment()])  # the store is well again
    assert store.experiments() == [experiment()]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**70 + 1])
def test_a_metric_that_is_no_finite_float_is_refused_by_name(store: Store, value: float) -> None:
    with pytest.raises(RecordingError, match=r"metrics\.value of 'run_1 m'"):
        store.write([experiment(), run(), metric(value=value)])


@pytest.mark.parametrize("value", [1.7976931348623157e308, -1.7976931348623157e308, 5e-324, 0.1 + 0.2, True])
def test_extreme_metrics_come_back_exactly(store: Store, value: float) -> None:
    store.write([experiment(), run(), metric(value=value)])
    assert repr(store.metrics("exp_1")[0].value) == repr(float(value))


def test_words_outside_their_set_are_refused(store: Store) -> None:
    with pytest.raises(RecordingError, match="CHECK"):
        store.write([replace(experiment(), status="great")])  # type: ignore[arg-type]


def test_numbers_that_do_not_fit_are_refused(store: Store) -> None:
    with pytest.raises(RecordingError):
        store.write([experiment(), run(), call(input_tokens=2**64)])


def test_a_name_means_its_latest_finished_experiment(store: Store) -> None:
    states = ["finished", "finished", "running", "interrupted"]
    store.write([experiment(f"exp_{n}", status=status) for n, status in enumerate(states)])
    assert [each.id for each in store.experiments()] == ["exp_3", "exp_2", "exp_1", "exp_0"]
    assert [each.id for each in store.experiments(limit=2)] == ["exp_3", "exp_2"]
    assert store.experiment("x").id == "exp_1"
    assert store.experiment("x~0").id == "exp_1"
    assert store.experiment("x~1").id == "exp_0"
    assert store.experiment("exp_2").id == "exp_2"
    with pytest.raises(UnknownExperimentError, match="too far back: 2 named 'x'"):
        store.experiment("x~2")


def test_a_name_of_which_none_finished_means_the_latest(store: Store) -> None:
    store.write([experiment("exp_0", status="interrupted"), experiment("exp_1")])
    assert store.experiment("x").id == "exp_1"
    assert store.experiment("x~1").id == "exp_0"


def test_an_unknown_name_is_answered_with_close_ones(store: Store) -> None:
    with pytest.raises(UnknownExperimentError, match="holds no experiment yet"):
        store.experiment("baseline")
    store.write([experiment("exp_0", "baseline"), experiment("exp_1", "other")])
    with pytest.raises(UnknownExperimentError, match="did you mean 'baseline'"):
        store.experiment("basline")
    with pytest.raises(UnknownExperimentError, match="'other', 'baseline'"):
        store.experiment("zzz")


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a;DROP TABLE runs;--", "100%", "a_b", "a*b", "x~1", "Ünï\x00", ""])
def test_names_are_stored_and_found_verbatim(store: Store, name: str) -> None:
    store.write([experiment("exp_0", name), experiment("exp_1", "axb"), run(experiment_id="exp_0", test=name)])
    assert store.experiment(name).id == "exp_0"
    assert store.runs("exp_0")[0].test == name


def test_a_run_is_found_by_the_start_of_its_id(store: Store) -> None:
    store.write([experiment(), run("run_a"), run("run_ab"), run("run_b%")])
    assert store.run("run_b").id == "run_b%"
    assert store.run("run_a").id == "run_a"  # exact, though another one begins so
    for start, message in (("run", "several"), ("run_c", "no run"), ("%", "no run"), ("run__", "no run")):
        with pytest.raises(StoreError, match=message):
            store.run(start)


def test_calls_can_be_read_per_run(store: Store) -> None:
    store.write([experiment(), run(), run("run_2"), call(), call("call_2", "run_2"), call("call_3", None)])
    assert [each.id for each in store.calls("exp_1")] == ["call_1", "call_2", "call_3"]
    assert [each.id for each in store.calls("exp_1", "run_2")] == ["call_2"]
    assert store.call_totals("exp_1").unattributed == 1


def test_totals_add_up_generation_calls_and_know_what_they_do_not_know(store: Store) -> None:
    usage: dict[str, Any] = {"latency_s": 0.5, "input_tokens": 3, "output_tokens": 2, "cost_usd": 0.25}
    store.write([experiment(), run(), run("run_2"), run("run_3")])
    store.write([call("c1", **usage), call("c2", **usage), call("c3", role="evaluation", **usage), call("c4", None)])
    store.write([call("c5", "run_2", **usage), call("c6", "run_2", **{**usage, "output_tokens": None})])
    assert store.run_totals("exp_1") == [
        RunTotals("run_1", 2, 1.0, 6, 4, 0.5),
        RunTotals("run_2", 2, 1.0, 6, None, 0.5),
    ]


def test_costs_can_be_set_later(store: Store) -> None:
    store.write([experiment(), run(), call("c1", model_returned="gpt\x00", input_tokens=5), call("c2", cost_usd=0.0)])
    (unpriced,) = store.unpriced_calls("exp_1")
    assert (unpriced.id, unpriced.model_returned, unpriced.input_tokens) == ("c1", "gpt\x00", 5)
    store.set_costs([("c1", 0.125, "prices 2026")])
    assert store.unpriced_calls("exp_1") == []
    assert [(each.cost_usd, each.price_source) for each in store.calls("exp_1")] == [
        (0.125, "prices 2026"),
        (0.0, None),
    ]


def test_open_runs_become_crashed_ones(store: Store) -> None:
    store.write([experiment(), run(), run("run_2", status="passed"), run("run_3", error="timeout in setup")])
    assert store.crash_open_runs("exp_1") == 2
    assert store.crash_open_runs("exp_1") == 0
    assert [each.status for each in store.runs("exp_1")] == ["crashed", "passed", "crashed"]
    assert "ended before" in (store.run("run_1").error or "")
    assert store.run("run_3").error == "timeout in setup"


def test_the_summary_of_a_test_stands_beside_that_of_its_only_case(store: Store) -> None:
    store.write([experiment(), summary(""), summary(None, 2.0), summary("0.0-a", 3.0)])
    assert [(each.case_id, each.mean) for each in store.summaries("exp_1")] == [(None, 2.0), ("", 1.0), ("0.0-a", 3.0)]


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.experiments()
    with pytest.raises(StoreError, match="closed"):
        store.write([experiment()])


def test_two_stores_see_each_others_rows(store: Store, store_url: str) -> None:
    other = open_store(store_url)
    other.write([experiment()])
    assert store.experiment("x").started_at == NOON
    store.write([run()])
    assert other.runs("exp_1") == [run()]
    other.close()


def test_redaction_comes_before_the_write(store: Store, store_url: str) -> None:
    store.close()
    other = open_store(store_url, redact=lambda text: text.replace("geheim", "***"))
    other.write([experiment(name="geheim"), run(error="x geheim"), call(request={"geheim": ["a", {"b": "geheim!"}]})])
    assert other.experiment("geheim").name == "***"
    assert other.run("run_1").error == "x ***"
    assert other.calls("exp_1")[0].request == {"***": ["a", {"b": "***!"}]}
    other.close()
