"""JSON is shortened to about as many characters as asked for, and says what is missing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.core.jsonable import Shortener

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=30,
)


@given(VALUES)
def test_what_fits_is_unchanged(value: Any) -> None:
    assert Shortener(10 * len(json.dumps(value)) + 10)(value) == value


@given(VALUES, st.integers(0, 200))
def test_the_rest_is_left_out(value: Any, characters: int) -> None:
    text = json.dumps(Shortener(characters)(value), ensure_ascii=False)
    # each level that is cut adds a note of at most 35 characters
    assert len(text) <= 2 * characters + 35 * 8 + 20


def test_it_says_how_much_is_missing() -> None:
    assert Shortener(10)("x" * 12) == "xxxxxxxxxx... 2 more characters"
    assert Shortener(12)([1, 2, 3, 4]) == [1, 2, "... 2 more"]
    assert Shortener(5)({"a": 1, "b": 2, "c": 3}) == {"a": 1, "...": "2 more"}
