"""`llmexp show`."""

from __future__ import annotations

import json
import shutil

import click

from pytest_llmexp.cli.database import db_option, open_for_reading
from pytest_llmexp.core.printable import one_line
from pytest_llmexp.report.plain import view_document
from pytest_llmexp.report.text import render_text
from pytest_llmexp.report.tree import load_run_view, run_document
from pytest_llmexp.report.tree_text import render_run
from pytest_llmexp.report.view import load_view


@click.command("show")
@click.argument("ref")
@db_option
@click.option("--run", metavar="ID", help="Print one run: its steps and calls")
@click.option(
    "--verbose",
    "-v",
    count=True,
    help="Every metric and case; twice: every run too. With --run the messages; twice: requests and responses",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def command(ref: str, db: str, run: str | None, verbose: int, as_json: bool) -> None:
    """Print the summary of an experiment, or one of its runs.

    REF is a name (its latest finished experiment), name~1 (the one before), or an id. ID is a run's id or the
    beginning of it, its label as -vv prints it, the end of that if it is clear, or `unattributed`: what belongs to
    no run.

    Examples: llmexp show main

    llmexp show main~1 -v

    llmexp show main --run "test_title[0.0-run3]" -v

    llmexp show exp_06f... --json
    """
    with open_for_reading(db) as store:
        experiment = store.experiment(ref)
        if run is not None:
            run_view = load_run_view(store, experiment, run)
            document = json.dumps(run_document(run_view), indent=2) if as_json else None
            click.echo(document or render_run(run_view, verbosity=verbose))
            return
        view = load_view(store, experiment)
    if as_json:
        click.echo(json.dumps(view_document(view), indent=2))
        return
    started = experiment.started_at[:19].replace("T", " ")
    click.echo(
        f'experiment "{one_line(experiment.name, 200)}" {experiment.id}, {experiment.status}, started {started} UTC'
    )
    click.echo(f"model {one_line(experiment.model_source, 200)}")
    click.echo(render_text(view, width=shutil.get_terminal_size().columns, verbosity=verbose))
