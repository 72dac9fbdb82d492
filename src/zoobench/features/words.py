"""Features of words: the states of a split's words, computed once, kept in half size (`mapped`).

A word's feature is its first piece's, in the window that gives it most context, after each of
three layers (`TokenReader.depths`). N texts, R words of all of them, L layers, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import NotFinite
from zoobench.features.mapped import MappedCache, MappedSource, Rounded, filled, kept, key_of
from zoobench.features.windowed import WindowStates, padded_places, reader_of, run
from zoobench.interfaces import Split
from zoobench.models.tokens import Window, collate, state_width, windows
from zoobench.views import TokenReader, WordFeatures

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features

VERSION = 1


@dataclass(frozen=True)
class PlacedWindow(Window):
    """A window, and the number of its text's first word among all words of the split."""

    start: int = 0


class _Words(WindowStates):
    """Reads the words of windows."""

    def collate(self, prepared: Sequence[PlacedWindow]) -> dict[str, torch.Tensor]:
        places = padded_places([[place for _, place in one.words] for one in prepared])
        return {**collate(prepared, self.reader.pad_id), "places": places}


class WordSource(MappedSource[WordFeatures]):
    """What `Features.words` reads from."""

    def __init__(self, source: Features, cache: MappedCache | None) -> None:
        """Raises Unsupported where the model has no tokens."""
        self.source, self.cache = source, cache
        backbone: Any = source.half if source.precision == "bf16" else source.backbone
        self.reader: TokenReader = reader_of(backbone)
        backbone.module.eval().to(source.device)
        self.backbone = _Words(
            self.reader, backbone.module, source.input_spec, self.reader.depths,
            state_width(self.reader, backbone.module),
        )  # fmt: skip
        super().__init__()

    def key(self, split: Split) -> str:
        reader = self.reader
        cut = [reader.length, list(reader.before), list(reader.after)]
        more = {"windows": cut, "depths": list(reader.depths)}
        return key_of(self.source, split, "words", VERSION, more)

    def _kept(self, split: Split, key: str) -> WordFeatures | None:
        held = kept(self.source, self.cache, key, split)
        if held is None:
            return None
        values, body = held
        starts = np.asarray(body["starts"], dtype=np.int64)
        return WordFeatures(values, starts, self.reader.depths, float(body["loss"]))

    def _computed(self, split: Split, key: str) -> WordFeatures:
        some, starts = placed(split, self.reader)
        shape = (int(starts[-1]), len(self.reader.depths), self.backbone.feature_dim)
        probe = self.source.fingerprint().get("features")

        def fill(rounded: Rounded) -> Mapping[str, Any]:
            self._extract(split, some, rounded)
            return {"starts": starts.tolist()}

        values, loss = filled(self.source, self.cache, key, split, shape, probe, fill)
        return WordFeatures(values, starts, self.reader.depths, loss)

    def _extract(self, split: Split, some: Sequence[PlacedWindow], rounded: Rounded) -> None:
        """Fill `rounded` (R, L, D)."""

        def take(i: int, states: NDArray[np.float32]) -> None:
            numbers = [some[i].start + number for number, _ in some[i].words]
            rounded.put(numbers, states[: len(numbers)])

        run(self.source, self.backbone, split, some, take)
        if rounded.bad:
            raise NotFinite(f"the states of {rounded.bad} words of {split.name}")


def placed(split: Split, reader: TokenReader) -> tuple[list[PlacedWindow], NDArray[np.int64]]:
    """All windows of the texts of `split`, and (N + 1,) where each text's words begin."""
    found: list[PlacedWindow] = []
    starts = np.zeros(len(split) + 1, dtype=np.int64)
    for i in range(len(split)):
        pieces = reader.pieces(split.read(i))
        start = int(starts[i])
        found.extend(PlacedWindow(w.ids, w.words, start) for w in windows(pieces, reader))
        starts[i + 1] = start + len(pieces)
    return found, starts
