"""The narrow reads of summaries: what a plain reading of all records would come to, for anything recorded."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llmexp.core.models import Metric, Run
from pytest_llmexp.core.summary import IMPLICIT_METRICS, CaseValues, Sample, collect_samples, distinct_runs
from pytest_llmexp.store import Store, open_store
from tests.store.examples import experiment, metric, run

STATUSES = ["passed"] * 8 + ["failed"] * 3 + ["error", "crashed", "skipped", "running"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "m.db", create=True) as opened:
        opened.write([experiment("exp_1"), experiment("exp_2")])
        yield opened


def plainly(runs: Sequence[Run], metrics: Sequence[Metric]) -> list[Sample]:
    """Collect the recorded samples record by record."""
    samples = []
    kept = distinct_runs(runs)
    for test in dict.fromkeys(each.test for each in kept):
        mine = [each for each in kept if each.test == test]
        cases = {
            case: sorted((r for r in mine if r.case_id == case), key=lambda r: r.run_index)
            for case in dict.fromkeys(each.case_id for each in mine)
        }
        cases = {case: rs for case, rs in cases.items() if any(r.status != "skipped" or r.phase == "call" for r in rs)}
        finished = [r for rs in cases.values() for r in rs if r.status in ("passed", "failed")]
        seen = [(m, r) for r in finished for m in metrics if m.run_id == r.id and m.name not in IMPLICIT_METRICS]
        for name in dict.fromkeys(m.name for m, _ in seen):
            found = {r.id: m for m, r in seen if m.name == name}
            kinds = {m.kind for m in found.values()}
            bounds = [m.detail.get("bounds") for m in found.values()]
            wide = None if None in bounds else (min(b[0] for b in bounds), max(b[1] for b in bounds))  # type: ignore[index]
            values = {case: tuple(found[r.id].value for r in rs if r.id in found) for case, rs in cases.items()}
            samples.append(
                Sample(
                    test=test,
                    metric=name,
                    kind=next(iter(kinds)) if len(kinds) == 1 else "float",
                    better=next((m.better for m in found.values() if m.better), None),
                    bounds=(0.0, 1.0) if kinds == {"boolean"} else wide,
                    cases=tuple(
                        CaseValues(case, values[case], len(rs) - len(values[case])) for case, rs in cases.items()
                    ),
                )
            )
    return samples


def anything(seed: int) -> list[Any]:
    """Return the runs and metrics of two experiments that ran at once: regular ones, gaps, executions twice."""
    chance = random.Random(seed)
    gaps, mixed, trouble = (chance.choice([0, 0, 0.1, 0.6]) for _ in range(3))
    names = chance.sample(["a", "b", "\x1az", "pass_rate", "\xe4", "score"], k=chance.randint(1, 6))
    made: list[Any] = []
    for number in range(chance.randint(1, 60)):
        test, case = chance.choice(["t", "u\x00"]), chance.choice(["", "c-1", "c-2"])
        status = chance.choice(STATUSES) if chance.random() < trouble else "passed"
        made.append(
            run(
                f"run_{number:03}",
                "exp_2" if seed % 3 == 0 and chance.random() < 0.3 else "exp_1",
                test=test,
                case_id=case,
                run_index=chance.randint(1, 9) if trouble else number + 1,
                status=status,
                phase=chance.choice(["setup", "call"]),
            )
        )
        for name in names:
            if chance.random() >= gaps and not (name == "score" and test == "t"):
                detail: dict[str, Any] = (
                    {"bounds": [chance.choice([0.0, -1.0]), 5.0]} if chance.random() < mixed else {}
                )
                kind = chance.choice(["float", "ordinal"]) if chance.random() < mixed else "boolean"
                better = chance.choice([None, "higher", "lower"]) if chance.random() < mixed else None
                value = chance.choice([0.0, 1.0, chance.gauss(0, 1e9), 5e-324])
                made.append(metric(name, value, f"run_{number:03}", kind=kind, better=better, detail=detail))
    return made


@pytest.mark.parametrize("seed", range(60))
def test_samples_are_those_of_a_plain_reading(store: Store, seed: int) -> None:
    store.write(anything(seed))
    for name in ("exp_1", "exp_2"):
        runs, metrics = store.evidence(name)
        samples = [each for each in collect_samples(runs, metrics, []) if each.metric != "pass_rate"]
        assert samples == plainly(store.runs(name), store.metrics(name))


def test_values_by_run_are_those_of_the_metrics(store: Store) -> None:
    store.write(anything(7))
    found = store.metric_values("exp_1")
    flat = [(run_id, value.name, value.value) for run_id, values in found.items() for value in values]
    assert flat == [(each.run_id, each.name, each.value) for each in store.metrics("exp_1")]


def test_evidence_of_nothing_is_empty(store: Store) -> None:
    assert store.evidence("exp_1") == ([], [])
    assert store.evidence("unknown") == ([], [])


def test_a_metric_is_read_from_its_index_alone(store: Store) -> None:
    """A change of the index or of the statements would make each row cost a search in the table."""
    from pytest_llmexp.store import evidence

    with store._connections.driver() as connection:
        connection.create_aggregate("collect", 1, evidence._collector([]))
        for sql in (evidence._VALUES, evidence._RUN_IDS, evidence._MIXED, evidence._FIRST):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?")).fetchall()
            assert "USING COVERING INDEX ix_metrics_name (name=? AND run_id>? AND run_id<?)" in plan[0][3]
