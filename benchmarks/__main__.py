"""python -m benchmarks: measure the goals and print tables; progress goes to stderr."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import collection, concurrent_runs, recording, replay, summaries, unused_plugin
from benchmarks.about import describe_machine
from benchmarks.measure import Bench
from benchmarks.processes import ContenderError
from benchmarks.results import Results, tables
from benchmarks.server import ModelServer

GOALS: Mapping[str, Callable[[Bench], Results]] = {
    "a": concurrent_runs.measure_a,
    "b": concurrent_runs.measure_b,
    "c": replay.measure,
    "d": unused_plugin.measure,
    "e": summaries.measure,
    "g": recording.measure,
    "h": collection.measure,
}


def main() -> None:
    """Read the options, measure, and print; a contender that fails ends everything with its output."""
    options = _options()
    chosen = options.only or list(GOALS)
    repetitions = 1 if options.quick else options.repetitions
    machine = describe_machine()
    results: dict[str, Results] = {}
    try:
        with ModelServer() as server:
            bench = Bench(server, repetitions, options.quick, partial(print, file=sys.stderr, flush=True))
            for name in chosen:
                bench.tell(f"goal {name}: {(GOALS[name].__doc__ or '').strip()}")
                results[name] = GOALS[name](bench)
                if options.json is not None:  # after each goal: a failure in the last one must not take all with it
                    plain = _plain(machine, options.quick, results)
                    options.json.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    except ContenderError as error:
        raise SystemExit(f"The benchmark failed: {error}") from None
    print(_head(machine))
    if options.quick:
        print("--quick: small sizes, once. This shows that everything works; the figures mean nothing.")
    print(tables(results.values()))


def _head(machine: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    size = f"{machine['cores']} cores (load {machine['load']} before), {machine['memory_gb']} GB"
    return f"{machine['date']}: {size}, Python {machine['python']}\n{packages}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the goals as ratios in one run")
    parser.add_argument("--repetitions", type=_count, default=5, metavar="N", help="Repetitions (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write everything measured to this file too")
    parser.add_argument(
        "--only", nargs="+", choices=list(GOALS), metavar="NAME", help=f"Of the goals {', '.join(GOALS)}"
    )
    parser.add_argument("--quick", action="store_true", help="Small sizes, once: only shows that everything works")
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is {text!r}, not a number from 1")
    return int(text)


def _plain(machine: Mapping[str, Any], quick: bool, results: Mapping[str, Results]) -> dict[str, Any]:
    return {
        **machine,
        "quick": quick,
        "measurements": [row.to_plain() for result in results.values() for row in result.measurements],
        "findings": [row.to_plain() for result in results.values() for row in result.findings],
    }


if __name__ == "__main__":
    main()
