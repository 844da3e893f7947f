"""Contenders in turns: each repetition runs every one of them once, so that a busy moment of the machine hits all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import contenders
from benchmarks.processes import ContenderError, clean_environment, run_process
from benchmarks.server import ModelServer, model_name

FOLDER = Path(contenders.__file__).parent
LATENCY_MS = 200


@dataclass(frozen=True)
class Contender:
    """A program to measure.

    Attributes:
        name: What the tables call it.
        program: Its file in contenders/.
        arguments: What Python is given; `{program}` stands for the file.
        runs: How many it is told to make.
        asks: Whether each run is a call, which the server must have seen.
        in_flight: How many calls it may have under way.
        model: The model to ask, see server.py.
        workers: Whether it starts processes of its own.
        note: What the reader of the table must know.
        files: What is copied into its folder beside the program.
        check: Called with the folder after a run; raises ContenderError if something is not as it should be.
    """

    name: str
    program: str
    arguments: Sequence[str] = ("{program}",)
    runs: int = 0
    asks: bool = False
    in_flight: int = 1
    model: str = model_name(LATENCY_MS, 40)
    workers: bool = False
    note: str = ""
    files: Sequence[Path] = ()
    check: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Sample:
    """One run of a contender. `figures` is what it measured itself."""

    wall_s: float
    cpu_s: float
    rss_mb: float | None
    span_s: float | None = None
    in_flight: int | None = None
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What all goals share: the server, how often to repeat, and where progress is told."""

    server: ModelServer
    repetitions: int
    quick: bool
    tell: Callable[[str], None]

    def size(self, full: int, quick: int) -> int:
        """Return how many: the goal's number, or a small one that only shows that everything works."""
        return quick if self.quick else full

    def interleave(self, entrants: Sequence[Contender], repetitions: int | None = None) -> dict[str, list[Sample]]:
        """Run every contender once per repetition, each time beginning with another one; return its samples by name."""
        samples: dict[str, list[Sample]] = {contender.name: [] for contender in entrants}
        count = repetitions or self.repetitions
        for repetition in range(count):
            turn = repetition % len(entrants)
            for contender in (*entrants[turn:], *entrants[:turn]):
                sample = self.sample(contender)
                samples[contender.name].append(sample)
                self.tell(f"  {repetition + 1}/{count} {contender.name}: {sample.wall_s:.2f} s")
        return samples

    def sample(self, contender: Contender) -> Sample:
        """Run a contender once, in an empty folder of its own."""
        with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
            folder = Path(temporary)
            for file in (FOLDER / contender.program, *contender.files):
                shutil.copy(file, folder)
            arguments = [part.replace("{program}", contender.program) for part in contender.arguments]
            used = run_process(arguments, folder, self._environ(contender), tree=contender.workers)
            times = self.server.take_times()
            if contender.check is not None:
                contender.check(folder)
        expected = contender.runs if contender.asks else 0
        if times.requests != expected:
            raise ContenderError(f"{contender.name} made {times.requests} calls instead of {expected}")
        sample = Sample(used.wall_s, used.cpu_s, used.rss_mb, figures=_figures(used.output))
        return replace(sample, span_s=times.span_s, in_flight=times.in_flight) if expected else sample

    def _environ(self, contender: Contender) -> dict[str, str]:
        return {
            **clean_environment(),
            "OPENAI_BASE_URL": self.server.base_url,
            "OPENAI_API_KEY": "none-is-needed",
            "BENCHMARK_RUNS": str(contender.runs),
            "BENCHMARK_IN_FLIGHT": str(contender.in_flight),
            "BENCHMARK_MODEL": contender.model,
        }


def _figures(output: str) -> dict[str, float]:
    """Return what a contender measured itself: the JSON object in its last line, if there is one."""
    last = output.rstrip().rpartition("\n")[2]
    return dict(json.loads(last)) if last.startswith("{") else {}
