"""The quick look for keys sees every literal that a key of known form begins with, wherever it stands."""

from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.core.redact import _PATTERNS, may_hold_key

LITERALS = [literal for literal, _ in _PATTERNS]


@given(
    st.lists(
        st.one_of(st.sampled_from([*LITERALS, "_", "-", "/", ":", "A", "x", "J", "gh", "sk"]), st.text(max_size=3))
    )
)
def test_no_text_with_a_literal_is_passed_over(parts: list[str]) -> None:
    text = "".join(parts)
    assert may_hold_key(text) >= any(literal in text for literal in LITERALS)


@given(st.text(), st.sampled_from(LITERALS), st.text())
def test_each_literal_is_seen_anywhere(before: str, literal: str, after: str) -> None:
    assert may_hold_key(before + literal + after)
