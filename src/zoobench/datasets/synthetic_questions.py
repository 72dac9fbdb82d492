"""The questions of the source `synthetic`: which words of a phrase are of a topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoobench.interfaces import Split
from zoobench.tasks.question_answering import Answers, AnswerSpan, TextQuestion

COMMON = 8
"""Words of a phrase that are of no topic."""


@dataclass(frozen=True)
class AskedPhrases:
    """Reads question i, whose answer are one or two words beside each other; every fifth phrase has
    none. Where `shuffled` any words may be the `answers`."""

    seed: int
    classes: int
    shuffled: bool

    def __call__(self, i: int) -> TextQuestion:
        return TextQuestion(
            f"Which words are of a topic, in phrase {i}?", " ".join(self._words(i)[0])
        )

    def answers(self, i: int) -> tuple[AnswerSpan, ...]:
        words, start, many = self._words(i)
        if self.shuffled:
            rng = np.random.default_rng([self.seed, i, 1])
            many = int(rng.integers(0, 3))
            start = int(rng.integers(0, len(words) - many + 1))
        text = " ".join(words[start : start + many])
        return (AnswerSpan(text, len(" ".join([*words[:start], ""]))),) if many else ()

    def _words(self, i: int) -> tuple[list[str], int, int]:
        """The phrase, and where in it the topic's words begin and how many they are."""
        rng = np.random.default_rng([self.seed, i])
        many = 0 if i % 5 == 4 else int(rng.integers(1, 3))
        own = [f"topic{i % self.classes}word{k}" for k in rng.integers(0, 5, many)]
        common = [f"common{k}" for k in rng.integers(0, 20, COMMON)]
        start = int(rng.integers(0, COMMON + 1))
        return [*common[:start], *own, *common[start:]], start, many


def asked(split: str, n: int, seed: int, options: Mapping[str, Any]) -> Split:
    """`n` questions on a phrase each."""
    classes = int(options["classes"])
    read = AskedPhrases(seed, classes, bool(options["shuffled"]))
    ids = tuple(f"asked-{classes}-{split}-{i}" for i in range(n))
    return Split(split, ids, Answers(tuple(read.answers(i) for i in range(n))), read)
