"""Features that are many for each example: kept in half size, mapped from the disk.

Numbers are kept in fp16: each is off by at most one part in 2,048 of itself (below 6e-5 by at most
3e-8), what lies beyond 65,504 is cut off there, and the relative error over all of them is measured
and said. N rows.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoobench import worktime
from zoobench.features import precision
from zoobench.features.cache import DEFAULT_LIMIT_BYTES, BoundedFolder, sealed
from zoobench.features.extraction import MEMORY_LIMIT_BYTES, Job
from zoobench.files import write_atomic
from zoobench.models.checkpoints import sha256_file
from zoobench.schema import digest

if TYPE_CHECKING:
    from zoobench.features.source import Features
    from zoobench.interfaces import Split

LARGEST = float(np.finfo(np.float16).max)
Kept = TypeVar("Kept")
"""Features of a split with an array of `values`, perhaps on the disk."""


@dataclass(frozen=True)
class MappedCache(BoundedFolder):
    """A bounded directory of memory-mapped arrays; the least recently used splits go first."""

    limit_bytes: int = DEFAULT_LIMIT_BYTES

    suffix: ClassVar[str] = ".f2"

    def get(self, key: str) -> tuple[NDArray[np.float16], dict[str, Any]] | None:
        """((N, ...) mapped from the disk, manifest), or None. A damaged entry is removed."""
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
            body = {**body, "sha256": sha256_file(written)}
            written.replace(data)
            write_atomic(manifest, sealed(body))
        except OSError:
            self.remove(key)


def _mapped(data: Path, body: dict[str, Any]) -> tuple[NDArray[np.float16], dict[str, Any]]:
    """Raises ValueError where the numbers are not those that were written."""
    if sha256_file(data) != body["sha256"]:
        raise ValueError("the content does not match its manifest")
    shape = tuple(body["shape"])
    return np.memmap(data, dtype="<f2", mode="r", shape=shape), body


class MappedSource(Generic[Kept]):
    """Abstract: features of splits, remembered while they are small, or from a cache, or computed.

    A source has a `key`, what is `_kept` on the disk for one, and `_computed` makes it.
    """

    def __init__(self) -> None:
        self._memory: OrderedDict[str, Kept] = OrderedDict()

    def key(self, split: Split) -> str:
        """By `key_of`."""
        raise NotImplementedError

    def _kept(self, split: Split, key: str) -> Kept | None:
        """From the cache, where the model still computes as it did."""
        raise NotImplementedError

    def _computed(self, split: Split, key: str) -> Kept:
        """Raises NotFinite."""
        raise NotImplementedError

    def read(self, split: Split) -> Kept:
        """Those of `split`. Raises NotFinite."""
        key = self.key(split)
        if key not in self._memory:
            self._memory[key] = self._kept(split, key) or self._computed(split, key)
        self._memory.move_to_end(key)
        while len(self._memory) > 1 and self._held() > MEMORY_LIMIT_BYTES:
            self._memory.popitem(last=False)
        return self._memory[key]

    def _held(self) -> int:
        """Bytes in memory: what is mapped from the disk takes none."""
        arrays: list[Any] = [one.values for one in self._memory.values()]  # type: ignore[attr-defined]
        return sum(one.nbytes for one in arrays if not isinstance(one, np.memmap))


@dataclass
class Rounded:
    """`values` (N, ...) fp16 while they are filled, from several threads.

    `bad` counts the rows that hold what is no number.
    """

    values: NDArray[np.float16]
    _bad: list[int] = field(default_factory=list)
    _sums: list[tuple[float, float]] = field(default_factory=list)

    def put(self, rows: Any, exact: NDArray[np.float32]) -> None:
        """`exact` (n, ...) at `rows`, each row once."""
        axes = tuple(range(1, exact.ndim))
        self._bad.append(int((~np.isfinite(exact)).any(axis=axes).sum()))
        kept = exact.clip(-LARGEST, LARGEST).astype(np.float16)
        self.values[rows] = kept
        lost = np.linalg.norm(kept - exact)  # in float32
        self._sums.append((float(lost) ** 2, float(np.linalg.norm(exact)) ** 2))

    @property
    def bad(self) -> int:
        return sum(self._bad)

    @property
    def loss(self) -> float:
        """The relative error of all that was put."""
        lost, size = (sum(pair[i] for pair in self._sums) for i in (0, 1))
        return float((lost / size) ** 0.5) if size else 0.0


def key_of(source: Features, split: Split, kind: str, version: int, more: Mapping[str, Any]) -> str:
    """The key of features of one `kind`, which add `more` to what any of them depend on: it flips
    with each thing that can change a number, and with nothing else."""
    return digest(
        {
            **source.ingredients(),
            kind: version,
            "folded": False,
            "split": split.fingerprint,
            "reader": split.reader,
            "precision": precision.keyed(source.precision),
            **more,
        },
        length=40,
    )


def job_of(source: Features, backbone: Any) -> Job:
    """How `backbone`, which reads `source` in parts, is run."""
    half = source.precision == "bf16"
    rows, bytes_ = source.view.batch_size, 2 if half else 4
    return Job(backbone, backbone, source.device, rows, bytes_, note=source.noted)


def kept(
    source: Features, cache: MappedCache | None, key: str, split: Split
) -> tuple[Any, Mapping[str, Any]] | None:
    """(values, what stands beside them) of `split` as `filled` wrote them, where the model still
    makes of the fixed inputs what it made; else None."""
    held = cache.get(key) if cache is not None else None
    if held is None or not source.as_kept(held[1]):
        return None
    source.took(split, held[1])
    return held


def filled(
    source: Features,
    cache: MappedCache | None,
    key: str,
    split: Split,
    shape: tuple[int, ...],
    probe: Any,
    fill: Callable[[Rounded], Mapping[str, Any]],
) -> tuple[NDArray[np.float16], float]:
    """(values of `shape`, their relative error) as `fill` makes them, written to the cache while it
    does, as far as there is room for them.

    `fill` gives what the manifest holds beside; `probe` is what tells that the model still computes
    as it did.
    """  # fmt: skip
    started = worktime.now()
    path = cache.room(key, shape) if cache is not None else None
    try:
        rounded = Rounded(_array(path, shape))
        more = fill(rounded)
        seconds = worktime.now() - started
        timing = source.timing(seconds)
        source.took(split, timing)
        source.computed.append(key)
        rounded.values.flags.writeable = False
        if path is not None and cache is not None:
            body = {
                **more,
                "shape": list(shape),
                **timing,
                "loss": rounded.loss,
                "probe": probe,
                "model": source.view.name,
            }
            cache.keep(key, path, body)
        return rounded.values, rounded.loss  # the file is mapped still, whatever its name is now
    finally:
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _array(path: Path | None, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """Of this shape, in the file at `path`, or in memory."""
    if path is None:
        return np.empty(shape, dtype=np.float16)
    return np.memmap(path, dtype="<f2", mode="r+", shape=shape)
