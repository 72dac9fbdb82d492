"""Retrieval by a network of pictures and texts as it is, and what guessing reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoobench.errors import Unsupported
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.predictor import Predictor
from zoobench.tasks.retrieval import Embedded, captions_of

if TYPE_CHECKING:
    from zoobench.views import TextTower

GUESSES = 64
"""Numbers of a guess: so many that no two guesses are level."""


def text_tower(source: Any) -> TextTower:
    """The half that reads texts of a FeatureSource's backbone. Raises Unsupported where it has
    none."""
    reads = getattr(getattr(source, "backbone", source), "text_tower", None)
    if reads is None:
        raise Unsupported("it reads no texts: as-is needs a network of pictures and texts")
    tower: TextTower = reads()
    return tower


@dataclass(frozen=True)
class RetrieveAsIs:
    """Pictures and captions by their cosines in the space that a network's two halves share.

    Features of pictures are computed once and kept, like those of any frozen method.
    """

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    tasks: ClassVar[tuple[str, ...]] = ("retrieval",)
    view: ClassVar[str] = "scores"

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Raises Unsupported for a backbone that reads no texts."""
        tower = text_tower(backbone)

        def answer(split: Split) -> Embedded:
            pictures = tower.project(backbone.features(split))
            captions = tower.embed(captions_of(split).texts)
            return Embedded(pictures.numpy(), captions.numpy())

        # Nothing is calibrated, so valid is not read.
        return Predictor(answer, splits.valid, lambda split: None, facts={"trainable_params": 0.0})


@dataclass(frozen=True)
class RandomPairs:
    """Directions drawn for each picture and each caption: what knowing nothing finds."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("retrieval",)
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        def answer(split: Split) -> Embedded:
            drawn = np.random.default_rng(seed)
            captions = captions_of(split).texts
            return Embedded(
                drawn.normal(size=(len(split), GUESSES)).astype(np.float32),
                drawn.normal(size=(len(captions), GUESSES)).astype(np.float32),
            )

        return Predictor(answer, splits.valid, lambda split: None)
