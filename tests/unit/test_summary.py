"""Records become samples and samples summaries; what is missing is counted and never improves anything."""

import math
import subprocess
import sys
from collections.abc import Sequence

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.core.models import Better, Metric, MetricKind, Run, RunStatus, RunTotals, Summary
from pytest_llmexp.core.summary import CaseValues, Recorded, Sample, collect_samples, distinct_runs, summarise


def run(
    index: int, status: RunStatus = "passed", *, test: str = "test_a", case: str = "", id: str | None = None
) -> Run:
    id = id or f"{test}[{case}]{index}"
    return Run(id=id, experiment_id="e", test=test, case_id=case, run_index=index, status=status, started_at="")


def recorded(
    of: Run,
    name: str,
    value: float,
    kind: MetricKind = "float",
    bounds: list[float] | None = None,
    better: Better | None = None,
) -> Metric:
    detail = {} if bounds is None else {"bounds": bounds}
    return Metric(run_id=of.id, name=name, kind=kind, value=value, better=better, detail=detail)


def samples_of(runs: Sequence[Run], metrics: Sequence[Metric], totals: Sequence[RunTotals]) -> list[Sample]:
    """Collect from metrics as the store hands them over: by name, apart where their runs differ."""
    places = {run.id: place for place, run in enumerate(runs)}
    parts: dict[tuple[str, str], Recorded] = {}
    for metric in metrics:
        of_its_kind = f"{metric.kind} {metric.better} {metric.detail}"
        new = Recorded(metric.name, metric.kind, metric.better, metric.detail, {})
        values = parts.setdefault((metric.name, of_its_kind), new).values
        assert isinstance(values, dict)
        values[places[metric.run_id]] = metric.value
    return collect_samples(runs, parts.values(), totals)


def named(samples: Sequence[Sample], metric: str) -> Sample:
    return next(sample for sample in samples if sample.metric == metric)


def test_a_run_executed_twice_counts_once_with_its_first_finished_result() -> None:
    executions = [
        run(1, "failed", id="b"),
        run(1, "passed", id="a"),
        run(2, "crashed", id="c"),
        run(2, "passed", id="d"),
        run(3, "error", id="f"),
        run(3, "error", id="e"),
        run(4, "running", id="g"),
        run(4, "crashed", id="h"),
        run(4, "skipped", id="i"),
        run(1, "passed", case="other", id="j"),
    ]
    assert [one.id for one in distinct_runs(executions)] == ["a", "d", "e", "i", "j"]


def test_a_later_pass_does_not_replace_a_failure() -> None:
    assert [one.status for one in distinct_runs([run(1, "passed", id="2"), run(1, "failed", id="1")])] == ["failed"]


def test_values_stand_in_the_order_of_run_index() -> None:
    runs = [run(3), run(1), run(2)]
    metrics = [recorded(one, "x", one.run_index) for one in runs]
    assert named(samples_of(runs, metrics, []), "x").cases == (CaseValues("", (1.0, 2.0, 3.0), 0),)


def test_pass_rate_counts_passed_and_failed_and_misses_the_rest() -> None:
    statuses: list[RunStatus] = ["passed", "failed", "error", "crashed", "running", "skipped"]
    runs = [run(index, status) for index, status in enumerate(statuses, 1)]
    sample = named(samples_of(runs, [], []), "pass_rate")
    assert sample.cases == (CaseValues("", (1.0, 0.0), 4),)
    assert (sample.kind, sample.bounds, sample.better) == ("boolean", (0.0, 1.0), "higher")
    assert (sample.n, sample.missing, sample.values) == (2, 4, (1.0, 0.0))


def test_a_metric_recorded_before_an_error_is_not_used() -> None:
    runs = [run(1), run(2, "error")]
    sample = named(samples_of(runs, [recorded(one, "x", 5.0) for one in runs], []), "x")
    assert sample.cases == (CaseValues("", (5.0,), 1),)


def test_a_metric_only_errored_runs_recorded_is_no_sample() -> None:
    runs = [run(1), run(2, "error")]
    assert [sample.metric for sample in samples_of(runs, [recorded(runs[1], "x", 5.0)], [])] == ["pass_rate"]


