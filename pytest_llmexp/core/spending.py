"""What calls used up, limits of it, and how both are said. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Limits(NamedTuple):
    """What an experiment may use up: USD, and tokens sent and received; None is no limit."""

    cost_usd: float | None = None
    tokens: int | None = None


class Spending(NamedTuple):
    """USD and tokens that calls used up, and how many answers have no cost, or told no tokens."""

    cost_usd: float = 0.0
    tokens: int = 0
    unpriced: int = 0
    untold: int = 0


def reaches(spent: Spending, limits: Limits) -> bool:
    """Say whether a limit is used up.

    >>> reaches(Spending(cost_usd=0.5), Limits(cost_usd=0.5)), reaches(Spending(tokens=99), Limits(tokens=100))
    (True, False)
    """
    nearly = 1 - 1e-9  # ten times ten cents are a dollar, also where floats say a little less
    return (limits.cost_usd is not None and spent.cost_usd >= limits.cost_usd * nearly) or (
        limits.tokens is not None and spent.tokens >= limits.tokens
    )


def compared(spent: Spending, limits: Limits) -> str:
    """Return what was spent of each limit.

    >>> compared(Spending(0.5031, 12345), Limits(0.5, 10_000))
    '$0.5031 of $0.50, 12,345 of 10,000 tokens'
    """
    parts = []
    if limits.cost_usd is not None:
        parts.append(f"{usd(spent.cost_usd)} of {usd(limits.cost_usd)}")
    if limits.tokens is not None:
        parts.append(f"{spent.tokens:,} of {limits.tokens:,} tokens")
    return ", ".join(parts)


def usd(amount: float) -> str:
    """Return an amount with cents, and below a dollar with four digits that count.

    >>> [usd(amount) for amount in (0, 0.5, 0.5031, 0.00001234, 12.345, 1234.5)]
    ['$0.00', '$0.50', '$0.5031', '$0.00001234', '$12.35', '$1,234.50']
    """
    digits = 2 if amount >= 1 or amount <= 0 else 3 - math.floor(math.log10(amount))
    whole, _, cents = f"{amount:,.{digits}f}".partition(".")
    return f"${whole}.{cents[:2]}{cents[2:].rstrip('0')}"


def early_end(metadata: Mapping[str, Any]) -> str | None:
    """Return the line on an experiment that ended before all its runs were made, from its metadata; else None."""
    if stop := metadata.get("spending_stop"):
        return stop_line(stop)
    down = metadata.get("provider_stop")
    return outage_line(down) if down else None


def outage_line(stop: Mapping[str, Any]) -> str:
    """Return the line on an experiment that a provider which stays down has ended.

    >>> outage_line({"address": "https://x.com", "failed": 5, "last": "HTTP 500", "done": 2, "cut": 0, "planned": 9})
    'PROVIDER DOWN: https://x.com failed 5 runs in a row, the last: HTTP 500; 2 of 9 runs made, 7 not run'
    """
    cut = f"{stop['cut']} cut short, " if stop["cut"] else ""
    left = stop["planned"] - stop["done"] - stop["cut"]
    return (
        f"PROVIDER DOWN: {stop['address']} failed {stop['failed']} runs in a row, the last: {stop['last']}; "
        f"{stop['done']} of {stop['planned']} runs made, {cut}{left} not run"
    )


def stop_line(stop: Mapping[str, Any]) -> str:
    """Return the line on an experiment that a limit stopped, from what its metadata holds of that.

    >>> stop_line({"why": None, "limit": [0.5, None], "cost_usd": 0.5031, "tokens": 12345, "done": 36, "cut": 1,
    ...            "planned": 100})
    'SPENDING LIMIT reached: $0.5031 of $0.50 (12,345 tokens) after 36 of 100 runs; 1 cut short, 63 not run'
    """
    limits, cost, tokens = Limits(*stop["limit"]), stop["cost_usd"], stop["tokens"]
    spent = compared(Spending(cost or 0.0, tokens), limits)
    if limits.tokens is None:
        spent += f" ({tokens:,} tokens)"
    elif limits.cost_usd is None and cost:
        spent += f" ({usd(cost)})"
    how = f"cannot be checked: {stop['why']}:" if stop["why"] else "reached:"
    cut = f"{stop['cut']} cut short, " if stop["cut"] else ""
    left = stop["planned"] - stop["done"] - stop["cut"]
    return f"SPENDING LIMIT {how} {spent} after {stop['done']} of {stop['planned']} runs; {cut}{left} not run"
