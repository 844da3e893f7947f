"""The border of metrics: a value a test hands over becomes a kind and an exact, finite float, or is refused.

Imports no numpy: its scalars, like torch's, are known by their `item()`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from fractions import Fraction

from pytest_llmexp.core.errors import MetricError
from pytest_llmexp.core.models import MetricKind

_ALLOWED = "a metric is one bool, int or finite float"


def scalar(name: str, value: object) -> tuple[MetricKind, float]:
    """Return the kind of a metric's value and the value as a float that equals it.

    Takes bool (boolean, 0.0 or 1.0), int (ordinal), finite float (float), and whatever `item()` turns into
    one of these: numpy scalars, arrays and tensors of one element. Raises MetricError for everything else,
    and for an int that no float equals, rather than store something near it.
    """
    number = value if isinstance(value, bool | int | float) else _item(value)
    if isinstance(number, bool):
        return "boolean", float(number)
    if isinstance(number, int):
        return "ordinal", _exact_float(name, number, value)
    if isinstance(number, float):
        if not math.isfinite(number):
            raise _refusal(
                name, value, f"{number} is not finite: leave the metric out of this run, it counts as missing"
            )
        return "float", float(number)
    raise _refusal(name, value, _hint(value))


def check_bounds(name: str, value: float, bounds: tuple[float, float] | None) -> None:
    """Raise MetricError if `value` lies outside `bounds`, or if these are not two finite numbers, low < high."""
    if bounds is None:
        return
    if not _are_bounds(bounds):
        raise MetricError(
            f"metric {name!r}: bounds {bounds!r} are not two finite numbers with low < high; write bounds=(1, 10)"
        )
    low, high = bounds
    if not low <= value <= high:
        raise MetricError(
            f"metric {name!r}: {value!r} is outside its bounds {low!r} to {high!r}; "
            "widen the bounds, or bring the value inside them"
        )


def _are_bounds(bounds: object) -> bool:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        return False
    if any(isinstance(bound, bool) or not isinstance(bound, int | float) for bound in bounds):
        return False
    return all(math.isfinite(bound) for bound in bounds) and bounds[0] < bounds[1]


def _item(value: object) -> object:
    """Return what `value.item()` gives, or None where there is no such method or it refuses."""
    item = getattr(value, "item", None)
    # numpy's datetime64 and timedelta64 turn into plain ints: a count in a unit that would be lost
    if not callable(item) or getattr(getattr(value, "dtype", None), "kind", "") in {"M", "m"}:
        return None
    try:
        result: object = item()
    except Exception:  # an array of several elements, a class instead of an instance: the caller refuses it
        return None
    return result


def _exact_float(name: str, number: int, value: object) -> float:
    # 2**63 and beyond do not fit the integers of SQL, in which people query the store
    if abs(number) < 2**63 and int(as_float := float(number)) == number:
        return as_float
    raise _refusal(
        name, value, "no float equals it: return float(value) if a rounded number will do, or a smaller unit"
    )


def _refusal(name: str, value: object, hint: str) -> MetricError:
    kind = type(value)
    described = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return MetricError(f"metric {name!r}: {_ALLOWED}, not {described}; {hint}")


def _hint(value: object) -> str:
    """Say what to return instead of a value that is no number."""
    if value is None:
        return "the function returned nothing: return the number, or do not call it in this run"
    if isinstance(value, str | bytes):
        return "a metric is a number: return len(...), a bool, or a rating"
    if isinstance(value, Decimal | Fraction):
        return "return float(value)"
    if isinstance(value, complex):
        return "return abs(value), or its .real"
    if inspect.isawaitable(value):
        return "it was not awaited: record the result of `await ...`"
    fields = _numeric_fields(value)
    if fields:
        return f"return one of its fields: value.{fields[0]}" if len(fields) > 1 else f"return value.{fields[0]}"
    if isinstance(value, Mapping | AbstractSet | list | tuple):
        return "return one number, such as len(value), or record each part under its own name"
    return "return one number taken from it"


def _numeric_fields(value: object) -> list[str]:
    """Return the public fields of a dataclass, a named tuple or a pydantic object that hold numbers."""
    names = getattr(type(value), "__dataclass_fields__", None) or getattr(type(value), "_fields", None)
    names = names or getattr(value, "__dict__", {})
    found = {name: getattr(value, name, None) for name in names if isinstance(name, str) and name.isidentifier()}
    return [name for name, held in found.items() if isinstance(held, bool | int | float) and not name.startswith("_")]
