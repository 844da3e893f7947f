"""`llmexp doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_llmexp.cli.database import db_option
from pytest_llmexp.store import diagnose, salvage


@click.command("doctor")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@db_option
@click.option(
    "--salvage", "target", type=click.Path(path_type=Path), metavar="NEW", help="Copy what is readable into a new file"
)
def command(path: Path | None, db: str, target: Path | None) -> None:
    """Check a store's file: is it whole, whose is it, which SQLite writes it.

    The file itself is never changed. Exits 1 if something is wrong with it.

    Examples: llmexp doctor · llmexp doctor broken.db --salvage saved.db
    """
    file = path or Path(db)
    diagnosis = diagnose(file)
    for line in diagnosis.lines():
        click.echo(line)
    if target is not None:
        for table, count in salvage(file, target).items():
            click.echo(f"saved {count} rows of {table}")
        click.echo(f"saved into {target}")
    if not diagnosis.healthy:
        raise SystemExit(1)
