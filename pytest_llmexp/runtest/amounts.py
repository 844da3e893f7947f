"""Amounts that options name: USD, tokens, prices. Imports pytest only."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def parse_amount(text: str, where: str) -> float:
    """Return USD; pytest.UsageError for what is no finite amount above 0."""
    amount = _number(text)
    if not 0 < amount < float("inf"):  # nor nan
        raise pytest.UsageError(f"{where} is {text!r}; it is an amount of USD above 0, such as 0.50")
    return amount


def parse_tokens(text: str, where: str) -> int:
    """Return a number of tokens; pytest.UsageError for what is no whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise pytest.UsageError(f"{where} is {text!r}; it is a whole number of tokens from 1, such as 100000")
    return int(text)


def parse_requests(text: str, where: str) -> int:
    """Return a number of requests; pytest.UsageError for what is no whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise pytest.UsageError(f"{where} is {text!r}; it is a whole number of requests from 1, such as 500")
    return int(text)


def parse_runs_in_a_row(text: str, where: str) -> int:
    """Return a number of runs; pytest.UsageError for what is no whole number from 0."""
    if not (text.isascii() and text.isdigit()):
        raise pytest.UsageError(f"{where} is {text!r}; it is a whole number of runs, 0 for never")
    return int(text)


def parse_prices(lines: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Return USD for a million input and a million output tokens by model, from lines `MODEL = INPUT, OUTPUT`."""
    prices = {}
    for line in lines:
        model, _, numbers = line.rpartition("=")
        amounts = [_number(part) for part in numbers.split(",")]
        if not model.strip() or len(amounts) != 2 or not all(0 <= amount < float("inf") for amount in amounts):
            raise pytest.UsageError(
                f"ini experiment_prices has the line {line!r}; a line is MODEL = INPUT, OUTPUT in USD for a million "
                "tokens, such as my-model = 0.40, 1.60"
            )
        prices[model.strip()] = (amounts[0], amounts[1])
    return prices


def _number(text: str) -> float:
    """Return a number as written in digits, nan for anything else."""
    try:
        return float(text) if text.strip().isascii() and "_" not in text else float("nan")
    except ValueError:
        return float("nan")
