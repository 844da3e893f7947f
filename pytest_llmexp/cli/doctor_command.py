"""`llmexp doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from pytest_llmexp.cli.database import db_option
from pytest_llmexp.core.printable import one_line
from pytest_llmexp.store import Diagnosis, diagnose, salvage


@click.command("doctor")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@db_option
@click.option(
    "--salvage", "target", type=click.Path(path_type=Path), metavar="NEW", help="Copy what is readable into a new file"
)
def command(path: Path | None, db: str, target: Path | None) -> None:
    """Check a store's file: is it whole, whose is it, which SQLite writes it.

    The file itself is never changed. Exits 1 if something is wrong with it.

    Examples: llmexp doctor

    llmexp doctor broken.db --salvage saved.db
    """
    file = path or Path(db)
    diagnosis = diagnose(file)
    for line in _lines(diagnosis):
        click.echo(line)
    if target is not None:
        for table, count in salvage(file, target).items():
            click.echo(f"saved {count} rows of {table}")
        click.echo(f"saved into {target}")
    if diagnosis.problem or diagnosis.damage:
        raise SystemExit(1)


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    bug = " (can corrupt a file that two processes write at once; the store's lock prevents it)"
    modes = ", ".join(f"{name} {mode}" for name, mode in diagnosis.modes.items())
    yield f"file     {diagnosis.path}, {diagnosis.size} bytes"
    yield f"modes    {modes}"
    yield f"SQLite   {diagnosis.sqlite_version}" + (bug if diagnosis.wal_reset_bug else "")
    yield f"journal  {diagnosis.journal_mode or '-'}"
    yield f"schema   {diagnosis.schema_version or '-'}, the newest is {diagnosis.newest_schema_version}"
    for warning in diagnosis.warnings:
        yield f"note     {warning}"
    for damage in diagnosis.damage[:20]:
        yield f"damaged  {one_line(damage, 200)}"
    if diagnosis.problem:
        yield f"PROBLEM  {diagnosis.problem}"
    if diagnosis.problem or diagnosis.damage:
        yield f"         save what is readable: llmexp doctor {diagnosis.path} --salvage NEW.db"
    else:
        yield "the file is whole"
