"""Phrases that are spoken in tones, for the source `synthetic`: a letter is a tone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoobench.audio import Clip
from zoobench.interfaces import Split
from zoobench.tasks.speech_recognition import Transcripts

TASK = "speech-recognition"
RATE = 8000
"""Samples a second."""
TONE, GAP = 400, 160
"""Samples of a letter, and of the silence after it."""
LETTERS = " abcdefgh"
"""The blank between words is the lowest."""


@dataclass(frozen=True)
class SpokenPhrases:
    """Reads recording i: one to three words of one to four letters, spoken in tones in noise."""

    seed: int
    noise: float

    def __call__(self, i: int) -> Clip:
        rng = np.random.default_rng([self.seed, i, 1])
        sound = [np.zeros(GAP)]
        for letter in self.text(i):
            pitch = 300 + 350 * LETTERS.index(letter)
            tone = 0.3 * np.sin(2 * np.pi * pitch * np.arange(TONE) / RATE)
            sound += [tone, np.zeros(GAP)]
        clean = np.concatenate(sound)
        noise = 1e-4 * self.noise * rng.standard_normal(len(clean))
        return Clip((clean + noise).astype(np.float32), RATE)

    def text(self, i: int) -> str:
        rng = np.random.default_rng([self.seed, i])
        sizes = rng.integers(1, 5, int(rng.integers(1, 4)))
        return " ".join("".join(rng.choice(list(LETTERS[1:]), size)) for size in sizes)


def spoken(split: str, n: int, seed: int, options: Mapping[str, Any]) -> Split:
    """`n` recordings; where `shuffled` with each other's transcripts."""
    read = SpokenPhrases(seed, float(options["noise"]))
    order = np.arange(n)
    if options["shuffled"]:
        order = np.random.default_rng(seed).permutation(n)
    texts = [read.text(int(i)) for i in order]
    ids = tuple(f"spoken-{options['noise']}-{split}-{i}" for i in range(n))
    return Split(split, ids, Transcripts.of(texts), read)
