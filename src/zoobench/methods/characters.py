"""Transcripts as characters: the classes of a linear layer that recognises speech.

N transcripts, C signs of train and the blank of CTC, which is class 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from zoobench.errors import Unsupported
from zoobench.interfaces import Split
from zoobench.tasks.speech_recognition import transcripts_of


@dataclass(frozen=True)
class Alphabet:
    """The signs of train's transcripts, blanks between words among them, in their code's order."""

    signs: tuple[str, ...]

    @classmethod
    def of(cls, train: Split) -> Alphabet:
        """Raises Unsupported where train has no sign."""
        signs = sorted({sign for text in transcripts_of(train).learned for sign in text})
        if not signs:
            raise Unsupported("no transcript of train says anything that could be learned")
        return cls(tuple(signs))

    @property
    def classes(self) -> int:
        """With the blank."""
        return len(self.signs) + 1

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {sign: number for number, sign in enumerate(self.signs, start=1)}

    def labels(self, train: Split) -> list[list[int]]:
        """The numbers of each transcript's signs."""
        return [[self._numbers[sign] for sign in one] for one in transcripts_of(train).learned]

    def text(self, labels: Sequence[int]) -> str:
        """What the labels say, blanks collapsed."""
        return " ".join("".join(self.signs[label - 1] for label in labels).split())
