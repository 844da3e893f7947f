"""Ids, hashes, JSON forms and printable text."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pytest_llmexp.core.ids import IdMaker, canonical_json, short_hash, tagged_hash
from pytest_llmexp.core.jsonable import jsonable
from pytest_llmexp.core.printable import one_line, printable


def test_ids_sort_in_the_order_they_were_made_also_when_the_clock_jumps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    make = IdMaker()
    times = iter([5, 6, 6, 6, 2, 1, 7, 3])
    monkeypatch.setattr(time, "time_ns", lambda: next(times) * 1_000_000)
    made = [make("run") for _ in range(8)]
    assert made == sorted(set(made))
    assert all(len(each) == 30 and each.startswith("run_") for each in made)


def test_ids_of_many_threads_are_distinct() -> None:
    make, made = IdMaker(), list[str]()
    threads = [threading.Thread(target=lambda: made.extend(make("x") for _ in range(500))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000


def test_hashes_carry_their_algorithm_and_their_tag() -> None:
    assert tagged_hash("prompt", "user", "x").startswith("sha256:")
    assert tagged_hash("prompt", "user", "x") != tagged_hash("bot", "user", "x")
    assert tagged_hash("prompt", "a", "b") != tagged_hash("prompt", "ab")
    assert len(short_hash(tagged_hash("prompt"))) == 7


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(math.nan)


class Colour(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


class Model(BaseModel):
    colour: Colour
    points: tuple[int, ...]


class Plain:
    pass


class Broken:
    def __str__(self) -> str:
        raise OSError("gone")


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (Colour.RED, "red"),
        (Point(3), {"x": 3}),
        (Model(colour=Colour.RED, points=(1, 2)), {"colour": "red", "points": [1, 2]}),
        ({1: {2}}, {"1": [2]}),
        (math.inf, "inf"),
        (b"raw", "b'raw'"),
        (Point, f"{__name__}.Point"),
        (len, "builtins.len"),
        (Plain(), f"<{__name__}.Plain>"),
        ([Broken(), 1], [f"<{__name__}.Broken>", 1]),
    ],
)
def test_everything_has_a_json_form_that_is_the_same_in_every_process(value: object, form: object) -> None:
    assert jsonable(value) == form


def test_what_contains_itself_has_a_json_form() -> None:
    loop: list[object] = []
    loop.append(loop)
    json.dumps(jsonable(loop))


@given(st.text())
def test_printable_text_holds_no_control_characters_and_ordinary_text_stays(text: str) -> None:
    safe = printable(text)
    assert all(character in "\t\n" or ord(character) >= 32 for character in safe)
    assert printable(safe) == safe
    if text.isascii() and text.isprintable():
        assert safe == text


def test_one_line_is_cut_to_its_width() -> None:
    assert one_line("a\nb\x1b[2J", 20) == "a b\\x1b[2J"
    assert one_line("x" * 100, 10) == "xxxxxxx..."
