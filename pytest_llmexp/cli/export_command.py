"""`llmexp export`: what was recorded, for others to use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from pytest_llmexp.cli.database import db_option, open_for_reading
from pytest_llmexp.core.models import Call, Experiment
from pytest_llmexp.core.summary import distinct_runs
from pytest_llmexp.store import Store
from pytest_llmexp.tracking.replay import Place, can_be_replayed, place_of
from pytest_llmexp.tracking.replay_files import SUFFIX, write_replay_file


@click.group("export")
def command() -> None:
    """Write what was recorded to a file."""


@command.command("replay")
@click.argument("ref")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(f"replay{SUFFIX}"),
    show_default=True,
)
@db_option
def replay(ref: str, output: Path, db: str) -> None:
    """Write the answers of an experiment to a file that can be committed and replayed.

    REF is a name (its latest finished experiment), name~1 (the one before), or an id. The file holds requests and
    answers, but no keys: look at what it holds before you commit it to a public repository.

    Example: llmexp export replay main -o tests/replay/main.jsonl.gz

    and then, without a key: pytest --experiment-replay=only --experiment-replay-from=tests/replay
    """
    if not output.name.endswith(SUFFIX):
        raise click.BadParameter(f"{str(output)!r} does not end in {SUFFIX}", param_hint="--output")
    if not output.parent.is_dir():
        raise click.BadParameter(f"there is no folder {output.parent}", param_hint="--output")
    with open_for_reading(db) as store:
        experiment = store.experiment(ref)
        calls = list(_answered(store, experiment))
    if not calls:
        raise click.ClickException(f"{ref!r} ({experiment.id}) holds no answer that could be replayed")
    about = {"experiment": experiment.name, "experiment_id": experiment.id, "model_source": experiment.model_source}
    try:
        count = write_replay_file(output, about, calls)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error}") from None
    click.echo(f"{count} answers of {experiment.id} in {output}")


def _answered(store: Store, experiment: Experiment) -> Iterator[tuple[Place, Call]]:
    runs = {run.id: run for run in distinct_runs(store.runs(experiment.id))}
    for call in store.calls(experiment.id):
        run = runs.get(call.run_id or "")
        if (run or call.run_id is None) and can_be_replayed(run, call):
            yield place_of(run), call
