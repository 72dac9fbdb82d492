"""Features of cells: the maps of a split's pictures on one grid, computed once, kept in half size.

Every model's maps are read on the same grid, a cell for each STRIDE x STRIDE pixels of the frame
that pictures are laid in. Numbers are kept in fp16: each is off by at most one part in 2,048 of
itself (below 6e-5 by at most 3e-8), what lies beyond 65,504 is cut off there, and the relative
error over all of them is measured and said (`CellFeatures.loss`).
N pictures, grid (h, w), D features.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench import worktime
from zoobench.errors import NotFinite
from zoobench.features import fingerprint, precision
from zoobench.features.cache import DEFAULT_LIMIT_BYTES, BoundedFolder, sealed
from zoobench.features.extraction import MEMORY_LIMIT_BYTES, Job, extract_into, timed_on
from zoobench.interfaces import CellFeatures, InputSpec, Placement, Split
from zoobench.models.dense import DenseView, dense, resample
from zoobench.schema import digest
from zoobench.store import write_atomic

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features
    from zoobench.interfaces import Raw

VERSION = 1
STRIDE = 16
LARGEST = float(np.finfo(np.float16).max)
LAYERS = ("last", "pyramid")
"""The last layer alone, or all maps of the backbone's, one beside the other."""


def grid_of(frame: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of cells in a frame (H, W); the last ones may reach beyond it."""
    return -(-frame[0] // STRIDE), -(-frame[1] // STRIDE)


@dataclass(frozen=True)
class CellCache(BoundedFolder):
    """A bounded directory of memory-mapped cells; the least recently used splits go first."""

    limit_bytes: int = DEFAULT_LIMIT_BYTES

    suffix: ClassVar[str] = ".f2"

    def get(self, key: str) -> tuple[NDArray[np.float16], dict[str, Any]] | None:
        """((N, h, w, D) mapped from the disk, manifest), or None. A damaged entry is removed."""
        return self.read(key, _mapped)

    def room(self, key: str, shape: tuple[int, ...]) -> Path | None:
        """Where to write an entry of this shape; None where it would not fit, or nothing may."""
        size = 2 * int(np.prod(shape))
        if not 0 < size <= self.limit_bytes:
            return None
        try:
            self.make_room(size)
            path = self.root / f"{key}.{os.getpid()}.tmp"
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is known beforehand
        except OSError:
            return None
        return path

    def keep(self, key: str, written: Path, body: Mapping[str, Any]) -> None:
        """Make what was `written` an entry; a disk that cannot take it costs the entry alone."""
        data, manifest = self.paths(key)
        try:
            body = {**body, "sha256": _sha256(written)}
            written.replace(data)
            write_atomic(manifest, sealed(body))
        except OSError:
            self.remove(key)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mapped(data: Path, body: dict[str, Any]) -> tuple[NDArray[np.float16], dict[str, Any]]:
    """Raises ValueError where the cells are not those that were written."""
    if _sha256(data) != body["sha256"]:
        raise ValueError("the content does not match its manifest")
    shape = tuple(body["shape"])
    return np.memmap(data, dtype="<f2", mode="r", shape=shape), body


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


class CellSource:
    """What `Features.cells` reads from: `source` at work on frames of one size."""

    def __init__(
        self, source: Features, size: tuple[int, int], layers: str, cache: CellCache | None
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
        self._memory: OrderedDict[str, CellFeatures] = OrderedDict()

    def key(self, split: Split) -> str:
        """Flips with each thing that can change a number, and with nothing else."""
        view = self.view
        said = [(spec.tap, spec.channels, spec.stride) for spec in view.specs]
        return digest(
            {
                **self.source.ingredients(),
                "cells": VERSION,
                "folded": False,
                "split": split.fingerprint,
                "reader": split.reader,
                "precision": precision.keyed(self.source.precision),
                "frame": [view.size, view.input_size, view.fit, STRIDE],
                "taps": said,
                "colours": [view.colours.matrix, view.colours.offset],
            },
            length=40,
        )

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

    def read(self, split: Split) -> CellFeatures:
        """The cells of `split`: remembered, from the cache, or computed. Raises NotFinite."""
        key = self.key(split)
        if key not in self._memory:
            self._memory[key] = self._kept(split, key) or self._computed(split, key)
        self._memory.move_to_end(key)
        while len(self._memory) > 1 and self._held() > MEMORY_LIMIT_BYTES:
            self._memory.popitem(last=False)
        return self._memory[key]

    def _held(self) -> int:
        """Bytes in memory: what is mapped from the disk takes none."""
        arrays = [cells.values for cells in self._memory.values()]
        return sum(one.nbytes for one in arrays if not isinstance(one, np.memmap))

    def _kept(self, split: Split, key: str) -> CellFeatures | None:
        """From the cache, where the model still makes of the fixed pictures what it made."""
        held = self.cache.get(key) if self.cache is not None else None
        exact = self.source.precision == "fp32" and self.source.device.type == "cpu"
        if held is None or not fingerprint.alike(held[1]["probe"], self.probe, exact):
            return None
        values, body = held
        self.source.took(split, float(body["seconds"]), str(body["timed_on"]))
        places = tuple(
            Placement((row[0], row[1]), (row[2], row[3]), (row[4], row[5]))
            for row in body["places"]
        )
        return CellFeatures(values, places, float(body["loss"]))

    def _computed(self, split: Split, key: str) -> CellFeatures:
        """Written to the cache while they are computed, as far as there is room for them."""
        started, shape = worktime.now(), self.shape(len(split))
        path = self.cache.room(key, shape) if self.cache is not None else None
        try:
            values = _array(path, shape)
            places: dict[int, Placement] = {}
            loss = self._extract(split, values, places)
            seconds = worktime.now() - started
            self.source.took(split, seconds)
            self.source.computed.append(key)
            values.flags.writeable = False
            found = CellFeatures(values, tuple(places[i] for i in range(len(split))), loss)
            if path is None or self.cache is None:
                return found
            body = {
                "shape": list(shape),
                "places": [[*one.picture, *one.content, *one.frame] for one in found.places],
                "loss": loss,
                "seconds": seconds,
                "timed_on": timed_on(self.source.device),
                "probe": self.probe,
                "model": self.source.view.name,
            }
            self.cache.keep(key, path, body)
            return found  # the file is mapped still, whatever its name is now
        finally:
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def _extract(
        self, split: Split, values: NDArray[np.float16], places: dict[int, Placement]
    ) -> float:
        """Fill `values` (N, h, w, D) and `places`; the relative error of what was put there."""
        source, backbone = self.source, replace(self.backbone, places=places)
        job = Job(
            backbone, backbone, source.device,
            source.view.batch_size, 2 if source.precision == "bf16" else 4,
        )  # fmt: skip
        bad: list[int] = []
        sums: list[tuple[float, float]] = []

        def put(rows: Sequence[int], features: torch.Tensor) -> None:
            exact = features.numpy()
            bad.append(int((~np.isfinite(exact)).any(axis=1).sum()))
            kept = exact.clip(-LARGEST, LARGEST).astype(np.float16)
            values[rows[0] : rows[-1] + 1] = kept.reshape(len(rows), *values.shape[1:])
            lost = np.linalg.norm(kept - exact)  # in float32
            sums.append((float(lost) ** 2, float(np.linalg.norm(exact)) ** 2))

        numbered = replace(split, read=_Numbered(split.read))
        extract_into(job, numbered, put, source.reporter(split))
        if any(bad):
            raise NotFinite(f"the maps of {sum(bad)} of {len(split)} {split.name} examples")
        lost, size = (sum(pair[i] for pair in sums) for i in (0, 1))
        return float((lost / size) ** 0.5) if size else 0.0


@dataclass(frozen=True)
class _Numbered:
    """A `read` that says which example it read."""

    read: Callable[[int], Raw]

    def __call__(self, i: int) -> tuple[int, Raw]:
        return i, self.read(i)


def _array(path: Path | None, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """Of this shape, in the file at `path`, or in memory."""
    if path is None:
        return np.empty(shape, dtype=np.float16)
    return np.memmap(path, dtype="<f2", mode="r+", shape=shape)
