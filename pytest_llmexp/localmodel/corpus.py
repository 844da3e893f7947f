"""The training text: some 20,000 words that a small grammar generates, the same on every machine.

Standard library only.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from pytest_llmexp.localmodel.topics import TOPICS
from pytest_llmexp.localmodel.vocabulary import SHARED, Slots, Topic

_SEED = 20


class Document(NamedTuple):
    """A short text with its title and the words that go with it without being part of it."""

    title: str
    text: str
    labels: tuple[str, ...]


def documents() -> Iterator[Document]:
    """Yield the documents of all topics."""
    rng = random.Random(_SEED)
    for topic in TOPICS:
        for _ in range(topic.documents):
            yield _document(topic, rng)


class _Filling(dict[str, str]):
    """Chooses an option for each slot when it is first asked for, and keeps it."""

    def __init__(self, slots: Slots, rng: random.Random) -> None:
        super().__init__()
        self._slots, self._rng = slots, rng

    def __missing__(self, slot: str) -> str:
        options = self._slots[slot]
        taken = set(self.values())
        free = [option for option in options if option not in taken] or list(options)
        self[slot] = self._rng.choice(free).format_map(self)
        return self[slot]


def _document(topic: Topic, rng: random.Random) -> Document:
    filling = _Filling({**SHARED, **topic.slots}, rng)
    middles = rng.sample(topic.middles, min(len(topic.middles), rng.choice((1, 2, 2, 3))))
    sentences = [rng.choice(topic.openers), *middles, rng.choice(topic.closers)]
    title = rng.choice(topic.titles).format_map(filling)
    return Document(title, " ".join(sentences).format_map(filling), topic.labels)
