"""`llmexp show`."""

from __future__ import annotations

import json
import shutil

import click

from pytest_llmexp.cli.database import db_option, open_for_reading
from pytest_llmexp.core.printable import one_line
from pytest_llmexp.report.plain import view_document
from pytest_llmexp.report.text import render_text
from pytest_llmexp.report.view import load_view


@click.command("show")
@click.argument("ref")
@db_option
@click.option("--verbose", "-v", count=True, help="Every metric and case; twice: every run and prompt text too")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def command(ref: str, db: str, verbose: int, as_json: bool) -> None:
    """Print the summary of an experiment.

    REF is a name (its latest finished experiment), name~1 (the one before), or an id.

    Examples: llmexp show main

    llmexp show main~1 -v

    llmexp show exp_06f... --json
    """
    with open_for_reading(db) as store:
        experiment = store.experiment(ref)
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
