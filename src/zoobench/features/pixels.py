"""Pictures decoded and resized once, as bytes, for every model of the same geometry.

A transform that belongs to weights is cut where its picture becomes a tensor: all before
is kept as uint8 (H, W, 3), all after is arithmetic on a batch. The result is the same to
the last bit as the transform's own, and checked to be so on the first picture of a split.
"""

from __future__ import annotations

import contextlib
import os
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.features.cache import BoundedFolder, sealed
from zoobench.files import write_atomic
from zoobench.interfaces import Backbone, Split
from zoobench.models.images import PixelPath, pixel_path
from zoobench.schema import digest

VERSION = 1
LIMIT_BYTES = 4 * 2**30


@dataclass(frozen=True)
class PixelCache(BoundedFolder):
    """A bounded directory of decoded splits; the least recently used go first.

    A split is one file of N pictures and, written last, a manifest with a checksum each.
    """

    limit_bytes: int = LIMIT_BYTES

    suffix: ClassVar[str] = ".u8"

    def get(self, key: str, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], list[int]] | None:
        """(pictures (N, H, W, 3) mapped from the disk, their checksums), or None."""

        def mapped(data: Path, body: dict[str, Any]) -> tuple[NDArray[np.uint8], list[int]]:
            if tuple(body["shape"]) != shape or len(body["crc32"]) != shape[0]:
                raise ValueError("of another shape")
            return np.memmap(data, dtype=np.uint8, mode="r", shape=shape), body["crc32"]

        return self.read(key, mapped)

    def writer(self, key: str, shape: tuple[int, ...]) -> Writer | None:
        """None where the split would not fit, or the directory cannot be written."""
        size = int(np.prod(shape))
        if size > self.limit_bytes or size == 0:
            return None
        try:
            self.make_room(size)
            path = self.root / f"{key}.{os.getpid()}.tmp"
            return Writer(self, key, shape, path, path.open("wb"))
        except OSError:
            return None


@dataclass
class Writer:
    """Takes pictures in any order, from any thread; only all of them together become an entry."""

    cache: PixelCache
    key: str
    shape: tuple[int, ...]
    path: Path
    file: IO[bytes]
    sums: dict[int, int] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def add(self, rows: Sequence[int], pictures: NDArray[np.uint8]) -> None:
        """A full disk costs the entry, not the run."""
        with self.turn, contextlib.suppress(OSError):
            for i, picture in zip(rows, pictures, strict=True):
                blob = picture.tobytes()
                self.file.seek(i * len(blob))
                self.file.write(blob)
                self.sums[i] = zlib.crc32(blob)

    def close(self) -> None:
        data, manifest = self.cache.paths(self.key)
        with contextlib.suppress(OSError):
            self.file.close()
            if len(self.sums) == self.shape[0]:
                self.path.replace(data)
                sums = [self.sums[i] for i in range(len(self.sums))]
                body = {"shape": list(self.shape), "crc32": sums}
                write_atomic(manifest, sealed(body))
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


@dataclass
class PixelRows:
    """The pictures of a split as bytes: from the cache, or decoded and put there."""

    path: PixelPath
    split: Split
    held: tuple[NDArray[np.uint8], list[int]] | None = None
    writer: Writer | None = None

    def batch(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """(B, H, W, 3); a damaged picture of the cache is decoded again."""
        pictures = np.stack([self._one(i) for i in rows])
        if self.writer is not None:
            self.writer.add(rows, pictures)
        return pictures

    def _one(self, i: int) -> NDArray[np.uint8]:
        if self.held is not None:
            picture: NDArray[np.uint8] = np.asarray(self.held[0][i])
            if zlib.crc32(picture.tobytes()) == self.held[1][i]:
                return picture
        return self.path.pixels(self.split.read(i))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def pixel_reader(backbone: Backbone, split: Split, cache: PixelCache | None) -> PixelRows | None:
    """None where the backbone's transform cannot be cut, or cut gives other values."""
    import torch

    path = pixel_path(getattr(backbone, "transform", None))
    if path is None or not len(split):
        return None
    raw = split.read(0)
    first = path.pixels(raw)
    whole = backbone.prepare(raw)
    if not torch.equal(path.tensor(torch.from_numpy(first[None]))[0], whole):
        return None
    if cache is None:
        return PixelRows(path, split)
    import PIL

    shape = (len(split), *first.shape)
    spec = backbone.input_spec
    geometry = [path.geometry, spec.size, spec.interpolation, spec.crop_pct, spec.crop_mode]
    body = [VERSION, split.fingerprint, split.reader, geometry, shape, PIL.__version__]
    key = digest(body, 40)
    held = cache.get(key, shape)
    if held is not None and not np.array_equal(held[0][0], first):
        cache.remove(key)  # another step hides behind the same words
        held = None
    writer = cache.writer(key, shape) if held is None else None
    return PixelRows(path, split, held, writer)
