"""Every value is stored exactly or refused, and the refusal says what to return instead."""

import dataclasses
import math
from collections import namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.core.errors import MetricError
from pytest_llmexp.core.scalars import check_bounds, scalar


class Judgement(pydantic.BaseModel):
    reason: str = "short"
    score: float = 0.5


@dataclasses.dataclass(slots=True)
class Rating:
    words: str
    stars: int
    calm: bool


Pair = namedtuple("Pair", ["left", "right"])


class OneElement:
    """Gives its element the way a torch tensor does."""

    def __init__(self, element: object) -> None:
        self.element = element

    def item(self) -> object:
        if isinstance(self.element, list):
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
        return self.element


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, ("boolean", 1.0)),
        (False, ("boolean", 0.0)),
        (7, ("ordinal", 7.0)),
        (2**53 + 2, ("ordinal", float(2**53 + 2))),
        (-(2**62), ("ordinal", -float(2**62))),
        (0.1, ("float", 0.1)),
        (5e-324, ("float", 5e-324)),
        (np.bool_(True), ("boolean", 1.0)),
        (np.int64(-3), ("ordinal", -3.0)),
        (np.uint8(255), ("ordinal", 255.0)),
        (np.float64(0.1), ("float", 0.1)),
        (np.float32(0.1), ("float", 0.10000000149011612)),
        (np.array([2]), ("ordinal", 2.0)),
        (OneElement(0.25), ("float", 0.25)),
        (OneElement(True), ("boolean", 1.0)),
    ],
)
def test_scalars_become_their_kind_and_an_equal_float(value: object, expected: tuple[str, float]) -> None:
    kind, number = scalar("m", value)
    assert (kind, number) == expected
    assert type(number) is float


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (None, "returned nothing"),
        ("long answer", "return len(...), a bool, or a rating"),
        (np.str_("text"), "return len(...)"),
        (b"bytes", "return len(...)"),
        (math.nan, "nan is not finite"),
        (-math.inf, "-inf is not finite"),
        (np.float32("nan"), "nan is not finite"),
        (OneElement(math.inf), "inf is not finite"),
        (1 + 2j, "abs(value)"),
        (Decimal("0.5"), "return float(value)"),
        (Fraction(1, 3), "return float(value)"),
        (2**70, "float(value)"),
        (2**63, "float(value)"),
        (2**53 + 1, "float(value)"),
        (10**400, "a smaller unit"),
        ([1, 2], "len(value)"),
        ({"score": 1}, "len(value)"),
        ({1}, "len(value)"),
        (np.array([1, 2]), "one number"),
        (np.datetime64("2026-01-01", "ns"), "one number"),
        (np.timedelta64(5, "ns"), "one number"),
        (np.float64, "one number"),
        (OneElement([1, 2]), "one number"),
        (OneElement(Decimal(1)), "one number"),
        (object(), "one number"),
        (Judgement(), "return value.score"),
        (Rating("fine", 4, True), "one of its fields: value.stars"),
        (Pair(1, "x"), "return value.left"),
    ],
)
def test_anything_else_is_refused_with_a_hint(value: object, hint: str) -> None:
    with pytest.raises(MetricError) as caught:
        scalar("clarity", value)
    message = str(caught.value)
    assert "'clarity'" in message
    assert type(value).__name__ in message
    assert hint in message


def test_a_coroutine_is_to_be_awaited() -> None:
    async def rating() -> int:
        return 1

    pending = rating()
    with pytest.raises(MetricError, match="await"):
        scalar("m", pending)
    pending.close()


def test_the_refused_text_itself_is_not_repeated() -> None:
    with pytest.raises(MetricError) as caught:
        scalar("m", "a secret answer")
    assert "secret" not in str(caught.value)


_ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(),
    st.decimals(),
    st.fractions(),
    st.text(),
    st.complex_numbers(),
    st.lists(st.integers()),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.floats(width=32).map(np.float32),
    st.booleans().map(np.bool_),
)


@given(_ANYTHING)
def test_every_value_is_kept_exactly_or_refused(value: Any) -> None:
    try:
        kind, number = scalar("m", value)
    except MetricError:
        return
    assert type(number) is float
    assert math.isfinite(number)
    plain = value.item() if isinstance(value, np.generic) else value
    assert Fraction(number) == Fraction(plain)
    assert kind == {bool: "boolean", int: "ordinal", float: "float"}[type(plain)]


@given(st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)))
def test_every_plain_finite_number_is_kept(value: float) -> None:
    assert scalar("m", value)[1] == value


@pytest.mark.parametrize("bounds", [None, (1, 10), (7.0, 8.0), (-1e308, 7)])
def test_a_value_within_its_bounds_is_fine(bounds: tuple[float, float] | None) -> None:
    check_bounds("m", 7.0, bounds)


@pytest.mark.parametrize("bounds", [(1, 6), (7.5, 8)])
def test_a_value_outside_its_bounds_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(MetricError, match=r"'m': 7\.0 is outside its bounds"):
        check_bounds("m", 7.0, bounds)


@pytest.mark.parametrize(
    "bounds", [(10, 1), (7, 7), (0, math.inf), (math.nan, 1), (1,), (1, 2, 3), "19", ("1", "9"), 5]
)
def test_malformed_bounds_are_refused(bounds: Any) -> None:
    with pytest.raises(MetricError, match="are not two finite numbers"):
        check_bounds("m", 7.0, bounds)
