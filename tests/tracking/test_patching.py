"""Patches that several holders share, and that others may wrap."""

from __future__ import annotations

import inspect
from typing import Any

from pytest_llmexp.tracking.patching import SharedPatch


def make_target() -> Any:
    class Target:
        def greet(self, name: str = "you") -> str:
            """Greet."""
            return f"hello {name}"

    return Target


def louder(original: Any, *args: Any, **kwargs: Any) -> Any:
    return original(*args, **kwargs).upper()


def test_a_patch_lasts_until_the_last_holder_leaves() -> None:
    target, patch = make_target(), SharedPatch()
    original = vars(target)["greet"]
    with patch.held():
        patch.replace(target, "greet", louder)
        with patch.held():
            patch.replace(target, "greet", louder)
            assert target().greet() == "HELLO YOU"
        assert target().greet(name="me") == "HELLO ME"
    assert vars(target)["greet"] is original


def test_a_patch_looks_like_what_it_replaces() -> None:
    target, patch = make_target(), SharedPatch()
    before = inspect.signature(target.greet), target.greet.__name__, target.greet.__doc__, target.greet.__qualname__
    with patch.held():
        patch.replace(target, "greet", louder)
        greet = target.greet
        assert (inspect.signature(greet), greet.__name__, greet.__doc__, greet.__qualname__) == before


def test_nobody_holding_means_no_patch() -> None:
    target, patch = make_target(), SharedPatch()
    patch.replace(target, "greet", louder)
    assert target().greet() == "hello you"


def test_a_patch_that_others_wrapped_is_left_to_them_but_does_nothing() -> None:
    target, patch = make_target(), SharedPatch()
    with patch.held():
        patch.replace(target, "greet", louder)
        ours = target.greet
        target.greet = lambda self, name="you": f"<{ours(self, name)}>"
        assert target().greet() == "<HELLO YOU>"
    assert target().greet() == "<hello you>"
    with patch.held():
        patch.replace(target, "greet", louder)
        assert target().greet() == "<HELLO YOU>"
    assert target().greet() == "<hello you>"


def test_an_exception_ends_the_patch() -> None:
    target, patch = make_target(), SharedPatch()
    original = vars(target)["greet"]
    try:
        with patch.held():
            patch.replace(target, "greet", louder)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert vars(target)["greet"] is original
