"""How long an answer should be: read from what the message asks for.

Standard library only. A plain heuristic: it looks for "six words", "one sentence", "short", "a title" and the like.
"""

import random
import re
from dataclasses import dataclass, replace

_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBERS = {"a": 1, "single": 1, **{word: value for value, word in enumerate(_NUMBER_WORDS, 1)}}
_COUNT = rf"(\d+|{'|'.join(_NUMBERS)})"
_WORDS = re.compile(rf"\b{_COUNT}(?:[ -]|\s+or\s+(?:fewer|less)\s+)words?\b", re.IGNORECASE)
_SENTENCES = re.compile(rf"\b{_COUNT}[ -](?:short |plain |clear )?sentences?\b", re.IGNORECASE)
_CHARACTERS = re.compile(r"\b(\d+) characters\b", re.IGNORECASE)
_TITLE = re.compile(
    r"\b(?:give|suggest|write|find|invent|create|propose|make|need|want|generate|think of|answer with)\b"
    r"[^.?!]{0,40}\b(?:names?|titles?|headlines?|subject|slogan)\b",
    re.IGNORECASE,
)
_SHORT = re.compile(r"\b(?:short|shortly|brief|briefly|concise|concisely|terse)\b", re.IGNORECASE)
_LONG = re.compile(r"\b(?:long|detailed|in detail|essay|paragraphs?)\b", re.IGNORECASE)
_TITLE_WORDS = 8
_LETTERS_PER_WORD = 6


@dataclass(frozen=True)
class Brief:
    """What an answer should be: a title or sentences, and at most so many words."""

    title: bool = False
    sentences: int = 2
    max_words: int | None = None

    def loosened(self, temperature: float, rng: random.Random) -> "Brief":
        """Return a brief that is kept less exactly the higher the temperature; the same one at 0."""
        if temperature == 0:
            return self
        words = self.max_words and max(1, round(self.max_words * (1 + rng.gauss(0, 0.15 * temperature))))
        sentences = max(1, self.sentences + (rng.random() < 0.2 * temperature) - (rng.random() < 0.1 * temperature))
        return replace(self, max_words=words, sentences=sentences)


def requested_brief(text: str) -> Brief | None:
    """Return the brief that a text asks for, or None when it asks for none."""
    if words := _WORDS.findall(text):
        return _of_words(_number(words[-1]))
    if characters := _CHARACTERS.findall(text):
        return _of_words(max(1, int(characters[-1]) // _LETTERS_PER_WORD))
    if sentences := _SENTENCES.findall(text):
        return Brief(sentences=_number(sentences[-1]))
    if _TITLE.search(text):
        return Brief(title=True)
    if _SHORT.search(text):
        return Brief(sentences=1)
    return Brief(sentences=5) if _LONG.search(text) else None


def _of_words(count: int) -> Brief:
    return Brief(title=count <= _TITLE_WORDS, sentences=max(1, count // 12), max_words=count)


def _number(text: str) -> int:
    return _NUMBERS.get(text.lower()) or max(1, int(text) if text.isdigit() else 1)
