"""The kinds of columns the tables are made of, and their checks.

`info["kind"]` says how the values of a column are kept; codec.py has an encoder and a decoder for each kind.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import REAL, CheckConstraint, Column, Double, ForeignKey, Integer, Text
from sqlalchemy.types import TypeEngine

JSON_KINDS = ("json", "json twice", "names")
FLOAT: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")


def exact(name: str, *more: Any, nullable: bool = False) -> Column[str]:
    """What records are found and grouped by (ids, hashes, times, names in code, ids of cases): kept as it is."""
    return Column(name, Text, *more, nullable=nullable, info={"kind": "exact"})


def key(name: str, *more: Any) -> Column[str]:
    """A part of the primary key, exact."""
    return Column(name, Text, *more, primary_key=True, nullable=False, info={"kind": "exact"})


def text(name: str, *, nullable: bool = False) -> Column[str]:
    """Text from users, models and exceptions: redacted."""
    return Column(name, Text, nullable=nullable, info={"kind": "text"})


def names(name: str) -> Column[str]:
    """A tuple of names, as a JSON array."""
    return Column(name, Text, nullable=False, info={"kind": "names"})


def json(name: str, *, nullable: bool = False) -> Column[str]:
    """JSON text, its strings redacted; None is NULL."""
    return Column(name, Text, nullable=nullable, info={"kind": "json"})


def json_twice(name: str) -> Column[str]:
    """JSON that a record is written with twice, the second time with more beside it; None is NULL."""
    return Column(name, Text, nullable=True, info={"kind": "json twice"})


def finite(name: str) -> Column[float]:
    """A float that is there and finite."""
    return Column(name, FLOAT, nullable=False, info={"kind": "finite"})


def number(name: str, *, nullable: bool = True) -> Column[float]:
    """A float, NULL where unknown; SQLite makes NaN NULL."""
    return Column(name, FLOAT, nullable=nullable, info={"kind": "number"})


def integer(name: str, *, nullable: bool = True, kind: str = "integer") -> Column[int]:
    """A whole number; of kind "flag" a truth value as 0 or 1."""
    return Column(name, Integer, nullable=nullable, info={"kind": kind})


def parent(name: str) -> ForeignKey:
    """A reference to the id of another table, with whose row this one is deleted."""
    return ForeignKey(f"{name}.id", ondelete="CASCADE")


def one_of(column: str, *words: str) -> CheckConstraint:
    """A check that a column holds one of these words, or NULL where it may."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(word) for word in words)})")


def valid(*columns: str) -> tuple[CheckConstraint, ...]:
    """Checks of JSON columns. Only of small ones: SQLite parses the text for it."""
    return tuple(CheckConstraint(f"json_valid({column})") for column in columns)
