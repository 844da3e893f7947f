"""The gate language: text to Gate and back. A reader that matches the whole text; nothing is ever evaluated.

gate   := term cmp NUMBER
term   := "pass_rate" | stat "(" metric ")" | "rate" "(" metric cmp NUMBER ")"
stat   := "mean" | "pass_rate" | "median" | "p1" to "p99.9" | "min" | "max" | "sum" | "sd"
cmp    := ">=" | ">" | "<=" | "<"
metric := a word of letters, digits, "_", "." and "-", or any text in double quotes, escaped as in JSON
"""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn, cast

from pytest_llmexp.core.errors import GateSyntaxError

Comparison = Literal[">=", ">", "<=", "<"]
LONGEST = 1000
"""Characters a gate may have."""

_STATISTICS = ("mean", "median", "min", "max", "sum", "sd", "pass_rate", "rate")
_ALLOWED = (
    "a gate is STATISTIC COMPARISON NUMBER, the statistic one of mean(m), median(m), p90(m), min(m), max(m), sum(m), "
    "sd(m), pass_rate, pass_rate(m), rate(m >= 7), the comparison one of >=, >, <=, <; "
    'for example "mean(name_length) <= 40"'
)
_OFTEN_MEANT = {"avg": "mean", "average": "mean", "std": "sd", "stdev": "sd", "stddev": "sd", "total": "sum"}
_NOT_YET = ("lower", "upper", "pass_at", "pass_hat")
_INSTEAD = 'is not available in this version; write a point gate such as "pass_rate >= 0.9"'

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[^\W\d][\w.\-]*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.|"")*"', re.DOTALL)
_ESCAPED = re.compile(r'\\.|""', re.DOTALL)
_COMPARISON = re.compile(r">=|<=|>|<")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_QUANTILE = re.compile(r"p([1-9][0-9]?(?:\.[0-9]+)?)")


