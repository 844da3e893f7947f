"""Writes texts: the words of the n-gram model, pulled towards the message, as long as asked for.

Standard library only.
"""

import math
import random
from collections import Counter
from typing import NamedTuple

from pytest_llmexp.localmodel.brevity import Brief
from pytest_llmexp.localmodel.ngrams import END, TEXT, TITLE, Model, Weights, choose, log_softmax
from pytest_llmexp.localmodel.relevance import Relevance, stem, stems

_STOPS = (".", "?", "!")
_HARD_LIMIT = 400
_REPETITION = 0.8
_PULL = 0.5
_FAR = 0.02
_NAMED_IN_MESSAGE = 1.6


class Written(NamedTuple):
    """A text, and the logarithm of the probability of each of its pieces."""

    text: str
    logprobs: tuple[float, ...]


class Word(NamedTuple):
    """A piece of a text with the space before it."""

    piece: str
    logprob: float


class Writer:
    """Writes the texts of one reply; what it wrote before is less likely to come again.

    Args:
        model: The trained model.
        relevance: What goes with the message.
        temperature: From 0 (always the most likely) to 2.
        top_p: The share of the probability that is drawn from.
        rng: The source of chance; unused at temperature 0.
    """

    def __init__(
        self, model: Model, relevance: Relevance, temperature: float, top_p: float, rng: random.Random
    ) -> None:
        self.relevance = relevance
        self.temperature = temperature
        self.rng = rng
        self._ngrams = {TITLE: model.titles, TEXT: model.texts}
        self._weights = [_FAR + score for score in relevance.document_scores]
        self._top_p = top_p
        self._used: Counter[str] = Counter()

    def write(self, brief: Brief) -> Written:
        """Write a title or some sentences."""
        loose = brief.loosened(self.temperature, self.rng)
        words = self._title(loose) if loose.title else self._sentences(loose)
        text = "".join(word.piece for word in words).lstrip()
        return Written(text, tuple(word.logprob for word in words))

    def choose(self, logits: Weights) -> str:
        """Draw one of some options by their logits."""
        return choose(logits, self.temperature, self._top_p, self.rng)

    def choose_label(self, labels: list[str]) -> str:
        """Draw the label that fits the message: mostly at low temperature, less often at a high one."""
        words = {word for label in labels for word in stems(label)}
        named = [label for label in labels if self.relevance.asked.keys() & stems(label)]
        relevance = self.relevance.without(words) if len(named) > 1 else self.relevance
        return self.choose({label: relevance.label_score(label) for label in labels})

    def _title(self, brief: Brief) -> list[Word]:
        words = self._sequence(TITLE, brief.max_words or _HARD_LIMIT)
        while len(words) > 1 and not stems(words[-1].piece):
            words.pop()
        return words

    def _sentences(self, brief: Brief) -> list[Word]:
        limit = brief.max_words or _HARD_LIMIT
        words: list[Word] = []
        for _ in range(brief.sentences):
            sentence = self._sentence(words)
            if words and _count(words) + _count(sentence) > limit:
                break
            words += sentence
        return words if _count(words) <= limit else _cut(words, limit)

    def _sentence(self, before: list[Word]) -> list[Word]:
        """Write one sentence that goes on from others; a text that has come to its end begins anew."""
        last = before[-1].piece if before else TEXT
        words = self._sequence(TEXT, _HARD_LIMIT, last)
        return words or self._sequence(TEXT, _HARD_LIMIT)

    def _sequence(self, kind: str, max_words: int, last: str | None = None) -> list[Word]:
        """Write to the end of a title or a sentence; `last` is the end of the sentence before."""
        first, second = (kind, kind) if last in (None, kind) else (kind, last or kind)
        words: list[Word] = []
        while _count(words) < max_words and len(words) < _HARD_LIMIT:
            word = self._next(kind, first, second)
            if word.piece == END:
                break
            words.append(word)
            first, second = second, word.piece
            if kind == TEXT and word.piece.strip() in _STOPS:
                break
        self._used.update(filter(None, (stem(word.piece) for word in words)))
        return words

    def _next(self, kind: str, first: str, second: str) -> Word:
        followers = self._ngrams[kind].after(first, second, self._weights)
        logits = {word: self._logit(word, weight) for word, weight in followers.items()}
        piece = self.choose(logits)
        return Word(piece, log_softmax(logits, piece))

    def _logit(self, word: str, weight: float) -> float:
        found = stem(word)
        logit = math.log(weight)
        if not found:
            return logit
        named = _NAMED_IN_MESSAGE if found in self.relevance.asked else 0.0
        return logit + _PULL * self.relevance.pull(word) + named - _REPETITION * self._used[found]


def _count(words: list[Word]) -> int:
    return sum(word.piece.strip()[:1].isalnum() for word in words)


def _cut(words: list[Word], limit: int) -> list[Word]:
    kept: list[Word] = []
    for word in words:
        if _count([*kept, word]) > limit:
            break
        kept.append(word)
    return [*kept, Word(".", 0.0)]
