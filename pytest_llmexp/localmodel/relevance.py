"""Which words go with a message: by the documents of the training text in which they occur together.

Standard library only.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from pytest_llmexp.localmodel.corpus import Document

_WORD = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
_SUFFIXES = (
    *("ations", "ation", "ings", "ing", "ment", "ness"),
    *("ies", "ers", "ed", "er", "es", "ly", "al", "s", "e", "y"),
)
_NEAREST = 40
_SHARPNESS = 3
_NAMED = 0.7
_FUNCTION_WORDS = frozenset(
    """
    a about after all also am an and any are as at be been before but by can could did do does each else every
    for from had has have he her here him his how i if in into is it its just let like may me more most my no
    nor not of off on one only or other our out over own please she should so some such than that the their
    them then there these they this those to too under until up us very was we were what when where which
    while who whom why will with would you your answer sentence sentences word words give describe least
    """.split()  # noqa: SIM905 - a list of a hundred quoted words would hide them
)


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Return a word in lower case without its ending; an empty text for a function word."""
    lowered = word.strip().casefold()
    if lowered in _FUNCTION_WORDS or not lowered[:1].isalpha():
        return ""
    for suffix in _SUFFIXES:
        if lowered.endswith(suffix) and len(lowered) - len(suffix) >= 3:
            return lowered.removesuffix(suffix)
    return lowered


def stems(text: str) -> list[str]:
    """Return the stems of the content words of a text or an identifier such as `feature_request` or `dueDate`."""
    return [found for word in _WORD.findall(text) if (found := stem(word))]


class Library:
    """The documents of the training text as sets of stems, with an index of them."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents = [
            frozenset(stems(f"{document.title} {document.text} {' '.join(document.labels)}")) for document in documents
        ]
        self._index: dict[str, list[int]] = defaultdict(list)
        for position, words in enumerate(self._documents):
            for word in words:
                self._index[word].append(position)

    def relevance(self, weighted_texts: Sequence[tuple[str, float]]) -> "Relevance":
        """Return what is relevant to some texts, each with its weight."""
        asked: dict[str, float] = {}
        for text, weight in weighted_texts:
            for word in set(stems(text)):
                asked[word] = max(asked.get(word, 0.0), weight)
        return Relevance(self, asked)

    def frequency(self, word: str) -> int:
        """Return in how many documents a stem occurs."""
        return len(self._index.get(word, ()))

    def document_scores(self, asked: Mapping[str, float]) -> list[float]:
        """Return how near each document is to some weighted stems: from 0 for those without any of them to 1."""
        scores = [0.0] * len(self._documents)
        for word, weight in asked.items():
            found = self._index.get(word, ())
            for position in found:
                scores[position] += weight * math.log(1 + len(self._documents) / len(found)) ** 2
        highest = max(scores) or 1.0
        return [(score / highest) ** _SHARPNESS for score in scores]

    def lifts(self, document_scores: Sequence[float]) -> dict[str, float]:
        """Return how many times more often stems occur in the nearest documents than in all."""
        ranked = sorted(enumerate(document_scores), key=lambda item: -item[1])[:_NEAREST]
        whole = sum(score for _, score in ranked)
        share: dict[str, float] = defaultdict(float)
        for position, score in ranked:
            for word in self._documents[position] if score else ():
                share[word] += score / whole
        return {word: part * len(self._documents) / self.frequency(word) for word, part in share.items()}


class Relevance:
    """What goes with a message: the documents near it, and the words that are more frequent there than elsewhere."""

    def __init__(self, library: Library, asked: Mapping[str, float]) -> None:
        self.asked = asked
        self.document_scores = library.document_scores(asked)
        self._library = library
        self._lifts = library.lifts(self.document_scores)

    def without(self, words: Iterable[str]) -> "Relevance":
        """Return what is relevant when some stems are left out of the message."""
        left_out = set(words)
        return Relevance(self._library, {word: weight for word, weight in self.asked.items() if word not in left_out})

    def pull(self, word: str) -> float:
        """Return the logarithm of a word's lift, from -1.5 to 2; 0 when nothing is known about it."""
        found = stem(word)
        if not self._lifts or not found or not self._library.frequency(found):
            return 0.0
        return min(2.0, max(-1.5, math.log(self._lifts.get(found, 0.0) + 0.05)))

    def label_score(self, label: str) -> float:
        """Return how well a label fits the message, in logarithms; 0 when nothing is known about it."""
        scores = [self.pull(word) for word in stems(label) if self._library.frequency(word)]
        named = _NAMED if any(word in self.asked for word in stems(label)) else 0.0
        return (sum(scores) / len(scores) if scores else 0.0) + named
