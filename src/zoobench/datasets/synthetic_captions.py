"""Stripes with captions that say their direction, for retrieval: no two captions are alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoobench.interfaces import Split
from zoobench.tasks.retrieval import Captions

TASK = "retrieval"


def described(split: str, n: int, seed: int, read: Any, options: Mapping[str, Any]) -> Split:
    """N pictures that `read` gives, whose directions are counted off, with one caption or two."""
    order = np.arange(n)
    if options["shuffled"]:
        order = np.random.default_rng(seed).permutation(n)
    ids = tuple(f"described-{options['noise']}-{options['classes']}-{split}-{i}" for i in range(n))
    captions = Captions(tuple(_captions(int(i), int(options["classes"])) for i in order))
    return Split(split, ids, captions, read)


def _captions(i: int, classes: int) -> tuple[str, ...]:
    said = (f"a photo of class{i % classes} {i}", f"the picture of class{i % classes} {i}")
    return said[: 1 + i % 2]
