"""How long a server asks to wait before the next request: the headers `retry-after-ms` and `Retry-After`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_TOLD_BY = (429, 503, 529)


def retry_after(status: int, headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return seconds; None where the server asks for nothing, or for nothing that can be read.

    `headers` are looked up by lower-case names. A date counts from `now` (RFC 9110, 10.2.3).
    """
    if status not in _TOLD_BY:
        return None
    seconds = _number(headers.get("retry-after-ms"), 1000.0)
    if seconds is None:
        seconds = _number(headers.get("retry-after"), 1.0)
    return _until(headers.get("retry-after"), now) if seconds is None else seconds


def _number(text: str | None, unit: float) -> float | None:
    try:
        number = float(text or "") / unit
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _until(text: str | None, now: datetime | None) -> float | None:
    try:
        date = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
