"""Features of frames: the states of a split's recordings, computed once, kept in half size.

A frame's feature is its state after each of three layers (`FrameReader.depths`); frames that are
padding are not kept. N recordings, F frames of the longest of a batch, R frames of all of them, L
layers, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.audio import Clip
from zoobench.errors import BadData, NotFinite, Unsupported
from zoobench.features.extraction import extract_into
from zoobench.features.mapped import (
    MappedCache,
    MappedSource,
    Rounded,
    filled,
    job_of,
    kept,
    key_of,
)
from zoobench.interfaces import InputSpec, Split
from zoobench.views import FrameFeatures, FrameReader

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features

VERSION = 1
ROOM = 2**27
"""Bytes of recordings that are kept between counting their frames and reading them: 35 minutes at
16 kHz."""


@dataclass(frozen=True)
class FrameStates:
    """The backbone as `extraction` runs one: it embeds the states of all frames."""

    backbone: Any
    reader: FrameReader
    feature_dim: int = 0
    pooling: str = "frames"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> torch.nn.Module:
        found: torch.nn.Module = self.backbone.module
        return found

    @property
    def input_spec(self) -> InputSpec:
        found: InputSpec = self.backbone.input_spec
        return found

    def prepare(self, raw: Any) -> Any:
        return self.backbone.prepare(raw)

    def collate(self, prepared: Sequence[Any]) -> Any:
        return self.backbone.collate(prepared)

    def embed(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(B, F, L, D)."""
        import torch

        return torch.stack(list(self.reader.read(self.module, batch, self.reader.depths)), dim=2)


def reader_of(backbone: Any) -> FrameReader:
    """Raises Unsupported for a backbone without frames."""
    reads = getattr(backbone, "frame_reader", None)
    if reads is None:
        raise Unsupported("this backbone has no frames: only embed")
    found: FrameReader = reads()
    return found


def state_width(backbone: Any, reader: FrameReader) -> int:
    """D, of half a second of silence."""
    import torch

    rate = backbone.input_spec.rate
    batch = backbone.collate([backbone.prepare(Clip(np.zeros(rate // 2, np.float32), rate))])
    device = next(backbone.module.parameters()).device
    with torch.inference_mode():
        moved = {name: one.to(device) for name, one in batch.items()}
        (states,) = reader.read(backbone.module, moved, (reader.layers,))
    return int(states.shape[2])


@dataclass
class Remembered:
    """Reads recordings, and keeps the first of them, as far as there is `room` for their bytes: so
    many are decoded once, though they are read twice."""

    read: Callable[[int], Any]
    room: int
    kept: dict[int, Clip] = field(default_factory=dict)

    def __call__(self, i: int) -> Clip:
        if i in self.kept:
            return self.kept[i]
        clip: Clip = self.read(i)
        if clip.samples.nbytes <= self.room:
            self.room -= clip.samples.nbytes
            self.kept[i] = clip
        return clip


def frame_counts(split: Split, reader: FrameReader, spec: InputSpec) -> NDArray[np.int64]:
    """(N,) frames of each recording. Raises BadData where some are longer than what the backbone
    reads: their middle would be held against all that is said in them."""
    import torch

    sizes, rate = [], int(spec.rate or 1)
    for i in range(len(split)):
        clip = split.read(i)
        sizes.append(-(-len(clip.samples) * rate // clip.rate))
    most = spec.length or max(sizes, default=0)
    if long := sum(one > most for one in sizes):
        seconds = max(sizes) / rate
        raise BadData(
            f"{long} of {len(split)} recordings of {split.name} are longer than the "
            f"{most / rate:g} s that the network reads, the longest {seconds:.1f} s: put "
            f"?seconds={math.ceil(seconds)} behind its name, where it reads so much, or leave them "
            "out of the data"
        )
    return reader.frames(torch.tensor(sizes, dtype=torch.int64)).numpy().astype(np.int64)


class FrameSource(MappedSource[FrameFeatures]):
    """What `Features.frames` reads from."""

    def __init__(self, source: Features, cache: MappedCache | None) -> None:
        """Raises Unsupported where the model has no frames."""
        self.source, self.cache = source, cache
        backbone: Any = source.half if source.precision == "bf16" else source.backbone
        self.reader = reader_of(backbone)
        backbone.module.eval().to(source.device)
        self.states = FrameStates(backbone, self.reader, state_width(backbone, self.reader))
        super().__init__()

    def key(self, split: Split) -> str:
        more = {"rate": self.reader.rate, "depths": list(self.reader.depths)}
        return key_of(self.source, split, "frames", VERSION, more)

    def _kept(self, split: Split, key: str) -> FrameFeatures | None:
        held = kept(self.source, self.cache, key, split)
        if held is None:
            return None
        values, body = held
        starts = np.asarray(body["starts"], dtype=np.int64)
        return FrameFeatures(values, starts, self.reader.depths, float(body["loss"]))

    def _computed(self, split: Split, key: str) -> FrameFeatures:
        split = replace(split, read=Remembered(split.read, ROOM))
        counts = frame_counts(split, self.reader, self.states.input_spec)
        starts = np.cumsum([0, *counts], dtype=np.int64)
        shape = (int(starts[-1]), len(self.reader.depths), self.states.feature_dim)
        probe = self.source.fingerprint().get("features")

        def fill(rounded: Rounded) -> Mapping[str, Any]:
            def put(rows: Sequence[int], states: torch.Tensor) -> None:
                for i, one in zip(rows, states.numpy(), strict=True):
                    rounded.put(slice(starts[i], starts[i + 1]), one[: counts[i]])

            job = job_of(self.source, self.states)
            extract_into(job, split, put, self.source.reporter(split))
            if rounded.bad:
                raise NotFinite(f"the states of {rounded.bad} frames of {split.name}")
            return {"starts": starts.tolist()}

        values, loss = filled(self.source, self.cache, key, split, shape, probe, fill)
        return FrameFeatures(values, starts, self.reader.depths, loss)
