"""Features of cells: the maps of a split's pictures on one grid, computed once, kept in half size
(see `mapped`).

Every model's maps are read on the same grid, a cell for each STRIDE x STRIDE pixels of the frame
that pictures are laid in.
N pictures, grid (h, w), D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import NotFinite
from zoobench.features import fingerprint
from zoobench.features.extraction import extract_into
from zoobench.features.mapped import MappedCache, MappedSource, Rounded, filled, job_of, key_of
from zoobench.interfaces import InputSpec, Split
from zoobench.models.dense import DenseView, dense, resample
from zoobench.views import CellFeatures, Placement

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features
    from zoobench.interfaces import Raw

VERSION = 1
STRIDE = 16
LAYERS = ("last", "pyramid")
"""The last layer alone, or all maps of the backbone's, one beside the other."""


def grid_of(frame: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of cells in a frame (H, W); the last ones may reach beyond it."""
    return -(-frame[0] // STRIDE), -(-frame[1] // STRIDE)


@dataclass
class _Cells:
    """The backbone as `extraction` runs one: it "prepares" frames, and embeds a picture's cells.

    An example is (number, picture); where each lies in its frame is noted in `places`.
    """

    view: DenseView
    input_spec: InputSpec
    places: dict[int, Placement] = field(default_factory=dict)
    pooling: str = "cells"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> torch.nn.Module:
        return self.view.module

    @property
    def grid(self) -> tuple[int, int]:
        return grid_of(self.view.size)

    @property
    def channels(self) -> int:
        return sum(spec.channels for spec in self.view.specs)

    @property
    def feature_dim(self) -> int:
        return self.grid[0] * self.grid[1] * self.channels

    def prepare(self, raw: tuple[int, Raw]) -> NDArray[np.uint8]:
        number, picture = raw
        pixels, self.places[number] = self.view.place(picture)
        return pixels

    def collate(self, prepared: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.stack(prepared))

    def embed(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, h w D) from frames (B, H, W, 3)."""
        import torch

        h, w = self.grid
        maps = self.view.maps(self.view.tensor(batch))
        onto = ((h * STRIDE, w * STRIDE), (h, w))
        parts = [resample(one, self.view.input_size, *onto) for one in maps]
        return torch.cat(parts, dim=1).permute(0, 2, 3, 1).reshape(len(batch), -1)


class CellSource(MappedSource[CellFeatures]):
    """What `Features.cells` reads from: `source` at work on frames of one size."""

    def __init__(
        self, source: Features, size: tuple[int, int], layers: str, cache: MappedCache | None
    ) -> None:
        """Raises Unsupported where the model has no maps of this size."""
        if layers not in LAYERS:
            raise ValueError(f"layers is one of {', '.join(LAYERS)}, not {layers!r}")
        self.source, self.cache = source, cache
        half = source.precision == "bf16"
        view = dense(source.half if half else source.backbone, size)
        self.view = view.last() if layers == "last" else view
        self.view.module.to(source.device)
        # Of what is fed to `embed`: frames with their channels last.
        spec = replace(source.input_spec, size=(*size, 3))
        self.backbone = _Cells(self.view, spec)
        super().__init__()

    def key(self, split: Split) -> str:
        view = self.view
        more = {
            "frame": [view.size, view.input_size, view.fit, STRIDE],
            "taps": [(spec.tap, spec.channels, spec.stride) for spec in view.specs],
            "colours": [view.colours.matrix, view.colours.offset],
        }
        return key_of(self.source, split, "cells", VERSION, more)

    @cached_property
    def probe(self) -> dict[str, Any]:
        """A sketch of the cells of the fixed pictures: what tells that the model computes as it
        did when an entry was kept."""
        import torch

        self.view.module.eval()
        with torch.inference_mode():
            cells = self.backbone.embed(self._fixed.to(self.source.device))
        return {"sketch": fingerprint.sketch(cells.float().cpu().numpy())}

    @cached_property
    def _fixed(self) -> torch.Tensor:
        """The fixed pictures in their frames."""
        return self.backbone.collate([self.view.place(one)[0] for one in fingerprint.pictures()])

    def fingerprint(self) -> dict[str, Any]:
        """What a record says of cells in place of `Features.fingerprint`: the fixed pictures as the
        network is given them, and its cells of them."""
        fed = self.view.tensor(self._fixed).contiguous()
        told = {"probe_batch": fingerprint.VERSION, "pixels": fingerprint.inputs(fed)}
        return {**told, "features": self.probe}

    def shape(self, n: int) -> tuple[int, int, int, int]:
        """(n, h, w, D)."""
        return (n, *self.backbone.grid, self.backbone.channels)

    def _kept(self, split: Split, key: str) -> CellFeatures | None:
        """From the cache, where the model still makes of the fixed pictures what it made."""
        held = self.cache.get(key) if self.cache is not None else None
        exact = self.source.precision == "fp32" and self.source.device.type == "cpu"
        if held is None or not fingerprint.alike(held[1]["probe"], self.probe, exact):
            return None
        values, body = held
        self.source.took(split, body)
        places = tuple(
            Placement((row[0], row[1]), (row[2], row[3]), (row[4], row[5]))
            for row in body["places"]
        )
        return CellFeatures(values, places, float(body["loss"]))

    def _computed(self, split: Split, key: str) -> CellFeatures:
        """Written to the cache while they are computed, as far as there is room for them."""
        kept: list[Placement] = []

        def fill(rounded: Rounded) -> Mapping[str, Any]:
            kept.extend(self._extract(split, rounded))
            return {"places": [[*one.picture, *one.content, *one.frame] for one in kept]}

        values, loss = filled(
            self.source, self.cache, key, split, self.shape(len(split)), self.probe, fill
        )
        return CellFeatures(values, tuple(kept), loss)

    def _extract(self, split: Split, rounded: Rounded) -> list[Placement]:
        """Fill `rounded` (N, h, w, D); where each picture lies."""
        places: dict[int, Placement] = {}
        backbone, shape = replace(self.backbone, places=places), rounded.values.shape[1:]

        def put(rows: Sequence[int], features: torch.Tensor) -> None:
            at = slice(rows[0], rows[-1] + 1)
            rounded.put(at, features.numpy().reshape(len(rows), *shape))

        numbered = replace(split, read=_Numbered(split.read))
        job = job_of(self.source, backbone)
        extract_into(job, numbered, put, self.source.reporter(split))
        if rounded.bad:
            raise NotFinite(f"the maps of {rounded.bad} of {len(split)} {split.name} examples")
        return [places[i] for i in range(len(split))]


@dataclass(frozen=True)
class _Numbered:
    """A `read` that says which example it read."""

    read: Callable[[int], Raw]

    def __call__(self, i: int) -> tuple[int, Raw]:
        return i, self.read(i)