def test_a_finished_run_that_did_not_record_a_metric_is_missing() -> None:
    runs = [run(1), run(2, "failed"), run(1, case="b")]
    sample = named(samples_of(runs, [recorded(runs[0], "x", 5.0)], []), "x")
    assert sample.cases == (CaseValues("", (5.0,), 1), CaseValues("b", (), 1))


def test_a_case_whose_runs_were_all_skipped_is_left_out() -> None:
    runs = [run(1, "skipped", case="a"), run(2, "skipped", case="a"), run(1, case="b"), run(2, "skipped", case="b")]
    assert named(samples_of(runs, [], []), "pass_rate").cases == (CaseValues("b", (1.0,), 1),)
    assert samples_of(runs[:2], [], []) == []


def test_totals_belong_to_tests_that_made_calls() -> None:
    runs = [run(1), run(2), run(3), run(4, "error"), run(1, test="test_b")]
    totals = [
        RunTotals(runs[0].id, 2, 0.5, 10, 20, None),
        RunTotals(runs[1].id, 1, 0.25, None, 4, None),
        RunTotals(runs[3].id, 1, 9.0, 9, 9, 9.0),
    ]
    samples = samples_of(runs, [], totals)
    assert [(sample.test, sample.metric) for sample in samples] == [
        ("test_a", "pass_rate"),
        ("test_a", "latency_s"),
        ("test_a", "input_tokens"),
        ("test_a", "output_tokens"),
        ("test_a", "cost_usd"),
        ("test_b", "pass_rate"),
    ]
    assert named(samples, "latency_s").cases == (CaseValues("", (0.5, 0.25, 0.0), 1),)
    assert named(samples, "input_tokens").cases == (CaseValues("", (10.0, 0.0), 2),)
    assert named(samples, "latency_s").bounds == (0.0, math.inf)


def test_an_unknown_cost_is_missing_and_never_zero() -> None:
    runs = [run(1), run(2)]
    samples = samples_of(runs, [], [RunTotals(one.id, 1, 0.5, 10, 20, None) for one in runs])
    assert named(samples, "cost_usd").cases == (CaseValues("", (), 2),)
    row = next(row for row in summarise("e", samples) if row.metric == "cost_usd" and row.case_id is None)
    assert (row.n, row.missing, row.mean, row.max) == (0, 2, None, None)


def test_recorded_metrics_stand_before_implicit_ones_in_order_of_appearance() -> None:
    runs = [run(1), run(2)]
    metrics = [recorded(runs[0], "z", 1), recorded(runs[0], "a", 1), recorded(runs[1], "m", 1)]
    assert [sample.metric for sample in samples_of(runs, metrics, [])] == ["z", "a", "m", "pass_rate"]


def test_a_recorded_metric_cannot_stand_in_for_an_implicit_one() -> None:
    runs = [run(1, "failed")]
    samples = samples_of(runs, [recorded(runs[0], "pass_rate", 1.0, "boolean")], [])
    assert [sample.values for sample in samples] == [(0.0,)]


def test_mixed_kinds_become_float() -> None:
    runs = [run(1), run(2)]
    metrics = [recorded(runs[0], "x", 1, "ordinal"), recorded(runs[1], "x", 1.5, "float")]
    assert named(samples_of(runs, metrics, []), "x").kind == "float"


@pytest.mark.parametrize(
    ("kind", "first", "second", "expected"),
    [
        ("ordinal", [1, 5], [0, 4], (0.0, 5.0)),
        ("ordinal", [1, 5], None, None),
        ("float", None, None, None),
        ("boolean", None, None, (0.0, 1.0)),
    ],
)
def test_bounds_are_the_widest_declared(
    kind: MetricKind, first: list[float] | None, second: list[float] | None, expected: tuple[float, float] | None
) -> None:
    runs = [run(1), run(2)]
    metrics = [recorded(runs[0], "x", 1, kind, first), recorded(runs[1], "x", 1, kind, second, better="lower")]
    sample = named(samples_of(runs, metrics, []), "x")
    assert (sample.bounds, sample.better) == (expected, "lower")


