"""Point gates: exact comparisons, missing runs as bounds, and what a verdict says."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.core.gates import judge, parse_gate
from pytest_llmexp.core.models import MetricKind, Run, RunStatus, Verdict
from pytest_llmexp.core.summary import Bounds, CaseValues, Sample, collect_samples

_INF = math.inf
_RANK = {"failed": 0, "undecided": 1, "passed": 2}


def sample_of(
    *cases: tuple[Sequence[float], int], kind: MetricKind = "float", bounds: Bounds | None = None, metric: str = "x"
) -> Sample:
    held = tuple(CaseValues(f"c{number}", tuple(values), missing) for number, (values, missing) in enumerate(cases))
    return Sample(test="t", metric=metric, kind=kind, better=None, bounds=bounds, cases=held)


def booleans(passed: int, failed: int, missing: int = 0, metric: str = "pass_rate") -> Sample:
    values = [1.0] * passed + [0.0] * failed
    return sample_of((values, missing), kind="boolean", bounds=(0.0, 1.0), metric=metric)


def verdict(gate: str, *samples: Sample) -> Verdict:
    (only,) = judge("e", {"t": [parse_gate(gate)]}, samples)
    return only


@pytest.mark.parametrize(
    ("gate", "values", "estimate"),
    [
        ("mean(x) >= 2.5", [1.0, 2.0, 3.0, 4.0], 2.5),
        ("median(x) <= 2.5", [4.0, 1.0, 3.0, 2.0], 2.5),
        ("p90(x) < 10", [float(v) for v in range(1, 11)], 9.1),
        ("p99.9(x) < 10", [float(v) for v in range(1, 11)], 9.991),
        ("min(x) >= 1", [4.0, 1.0], 1.0),
        ("max(x) <= 4", [4.0, 1.0], 4.0),
        ("sum(x) <= 5", [4.0, 1.0], 5.0),
        ("sd(x) <= 2", [1.0, 3.0, 5.0], 2.0),
        ("rate(x >= 3) >= 0.5", [1.0, 3.0, 5.0, 2.0], 0.5),
    ],
)
def test_a_gate_compares_its_statistic(gate: str, values: list[float], estimate: float) -> None:
    found = verdict(gate, sample_of((values, 0)))
    assert (found.verdict, found.estimate, found.n, found.missing) == ("passed", estimate, len(values), 0)
    opposite = {">=": "<", "<=": ">", "<": ">="}
    sign = next(sign for sign in (">=", "<=", "<") if sign in gate.rpartition(")")[2])
    head, _, tail = gate.rpartition(sign)
    assert verdict(f"{head}{opposite[sign]}{tail}", sample_of((values, 0))).verdict == "failed"


@pytest.mark.parametrize(
    ("gate", "values"),
    [
        ("mean(x) <= 0.2", [0.1, 0.2, 0.3]),
        ("mean(x) >= 0.2", [0.1, 0.2, 0.3]),
        ("mean(x) >= 0.1", [0.1] * 3),
        ("mean(x) <= 0.1", [0.1] * 10),
        ("mean(x) >= 0.5", [1 / 3, 2 / 3]),
        ("mean(x) <= 0.5", [1 / 3, 2 / 3]),
        ("mean(x) >= 0", [0.3, -0.1, -0.2]),
        ("sum(x) <= 0.3", [0.1] * 3),
        ("sum(x) >= 1", [1 / 3] * 3),
        ("max(x) <= 0.1", [0.1]),
        ("median(x) <= 0.15", [0.1, 0.2]),
        ("p90(x) <= 0.37", [0.1, 0.4]),
        ("sd(x) <= 0.1", [0.1, 0.2, 0.3]),
        ("rate(x >= 0.3) >= 1", [0.1 + 0.2, 0.3]),
    ],
)
def test_the_noise_of_floats_decides_nothing(gate: str, values: list[float]) -> None:
    assert verdict(gate, sample_of((values, 0))).verdict == "passed"


@pytest.mark.parametrize("strict", ["mean(x) > 0.2", "mean(x) < 0.2"])
def test_strict_comparisons_fail_at_equality(strict: str) -> None:
    assert verdict(strict, sample_of(([0.1, 0.2, 0.3], 0))).verdict == "failed"


def test_a_difference_that_is_no_noise_decides() -> None:
    assert verdict("mean(x) >= 0.9", sample_of(([0.9 - 1e-12], 0))).verdict == "failed"
    assert verdict("mean(x) >= 0", sample_of(([-5e-324], 0))).verdict == "failed"


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_of_whole_runs_meets_its_own_value(counts: tuple[int, int]) -> None:
    k, n = counts
    sample = booleans(k, n - k)
    assert verdict(f"pass_rate >= {k / n!r}", sample).verdict == "passed"
    assert verdict(f"pass_rate <= {k / n!r}", sample).verdict == "passed"
    assert verdict(f"pass_rate > {k / n!r}", sample).verdict == "failed"


def test_nine_of_ten_passes_meet_nine_tenths() -> None:
    found = verdict("pass_rate >= 0.9", booleans(9, 1))
    oracle = scipy.stats.binomtest(9, 10).proportion_ci(0.95, "wilson")
    assert (found.verdict, found.estimate) == ("passed", 0.9)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))
    assert found.detail == "got 0.9 [0.596 0.982], n=10"
    assert found.case_id is None


def test_cases_weigh_the_same_in_means_and_values_in_quantiles() -> None:
    sample = sample_of(([0.0] * 8, 0), ([10.0, 10.0], 0))
    assert verdict("mean(x) >= 5", sample).estimate == 5.0
    assert verdict("rate(x > 5) >= 0.5", sample).estimate == 0.5
    assert verdict("median(x) <= 0", sample).estimate == 0.0
    assert verdict("sum(x) <= 20", sample).estimate == 20.0


def test_the_worst_case_is_named_in_the_direction_of_the_gate() -> None:
    sample = sample_of(([0.4], 0), ([0.9], 0), ([], 1))
    assert verdict("mean(x) >= 0.5", sample).detail.endswith("; worst case: c0 0.4")
    assert verdict("mean(x) <= 0.5", sample).detail.endswith("; worst case: c1 0.9")


@pytest.mark.parametrize(
    ("gate", "sample", "word"),
    [
        ("pass_rate >= 0.9", booleans(9, 0, 1), "passed"),
        ("pass_rate >= 0.9", booleans(8, 1, 1), "undecided"),
        ("pass_rate >= 0.9", booleans(7, 2, 1), "failed"),
        ("mean(x) >= 4", sample_of(([5.0] * 9, 1), bounds=(1.0, 5.0)), "passed"),
        ("mean(x) >= 4.7", sample_of(([5.0] * 9, 1), bounds=(1.0, 5.0)), "undecided"),
        ("mean(x) <= 4", sample_of(([5.0] * 9, 1), bounds=(1.0, 5.0)), "failed"),
        ("mean(x) >= 0", sample_of(([5.0] * 9, 1)), "undecided"),
        ("sum(x) <= 0.5", sample_of(([0.6], 1), bounds=(0.0, _INF)), "failed"),
        ("sum(x) <= 0.5", sample_of(([0.4], 1), bounds=(0.0, _INF)), "undecided"),
        ("sum(x) >= 0.5", sample_of(([0.6], 1), bounds=(0.0, _INF)), "passed"),
        ("max(x) <= 1", sample_of(([2.0], 1)), "failed"),
        ("max(x) >= 1", sample_of(([2.0], 1)), "passed"),
        ("min(x) >= 1", sample_of(([0.5], 1)), "failed"),
        ("min(x) <= 1", sample_of(([0.5], 1)), "passed"),
        ("min(x) >= 1", sample_of(([2.0], 1)), "undecided"),
        ("median(x) <= 1", sample_of(([2.0], 1)), "undecided"),
        ("median(x) <= 1", sample_of(([2.0] * 4, 1)), "failed"),
        ("median(x) >= 1", sample_of(([2.0] * 4, 1)), "passed"),
        ("p90(x) <= 3", sample_of(([2.0] * 30, 1)), "passed"),
        ("p90(x) <= 3", sample_of(([2.0] * 3, 1)), "undecided"),
        ("sd(x) >= 0", sample_of(([1.0, 2.0], 1)), "undecided"),
        ("rate(x >= 3) >= 0.5", sample_of(([3.0, 3.0], 2)), "passed"),
        ("rate(x >= 3) >= 0.6", sample_of(([3.0, 3.0], 2)), "undecided"),
        ("rate(x >= 3) >= 0.6", sample_of(([1.0, 1.0], 2)), "failed"),
        ("mean(x) >= 0.75", sample_of(([1.0], 0), ([], 3), bounds=(0.0, 1.0)), "undecided"),
        ("mean(x) >= 0.5", sample_of(([1.0], 0), ([], 3), bounds=(0.0, 1.0)), "passed"),
    ],
)
def test_missing_runs_decide_only_what_no_value_could_change(gate: str, sample: Sample, word: str) -> None:
    found = verdict(gate, sample)
    assert found.verdict == word
    assert found.missing == sample.missing
    assert f"{sample.missing} run{'s' * (sample.missing > 1)} missing" in found.detail


def test_an_undecided_verdict_says_what_the_missing_runs_could_make_of_it() -> None:
    found = verdict("pass_rate >= 0.9", booleans(8, 1, 1))
    assert found.detail == "got 0.889 [0.565 0.98], n=9, 1 run missing, with them it could be 0.8 to 0.9"


@pytest.mark.parametrize(
    ("gate", "sample", "detail"),
    [
        ("sd(x) <= 1", sample_of(([1.0], 0)), "sd needs two values, n=1"),
        ("sd(x) <= 1", sample_of(([1.0, 2.0], 1)), "got 0.707, n=2, 1 run missing, sd needs every value"),
        ("mean(x) <= 1", sample_of(([], 3)), "none of 3 runs has a value"),
        ("min(x) >= 0", sample_of(([], 1), bounds=(0.0, 1.0)), "none of 1 run has a value"),
        ("pass_rate(x) >= 0", sample_of(([1.0], 0)), "'x' is no boolean: write mean(x), or rate(x >= NUMBER)"),
        (
            "mean(lenght) <= 1",
            sample_of(([1.0], 0), metric="length"),
            "no finished run recorded 'lenght'; recorded are: length; did you mean 'length'?",
        ),
    ],
)
def test_a_gate_without_an_answer_is_undecided_and_says_why(gate: str, sample: Sample, detail: str) -> None:
    found = verdict(gate, sample)
    assert (found.verdict, found.detail) == ("undecided", detail)


def test_a_metric_nobody_recorded_is_missing_in_every_run() -> None:
    found = verdict("mean(x) <= 1", booleans(3, 1, 2))
    assert (found.verdict, found.n, found.missing, found.estimate) == ("undecided", 0, 6, None)


def test_a_test_that_never_ran_is_undecided() -> None:
    assert verdict("pass_rate >= 0").verdict == "undecided"


def test_every_gate_gets_a_verdict_in_order() -> None:
    gates = {"u": [parse_gate("pass_rate >= 1")], "t": [parse_gate("pass_rate >= 0"), parse_gate("sum(x) < 1")]}
    found = judge("e", gates, [booleans(1, 0), sample_of(([2.0], 0))])
    assert [(one.test, one.gate, one.verdict) for one in found] == [
        ("u", "pass_rate >= 1", "undecided"),
        ("t", "pass_rate >= 0", "passed"),
        ("t", "sum(x) < 1", "failed"),
    ]


def test_details_are_one_line_of_ascii() -> None:
    cases = (CaseValues("caf\u00e9\n\x1b[31m", (1.0,), 0), CaseValues("b", (2.0,), 0))
    sample = Sample(test="t", metric="größe\n", kind="float", better=None, bounds=None, cases=cases)
    for gate in ('mean("größe\\n") >= 1', 'mean("größe") >= 2', 'pass_rate("größe\\n") >= 1'):
        detail = verdict(gate, sample).detail
        assert detail.isascii()
        assert detail.isprintable()


def test_a_shown_estimate_stands_on_its_side_of_the_threshold() -> None:
    assert verdict("mean(x) >= 0.9", sample_of(([0.89996], 0))).detail == "got 0.89996, n=1"
    assert verdict("mean(x) <= 41.2", sample_of(([41.2001], 0))).detail == "got 41.2001, n=1"


def test_numbers_beyond_floats_are_compared_all_the_same() -> None:
    found = verdict("sum(x) <= 1.7e308", sample_of(([1.7e308, 1.7e308], 0)))
    assert (found.verdict, found.estimate) == ("failed", None)
    assert verdict("sd(x) >= 1", sample_of(([1.7e308, -1.7e308], 0))).verdict == "passed"
    assert verdict("mean(x) > 0", sample_of(([5e-324, 1.7e308, -1.7e308], 0))).verdict == "passed"


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.sampled_from(["mean", "median", "p37", "sum", "sd"]))
def test_estimates_agree_with_numpy(values: list[float], statistic: str) -> None:
    oracle: dict[str, Callable[[Any], Any]] = {
        "mean": np.mean,
        "median": np.median,
        "p37": lambda held: np.quantile(held, 0.37),
        "sum": np.sum,
        "sd": lambda held: np.std(held, ddof=1),
    }
    expected = float(oracle[statistic](np.array(values)))
    assert verdict(f"{statistic}(x) >= 0", sample_of((values, 0))).estimate == pytest.approx(
        expected, rel=1e-6, abs=1e-6
    )


_BOUNDED = st.sampled_from([0.0, 0.25, 0.5, 1.0])
_CASES = st.lists(
    st.tuples(st.lists(_BOUNDED, max_size=4), st.integers(0, 2)).filter(lambda case: case[0] or case[1]),
    min_size=1,
    max_size=3,
)
_TERMS = st.sampled_from(
    ["mean(x)", "median(x)", "p90(x)", "min(x)", "max(x)", "sum(x)", "rate(x >= 0.5)", "rate(x < 0.5)"]
)
_GATES = st.tuples(
    _TERMS, st.sampled_from([">=", ">", "<=", "<"]), st.sampled_from([0.0, 0.2, 0.5, 0.75, 1.0, 2.0])
).filter(lambda gate: not gate[0].startswith("rate") or gate[2] <= 1)


@given(_CASES, _GATES)
def test_a_verdict_is_what_every_completion_of_the_missing_runs_agrees_on(
    cases: list[tuple[list[float], int]], gate: tuple[str, str, float]
) -> None:
    if not any(values for values, _ in cases) or sum(missing for _, missing in cases) > 4:
        return
    text = " ".join(map(str, gate))
    found = verdict(text, sample_of(*cases, bounds=(0.0, 1.0))).verdict
    completed = set()
    for fill in itertools.product([0.0, 0.5, 1.0], repeat=sum(missing for _, missing in cases)):
        left = list(fill)
        whole = [([*values, *(left.pop() for _ in range(missing))], 0) for values, missing in cases]
        completed.add(verdict(text, sample_of(*whole, bounds=(0.0, 1.0))).verdict)
    assert found == (completed.pop() if len(completed) == 1 else "undecided")


_STATUSES: list[RunStatus] = ["passed", "failed", "error", "crashed", "skipped", "running"]


def _judged(cases: Sequence[Sequence[RunStatus]], gate: str) -> str:
    runs = [
        Run(id=f"{c}-{i}", experiment_id="e", test="t", case_id=str(c), run_index=i, status=status, started_at="")
        for c, statuses in enumerate(cases)
        for i, status in enumerate(statuses, 1)
    ]
    return verdict(gate, *collect_samples(runs, [], [])).verdict


@given(
    st.lists(st.lists(st.sampled_from(_STATUSES), min_size=1, max_size=5), min_size=1, max_size=3),
    st.sampled_from(["pass_rate >= 0.9", "pass_rate > 0.4", "mean(pass_rate) >= 0.5", "min(pass_rate) >= 1"]),
    st.sampled_from(["error", "crashed", "running", "skipped"]),
    st.data(),
)
def test_losing_a_run_never_lets_a_gate_pass(
    cases: list[list[RunStatus]], gate: str, lost: RunStatus, data: st.DataObject
) -> None:
    finished = [(c, i) for c, row in enumerate(cases) for i, one in enumerate(row) if one in {"passed", "failed"}]
    if not finished:
        return
    place = data.draw(st.sampled_from(finished))
    before = cases[place[0]][place[1]]
    after = [[lost if (c, i) == place else one for i, one in enumerate(row)] for c, row in enumerate(cases)]
    if set(after[place[0]]) == {"skipped"}:  # left out of the experiment as a whole case, not lost
        return
    verdicts = _RANK[_judged(cases, gate)], _RANK[_judged(after, gate)]
    if before == "passed":
        assert verdicts[1] <= verdicts[0]
    assert verdicts[1] < _RANK["passed"] or verdicts[0] == _RANK["passed"]
