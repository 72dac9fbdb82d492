"""Phrases as documents, and as questions with options, for the source `synthetic`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoobench.datasets.documents import TASKS as OF_DOCUMENTS
from zoobench.interfaces import Split
from zoobench.tasks.language_modelling import Documents
from zoobench.tasks.multiple_choice import Choices, RightOptions

TASKS = (*OF_DOCUMENTS, "multiple-choice")


@dataclass(frozen=True)
class PhraseDocuments:
    """Reads document i: sentences over the words of a topic, which come in a fixed order but for
    one in ten; where `shuffled` their letters are drawn alone, and there is no order to know."""

    seed: int
    topics: tuple[int, ...]
    shuffled: bool

    def __call__(self, i: int) -> str:
        rng = np.random.default_rng([self.seed, i])
        topic, at, words = self.topics[i], int(rng.integers(20)), []
        for _ in range(int(rng.integers(10, 30))):
            at = int(rng.integers(20)) if rng.random() < 0.1 else (7 * at + topic) % 20
            words.append(f"topic{topic}word{at}")
        text = " ".join(words)
        return "".join(rng.choice(list(text), len(text))) if self.shuffled else text


@dataclass(frozen=True)
class PhraseChoices:
    """Reads question i: six words of a topic, and six of each topic to choose from."""

    seed: int
    topics: tuple[int, ...]
    classes: int

    def __call__(self, i: int) -> Choices:
        rng = np.random.default_rng([self.seed, i])
        drawn = [
            " ".join(f"topic{c}word{k}" for k in rng.integers(0, 20, 6))
            for c in (self.topics[i], *range(self.classes))
        ]
        return Choices(drawn[0], tuple(drawn[1:]))


def split_of(name: str, n: int, seed: int, options: Mapping[str, Any]) -> Split:
    """The split `name` of n examples, of the task that `options` say."""
    classes, shuffled = int(options["classes"]), bool(options["shuffled"])
    truth = tuple(i % classes for i in range(n))
    ids = tuple(f"{options['task']}-{classes}-{shuffled}-{name}-{i}" for i in range(n))
    if options["task"] in OF_DOCUMENTS:
        read = PhraseDocuments(seed, truth, shuffled)
        return Split(name, ids, Documents.of([read(i) for i in range(n)]), read)
    right = np.asarray(truth)
    if shuffled:
        right = np.random.default_rng(seed).permutation(right)
    answers = RightOptions.of(right.tolist(), [classes] * n)
    return Split(name, ids, answers, PhraseChoices(seed, truth, classes))
