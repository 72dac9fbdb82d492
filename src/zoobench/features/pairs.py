"""States of the pieces of texts that are asked of, computed once, kept in half size (`mapped`).

Of each window (models.pairs) those of its first piece and of the text's, after each of three
layers (`TokenReader.depths`). N questions, W windows of them, R pieces, L layers, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import NotFinite
from zoobench.features.mapped import MappedCache, Rounded, filled, kept, key_of
from zoobench.features.windowed import WindowStates, padded_places, reader_of, run
from zoobench.interfaces import Split
from zoobench.models.pairs import PairWindow, collate_pairs, pair_windows
from zoobench.models.tokens import state_width
from zoobench.views import TokenReader

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features

VERSION = 1
BLOCK = 2**14
"""Pieces whose states are turned to float32 at once."""


@dataclass(frozen=True)
class PairFeatures:
    """`values` (R, L, D) fp16, perhaps on the disk, after the `layers`; the rows of window w are
    `starts[w]` to `starts[w + 1]`, one for each of its `places`."""

    windows: tuple[PairWindow, ...]
    values: Any
    starts: NDArray[np.int64]
    layers: tuple[int, ...]

    def put(self, number: int, rows: torch.Tensor) -> None:
        """The states (R, D) after the layer `number`, into `rows`, a block at a time."""
        import torch

        layer = self.layers.index(number)
        for start in range(0, len(rows), BLOCK):
            block = self.values[start : start + BLOCK, layer]
            rows[start : start + BLOCK] = torch.from_numpy(np.asarray(block, dtype=np.float32))


def windows_of(split: Split, reader: TokenReader) -> tuple[PairWindow, ...]:
    """The windows of all questions of `split`, in order."""
    return tuple(
        window for i in range(len(split)) for window in pair_windows(split.read(i), reader, i)
    )


@dataclass(frozen=True)
class PairStates(WindowStates):
    """Reads the places of questions' windows."""

    def collate(self, prepared: Sequence[PairWindow]) -> dict[str, torch.Tensor]:
        places = padded_places([one.places for one in prepared])
        return {**collate_pairs(prepared, self.reader), "places": places}


def states_of(source: Any, layers: Sequence[int] = ()) -> PairStates:
    """How `source` is read, after some layers or those of a frozen method's choice. Raises
    Unsupported where the model has no tokens."""
    source = current(source)
    backbone: Any = source.half if source.precision == "bf16" else source.backbone
    reader = reader_of(backbone)
    return PairStates(reader, backbone.module, source.input_spec, tuple(layers) or reader.depths)


def current(source: Any) -> Features:
    """The features that a carried head reads now, or what is given itself."""
    found: Features = getattr(source, "source", source)
    return found


def pairs_of(source: Any, split: Split) -> PairFeatures:
    """The states of all questions of `split`, from the cache or computed. Raises NotFinite, and
    Unsupported where the model has no tokens."""
    source, states = current(source), states_of(source)
    reader = states.reader
    cache = MappedCache(source.cache.root / "pairs") if source.cache is not None else None
    more = {"length": reader.length, "depths": list(reader.depths)}
    key = key_of(source, split, "pairs", VERSION, more)
    windows = windows_of(split, reader)
    starts = np.cumsum([0, *(len(one.places) for one in windows)], dtype=np.int64)
    if held := kept(source, cache, key, split):
        return PairFeatures(windows, held[0], starts, reader.depths)

    def fill(rounded: Rounded) -> Mapping[str, Any]:
        def take(i: int, found: NDArray[np.float32]) -> None:
            rounded.put(slice(starts[i], starts[i + 1]), found[: starts[i + 1] - starts[i]])

        run(source, states, split, windows, take)
        if rounded.bad:
            raise NotFinite(f"the states of {rounded.bad} pieces of {split.name}")
        return {}

    states.module.eval().to(source.device)
    probe = source.fingerprint().get("features")
    shape = (int(starts[-1]), len(reader.depths), state_width(reader, states.module))
    values, _ = filled(source, cache, key, split, shape, probe, fill)
    return PairFeatures(windows, values, starts, reader.depths)