def sample_of(*cases: tuple[str, Sequence[float], int], kind: MetricKind = "float") -> Sample:
    held = tuple(CaseValues(case_id, tuple(values), missing) for case_id, values, missing in cases)
    return Sample(test="t", metric="x", kind=kind, better=None, bounds=None, cases=held)


def test_a_test_with_one_case_is_summarised_as_that_case() -> None:
    case, whole = summarise("e", [sample_of(("only", [1.0, 2.0, 6.0], 1))])
    oracle = scipy.stats.ttest_1samp([1.0, 2.0, 6.0], 0).confidence_interval(0.95)
    assert (whole.case_id, whole.n, whole.missing) == (None, 3, 1)
    assert (whole.mean, whole.min, whole.median, whole.max) == (3.0, 1.0, 2.0, 6.0)
    assert whole.sd == pytest.approx(math.sqrt(7))
    assert (whole.low, whole.high) == pytest.approx((oracle.low, oracle.high))
    columns = [column for column in Summary.__slots__ if column != "case_id"]
    assert all(getattr(case, column) == getattr(whole, column) for column in columns)
    assert case.case_id == "only"


def test_cases_weigh_the_same_however_many_runs_they_have() -> None:
    rows = summarise("e", [sample_of(("a", [1.0] * 9, 0), ("b", [3.0], 8), ("c", [], 2))])
    assert [row.case_id for row in rows] == ["a", "b", "c", None]
    whole = rows[-1]
    assert (whole.mean, whole.n, whole.missing, whole.median) == (2.0, 10, 10, 1.0)
    assert whole.method == "t on 2 case means"


def test_booleans_over_cases_name_their_effective_n() -> None:
    rows = summarise("e", [sample_of(("a", [1.0] * 5, 0), ("b", [1.0, 0.0] * 2, 0), kind="boolean")])
    assert [row.method for row in rows][:2] == ["Wilson", "Wilson"]
    assert rows[2].method.startswith("Wilson, effective n ")
    assert rows[2].mean == 0.75


def test_a_spread_beyond_floats_is_left_out() -> None:
    row = summarise("e", [sample_of(("", [1.7e308, -1.7e308], 0))])[0]
    assert (row.sd, row.mean, row.method) == (None, 0.0, "none: beyond the range of a float")


_STATUSES = st.sampled_from(["passed", "failed", "error", "crashed", "skipped", "running"])
_TEST_STATUSES = st.lists(st.lists(_STATUSES, min_size=1, max_size=6), min_size=1, max_size=4)


def _pass_rates(cases: list[list[RunStatus]]) -> list[Summary]:
    runs = [
        run(index, status, case=f"c{number}")
        for number, statuses in enumerate(cases)
        for index, status in enumerate(statuses, 1)
    ]
    return [row for row in summarise("e", samples_of(runs, [], [])) if row.case_id is None]


@given(_TEST_STATUSES, st.sampled_from(["error", "crashed", "running"]), st.data())
def test_losing_a_passed_run_never_raises_the_pass_rate(
    cases: list[list[RunStatus]], lost: RunStatus, data: st.DataObject
) -> None:
    places = [(c, i) for c, statuses in enumerate(cases) for i, status in enumerate(statuses) if status == "passed"]
    if not places:
        return
    before = _pass_rates(cases)[0]
    case, index = data.draw(st.sampled_from(places))
    after = _pass_rates([[*row[:index], lost, *row[index + 1 :]] if c == case else row for c, row in enumerate(cases)])
    assert before.mean is not None
    assert after[0].missing == before.missing + 1
    assert after[0].n == before.n - 1
    assert after[0].mean is None or after[0].mean <= before.mean


@given(_TEST_STATUSES)
def test_every_run_is_counted_as_a_value_or_as_missing(cases: list[list[RunStatus]]) -> None:
    counted = sum(len(statuses) for statuses in cases if set(statuses) != {"skipped"})
    assert sum(row.n + row.missing for row in _pass_rates(cases)) == counted


def test_summaries_start_without_numpy_scipy_or_pydantic() -> None:
    loaded = "import sys, pytest_llmexp.core.gates, pytest_llmexp.core.scalars; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "scipy", "pydantic"} & set(out)
