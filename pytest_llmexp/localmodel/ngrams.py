"""A word model of the training text: which word follows two others, with back-off to one.

Standard library only. It is a toy on purpose: small, quick, and random for the same reason as a large model.
"""

import math
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from pytest_llmexp.localmodel.corpus import documents
from pytest_llmexp.localmodel.exchange import pieces
from pytest_llmexp.localmodel.relevance import Library

TITLE, TEXT, END = "<title>", "<text>", "<end>"
_TRIGRAM_WEIGHT = 0.85

Weights = dict[str, float]


class NGrams:
    """Which words follow two others, and in which documents. A sequence begins with its kind, twice, and ends with END.

    Args:
        sequences: One for each document, in the order of the documents.
    """

    def __init__(self, sequences: Iterable[Sequence[str]]) -> None:
        self._pairs: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
        self._singles: dict[str, Counter[str]] = defaultdict(Counter)
        for document, sequence in enumerate(sequences):
            for first, second, third in zip(sequence, sequence[1:], sequence[2:], strict=False):
                self._pairs[first, second].append((third, document))
                self._singles[second][third] += 1

    def after(self, first: str, second: str, document_weights: Sequence[float]) -> Weights:
        """Return the probabilities of the words that follow two words; each document counts by its weight."""
        weights: Weights = defaultdict(float)
        for word, document in self._pairs.get((first, second), ()):
            weights[word] += document_weights[document]
        scale = _TRIGRAM_WEIGHT / sum(weights.values()) if weights else 0.0
        probabilities = {word: weight * scale for word, weight in weights.items()}
        singles = self._singles.get(second) or Counter({END: 1})
        rest = (1.0 - (_TRIGRAM_WEIGHT if weights else 0.0)) / singles.total()
        for word, count in singles.items():
            probabilities[word] = probabilities.get(word, 0.0) + count * rest
        return probabilities


class Model(NamedTuple):
    """What was learned from the training text."""

    titles: NGrams
    texts: NGrams
    library: Library


_TRAINING = threading.Lock()


def trained_model() -> Model:
    """Return the model of this process; the first call trains it, which takes about 0.1 s."""
    with _TRAINING:
        return _train()


@cache
def _train() -> Model:
    texts = list(documents())
    titles = ([TITLE, TITLE, *pieces(f" {document.title}"), END] for document in texts)
    bodies = ([TEXT, TEXT, *pieces(f" {document.text}"), END] for document in texts)
    return Model(NGrams(titles), NGrams(bodies), Library(texts))


def choose(logits: Weights, temperature: float, top_p: float, rng: random.Random) -> str:
    """Draw one of some options by their logits; the highest, or the first of several, at temperature 0.

    top_p keeps the most probable options that together reach it (nucleus sampling, Holtzman et al. 2020).
    """
    highest = max(logits.values())
    if temperature < 0.01 or len(logits) == 1:
        return next(option for option, logit in logits.items() if logit == highest)
    weights = {option: math.exp((logit - highest) / temperature) for option, logit in logits.items()}
    if top_p < 1.0:
        weights = _nucleus(weights, top_p)
    return rng.choices(list(weights), list(weights.values()))[0]


def log_softmax(logits: Weights, option: str) -> float:
    """Return the logarithm of an option's probability at temperature 1."""
    highest = max(logits.values())
    return logits[option] - highest - math.log(sum(math.exp(logit - highest) for logit in logits.values()))


def _nucleus(weights: Weights, top_p: float) -> Weights:
    kept: Weights = {}
    reach, so_far = top_p * sum(weights.values()), 0.0
    for option, weight in sorted(weights.items(), key=lambda item: -item[1]):
        kept[option] = weight
        so_far += weight
        if so_far >= reach:
            break
    return kept
