"""The tagged phrases of the source `synthetic`: entities of one or two words, each of its type's
own vocabulary, among words that say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoobench.interfaces import Split
from zoobench.tasks.token_classification import Tags

LENGTH = 8
"""Words of a phrase."""


def names(types: int) -> tuple[str, ...]:
    """The tags of so many types."""
    return ("O", *(f"{letter}-class{c}" for c in range(types) for letter in "BI"))


@dataclass(frozen=True)
class TaggedPhrases:
    """Reads phrase i, a tuple of LENGTH words; `tags` are those of it."""

    seed: int
    types: int

    def __call__(self, i: int) -> tuple[str, ...]:
        rng = np.random.default_rng([self.seed, i, 1])
        words = []
        for tag in self.tags(i):
            letter, _, kind = tag.partition("-class")
            drawn = int(rng.integers(20))
            words.append(f"common{drawn}" if tag == "O" else f"type{kind}{letter}{drawn % 10}")
        return tuple(words)

    def tags(self, i: int) -> tuple[str, ...]:
        """One or two entities; every ninth phrase has none."""
        rng = np.random.default_rng([self.seed, i])
        tags = ["O"] * LENGTH
        for half in range(0 if i % 9 == 8 else int(rng.integers(1, 3))):
            start = half * LENGTH // 2 + int(rng.integers(LENGTH // 2 - 1))
            kind = int(rng.integers(self.types))
            tags[start] = f"B-class{kind}"
            if rng.random() < 0.5:
                tags[start + 1] = f"I-class{kind}"
        return tuple(tags)


def tagged(split: str, n: int, seed: int, options: Mapping[str, Any]) -> Split:
    """`n` phrases; their tags are those of others where `shuffled`."""
    types = int(options["classes"])
    read = TaggedPhrases(seed, types)
    order = np.arange(n)
    if options["shuffled"]:
        order = np.random.default_rng(seed).permutation(n)
    tags = Tags.of([read.tags(int(i)) for i in order], names(types))
    ids = tuple(f"tagged-{types}-{split}-{i}" for i in range(n))
    return Split(split, ids, tags, read)
