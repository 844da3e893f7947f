"""The Jinja2 environment of prompts: no access to Python's internals, no other files, no huge texts."""

from __future__ import annotations

import re
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pytest_llmexp.core.errors import PromptError

MAX_RENDERED = 10_000_000  # characters
_MAX_EXPONENT = 10_000
_PADDING = frozenset({"ljust", "rjust", "center", "zfill", "expandtabs"})
_WIDE = re.compile(r"%[^a-zA-Z%]*(?:[0-9]{7}|\*)")  # a % format with a width of a million, or one given apart
_SIZED = (str, bytes, list, tuple)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, which also refuses to build huge values out of small ones.

    Variables are never templates: what is written in them stays as it is. Undefined ones raise.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
        del self.globals["lipsum"]  # random text of any length
        del self.filters["center"]

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Compute `left operator right`, unless that would be huge."""
        if _is_huge(operator, left, right):
            raise PromptError(
                f"a template may not build values of more than {MAX_RENDERED} characters; "
                "pass a long text as a variable instead"
            )
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Say whether a template may look at an attribute; methods that pad texts to any width are out."""
        padding = attr in _PADDING and isinstance(obj, str | bytes)
        return not padding and bool(super().is_safe_attribute(obj, attr, value))


def _is_huge(operator: str, left: Any, right: Any) -> bool:
    if operator == "%":
        return isinstance(left, str) and _WIDE.search(left) is not None
    sizes = [len(side) if isinstance(side, _SIZED) else side for side in (left, right)]
    if not all(isinstance(size, int | float) for size in sizes):
        return False
    sized = isinstance(left, _SIZED) or isinstance(right, _SIZED)
    match operator:
        case "**":
            return bool(abs(sizes[0]) > 1 and abs(sizes[1]) > _MAX_EXPONENT)
        case "*":
            return sized and bool(sizes[0] * sizes[1] > MAX_RENDERED)
        case "+":
            return sized and bool(sizes[0] + sizes[1] > MAX_RENDERED)
    return False
