"""Features of the parts of examples: cells of pictures, words of texts, frames of recordings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobench.features.cache import FeatureCache
from zoobench.features.cells import CellSource
from zoobench.features.frames import FrameSource, frame_counts, reader_of
from zoobench.features.mapped import MappedCache
from zoobench.features.words import WordSource
from zoobench.interfaces import Split
from zoobench.views import CellFeatures, FrameFeatures, WordFeatures


class PartFeatures:
    """Abstract: what of a FeatureSource reads parts; `Features` is the rest of it. Each kind of
    part has a cache of its own beside `cache`, where there is one."""

    def __init__(self, cache: FeatureCache | None) -> None:
        self.cache = cache
        self._cells: dict[tuple[tuple[int, int], str], CellSource] = {}
        self._parts: dict[str, Any] = {}
        self._counts: dict[str, NDArray[np.int64]] = {}

    def cells(self, split: Split, size: tuple[int, int], layers: str = "last") -> CellFeatures:
        """Features of the cells of `split`, its pictures laid in frames of `size` (height, width):
        of the last layer, or of all maps side by side ("pyramid").

        Raises Unsupported where the model has no maps of this size, NotFinite as `features` does.
        """
        return self.cell_source(size, layers).read(split)

    def cell_source(self, size: tuple[int, int], layers: str = "last") -> CellSource:
        """What `cells` reads from, kept. Raises Unsupported likewise."""
        at = (size, layers)
        if at not in self._cells:
            whole: Any = self
            self._cells[at] = CellSource(whole, size, layers, self._mapped("cells"))
        return self._cells[at]

    def words(self, split: Split) -> WordFeatures:
        """Features of every word of `split`, whose examples are sequences of words.

        Raises Unsupported where the model has no tokens, NotFinite as `features` does.
        """
        found: WordFeatures = self._part("words", WordSource).read(split)
        return found

    def frames(self, split: Split) -> FrameFeatures:
        """Features of every frame of `split`, whose examples are recordings. Raises likewise."""
        found: FrameFeatures = self._part("frames", FrameSource).read(split)
        return found

    def frame_counts(self, split: Split) -> NDArray[np.int64]:
        """(N,) frames of each recording of `split`, counted once. Raises Unsupported likewise."""
        if split.fingerprint not in self._counts:
            whole: Any = self
            reader, spec = reader_of(whole.backbone), whole.backbone.input_spec
            self._counts[split.fingerprint] = frame_counts(split, reader, spec)
        return self._counts[split.fingerprint]

    def _part(self, name: str, kind: Any) -> Any:
        """What reads a part of each example, kept."""
        if name not in self._parts:
            self._parts[name] = kind(self, self._mapped(name))
        return self._parts[name]

    def _mapped(self, name: str) -> MappedCache | None:
        return MappedCache(self.cache.root / name) if self.cache is not None else None