class Condition(NamedTuple):
    """What `rate` counts: the runs whose value compares so with the number."""

    comparison: Comparison
    number: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A demand on one statistic of a metric. The bare `pass_rate` is that of the implicit metric `pass_rate`."""

    statistic: str
    metric: str
    condition: Condition | None = None
    comparison: Comparison
    threshold: float

    @property
    def text(self) -> str:
        """The gate in its one normal form; parsing it gives an equal gate."""
        return f"{self._term} {self.comparison} {_number_text(self.threshold)}"

    @property
    def decides_pass_rate(self) -> bool:
        """Whether the gate, and no longer each failed run, decides about passing: true of the bare `pass_rate`."""
        return self.statistic == self.metric == "pass_rate"

    @property
    def wants_more(self) -> bool:
        """Whether greater values are better to this gate."""
        return self.comparison.startswith(">")

    @property
    def _term(self) -> str:
        if self.decides_pass_rate:
            return "pass_rate"
        name = self.metric if _NAME.fullmatch(self.metric) else json.dumps(self.metric)
        if self.condition is None:
            return f"{self.statistic}({name})"
        return f"{self.statistic}({name} {self.condition.comparison} {_number_text(self.condition.number)})"


def parse_gate(text: str) -> Gate:
    """Return the gate that `text` writes down; whitespace between its parts is free.

    Raises GateSyntaxError, which says where the text stops making sense and what is allowed.
    """
    if not isinstance(text, str):
        raise GateSyntaxError(f"gate {text!r}: a gate is text, not {type(text).__name__}; {_ALLOWED}")
    if len(text) > LONGEST:
        raise GateSyntaxError(
            f"gate {text[:40]!r}...: {len(text)} characters, at most {LONGEST} are allowed; {_ALLOWED}"
        )
    reader = _Reader(text)
    statistic, metric, condition = _read_term(reader)
    comparison = reader.comparison()
    threshold = reader.number()
    if statistic in ("pass_rate", "rate") and not 0 <= threshold <= 1:
        reader.fail(f"a share of runs lies between 0 and 1, not at {_number_text(threshold)} (90 % is 0.9)")
    reader.end()
    return Gate(statistic=statistic, metric=metric, condition=condition, comparison=comparison, threshold=threshold)


class _Reader:
    """Reads one token after the other, and says where the text stopped making sense."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """Skip whitespace, then return and pass over what `pattern` matches here, or return None."""
        self._skip_space()
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match.group()

    def next_is(self, character: str) -> bool:
        self._skip_space()
        return self.text.startswith(character, self.at)

    def expect(self, character: str) -> None:
        if not self.next_is(character):
            self.fail(f"expected {character!r}")
        self.at += 1

    def metric(self) -> str:
        if (name := self.take(_NAME)) is not None:
            return name
        start = self.at
        quoted = self.take(_QUOTED)
        if quoted is None:
            self.fail("expected the name of a metric (in double quotes if it is not a plain word)")
        body = _ESCAPED.sub(lambda escape: r"\"" if escape.group() == '""' else escape.group(), quoted[1:-1])
        try:
            return cast(str, json.loads(f'"{body}"', strict=False))
        except ValueError:
            self.at = start
            self.fail('not a quoted name: inside double quotes write " as \\" and \\ as \\\\')

    def comparison(self) -> Comparison:
        found = self.take(_COMPARISON)
        if found is None:
            self.fail("expected one of >=, >, <=, <")
        return cast(Comparison, found)

    def number(self) -> float:
        start = self.at
        found = self.take(_NUMBER)
        if found is None:
            self.fail(f"a comparison with a baseline {_INSTEAD}" if self.next_is("baseline") else "expected a number")
        number = float(found)
        if self.next_is("%"):
            self.fail(f"a percentage is no number here, write {_number_text(number / 100)}")
        if math.isinf(number):
            self.at = start
            self.fail("expected a number within the range of a float")
        return number + 0.0  # -0.0 becomes 0.0

    def end(self) -> None:
        if self.next_is("@"):
            self.fail(f"a confidence level {_INSTEAD}")
        if self.at < len(self.text):
            self.fail("expected the end of the gate")

    def fail(self, problem: str) -> NoReturn:
        self._skip_space()
        rest = self.text[self.at : self.at + 20]
        place = f"column {self.at + 1}, {rest!r}" if rest else "the end of the text"
        raise GateSyntaxError(f"gate {self.text[:200]!r}: {problem} (at {place}); {_ALLOWED}")

    def _skip_space(self) -> None:
        space = _SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at


def _read_term(reader: _Reader) -> tuple[str, str, Condition | None]:
    reader.next_is("")
    start = reader.at
    word = reader.take(_NAME)
    if word is None:
        reader.fail("expected a statistic")
    statistic = _statistic(word)
    if statistic is None:
        called = reader.next_is("(")
        reader.at = start
        reader.fail(_unknown(word, called))
    if statistic == "pass_rate" and not reader.next_is("("):
        return statistic, "pass_rate", None
    reader.expect("(")
    metric = reader.metric()
    condition = Condition(reader.comparison(), reader.number()) if statistic == "rate" else None
    reader.expect(")")
    return statistic, metric, condition


def _statistic(word: str) -> str | None:
    if word in _STATISTICS:
        return word
    quantile = _QUANTILE.fullmatch(word)
    if quantile is None:
        return None
    percent = quantile.group(1)
    return "p" + (percent.rstrip("0").rstrip(".") if "." in percent else percent)


def _unknown(word: str, called: bool) -> str:
    if word in _NOT_YET:
        return f"{word}() {_INSTEAD}"
    if re.fullmatch(r"p[0-9.]+", word):
        return f"no quantile {word[:50]!r}, there are p1 to p99.9"
    close = difflib.get_close_matches(word[:50], [*_STATISTICS, *_NOT_YET], n=1)
    meant = _OFTEN_MEANT.get(word.lower()) or (close[0] if close else None)
    if meant is None and not called:
        meant = f"mean({word[:50]})"
    return f"no statistic {word[:50]!r}" + (f", did you mean {meant}?" if meant else "")


def _number_text(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
