"""Wall-clock time as the store keeps it. Durations never come from here, but from time.perf_counter."""

from datetime import UTC, datetime


def utc_now() -> str:
    """Return the time in UTC as ISO 8601 with microseconds, such as `2026-01-31T12:00:00.000000Z`."""
    return datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
