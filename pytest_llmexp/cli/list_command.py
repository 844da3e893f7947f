"""`llmexp list`."""

from __future__ import annotations

import json

import click
from tabulate import tabulate

from pytest_llmexp.cli.database import db_option, open_for_reading
from pytest_llmexp.core.printable import one_line
from pytest_llmexp.report.plain import experiment_row


@click.command("list")
@db_option
@click.option("--limit", "-n", default=20, show_default=True, type=click.IntRange(min=1), help="Show this many")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def command(db: str, limit: int, as_json: bool) -> None:
    """List the experiments of a store, newest first.

    Examples: llmexp list

    llmexp list -n 5 --json
    """
    with open_for_reading(db) as store:
        rows = [experiment_row(store, experiment) for experiment in store.experiments(limit=limit)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("no experiments yet: run pytest --experiment-name=first")
        return
    shown = [
        [
            one_line(row["name"], 40),
            row["status"],
            row["started_at"][:19].replace("T", " "),
            row["runs"],
            _gates(row["gates"]),
            one_line(" ".join(f"{key}={tag}" for key, tag in row["tags"].items()), 40),
            row["id"],
        ]
        for row in rows
    ]
    headers = ["name", "status", "started (UTC)", "runs", "gates", "tags", "id"]
    click.echo(tabulate(shown, headers=headers, tablefmt="simple", disable_numparse=True))


def _gates(gates: dict[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in gates.items()) or "-"
