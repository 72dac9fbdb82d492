"""The protocols that hold tensors. N examples, D features, C classes.

A `Split` is examples with their targets; `Splits` are the three of them; a `Backbone`
turns raw examples into features; a `Method` adapts one to a dataset and gives
an `Adapted`, which scores examples. Importing this imports neither torch nor numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from zoobench.errors import ZoobenchError
from zoobench.schema import Modality, digest

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Raw = Any
"""One example as its dataset gives it: an RGB PIL.Image.Image, or a str."""


class TestSetRead(ZoobenchError):
    """`test` was touched before the last choice was made (PROTOCOL section 1)."""

    __test__ = False  # not a pytest class, whatever its name begins with


class Targets(Protocol):
    """The right answers to N examples, whatever a task takes for an answer: a label, a number, a
    mask. The members are in tasks/; nothing above it looks inside."""

    @property
    def strata(self) -> NDArray[np.int64]:
        """(N,) the stratum of each example, by which splits and few-shot draws are balanced."""

    def __len__(self) -> int: ...

    def subset(self, rows: NDArray[np.intp]) -> Targets:
        """The targets at `rows`, in that order."""

    def keys(self) -> Sequence[Hashable]:
        """N values, equal where the answers are: twins that disagree are found by them."""

    def content(self) -> bytes:
        """All that the answers say, the same on every machine; a split's fingerprint hashes it."""


@dataclass(frozen=True)
class Split:
    """N examples of one split, decoded only when they are asked for.

    `ids` are stable across machines (a hash of the bytes, or the dataset's own
    id); `targets` are the right answers; `read(i)` decodes example i, for several threads
    at once; `reader` names the version of what decodes, for ids say nothing of it.
    `groups` name the independent unit that each example belongs to (a family of words, a
    speaker, the picture that was spoilt); empty where each is its own.
    """

    name: str
    ids: tuple[str, ...]
    targets: Targets
    read: Callable[[int], Raw] = field(repr=False, compare=False)
    reader: str = ""
    groups: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.targets):
            raise ValueError(f"{self.name}: {len(self.ids)} ids but {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """Hash over ids and targets in order; what a record carries (PROTOCOL section 1)."""
        hasher = hashlib.sha256("\n".join(self.ids).encode())
        hasher.update(self.targets.content())
        return hasher.hexdigest()[:16]

    @property
    def units(self) -> NDArray[np.uint64]:
        """(N,) what is drawn together when the split is resampled, equal for one unit's examples;
        the same wherever the same unit stands."""
        from zoobench.statistics.bootstrap import units_of

        return units_of(self.groups or self.ids)

    def subset(self, rows: NDArray[np.intp], name: str | None = None) -> Split:
        """The examples at `rows`, in that order."""
        import numpy as np

        picked = np.asarray(rows, dtype=np.intp)
        ids = tuple(self.ids[i] for i in picked)
        read = _Reindexed(self.read, picked)
        groups = tuple(self.groups[i] for i in picked) if self.groups else ()
        targets = self.targets.subset(picked)
        return Split(name or self.name, ids, targets, read, self.reader, groups)


@dataclass(frozen=True)
class _Reindexed:
    """A `read` through an index; a class so that a split can be pickled."""

    read: Callable[[int], Raw]
    rows: NDArray[np.intp]

    def __call__(self, i: int) -> Raw:
        return self.read(int(self.rows[i]))


@dataclass(frozen=True)
class Splits:
    """A dataset, ready: three splits that ask the same `task`.

    `classes` are C names, by label, and empty where the task has no classes.
    `flags` name what a reader of the record must know (`derived-test`,
    `derived-valid`, ...); `notes` are counts such as duplicates and corrupt files.
    """

    train: Split
    valid: Split
    test: Split
    classes: tuple[str, ...]
    modality: Modality
    flags: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    task: str = "classification"

    @property
    def fingerprints(self) -> dict[str, str]:
        return {s.name: s.fingerprint for s in (self.train, self.valid, self.test)}

    def sealed(self) -> SealedSplits:
        """What a method may see while it adapts: reading `test` raises TestSetRead."""
        return SealedSplits(self.train, self.valid, self.classes, self.modality, self.task)


@dataclass(frozen=True)
class SealedSplits:
    """`Splits` whose `test` raises TestSetRead: all that `Method.adapt` is given."""

    train: Split
    valid: Split
    classes: tuple[str, ...]
    modality: Modality
    task: str = "classification"

    @property
    def test(self) -> Split:
        raise TestSetRead("the test split may only be read after adaptation has ended")


@dataclass(frozen=True)
class InputSpec:
    """What a backbone wants to eat: the preprocessing that belongs to the weights.

    Images: `size` is (channels, height, width), `mean`/`std` per channel, `crop_pct`
    the share of the resized short side that the centre crop keeps. Text: `length` is
    the most tokens read. `extra` is whatever else changes the input's values.
    """

    modality: Modality
    size: tuple[int, int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: str = ""
    crop_pct: float = 1.0
    crop_mode: str = ""
    length: int | None = None
    extra: tuple[tuple[str, Any], ...] = ()

    @property
    def digest(self) -> str:
        return digest([getattr(self, name) for name in self.__dataclass_fields__])


@runtime_checkable
class Backbone(Protocol):
    """A loaded model as a feature extractor.

    `module` is in eval mode, its parameters as loaded; `provenance` says what was
    really loaded (weights sha256 or commit, files, library versions). On a CPU several
    threads call `prepare`, `collate` and `embed` at once: what a batch needs is kept in
    local variables, not on `self`.
    """

    @property
    def module(self) -> torch.nn.Module: ...
    @property
    def input_spec(self) -> InputSpec: ...
    @property
    def feature_dim(self) -> int: ...
    @property
    def pooling(self) -> str: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...

    def prepare(self, raw: Raw) -> Any:
        """One raw example as this backbone's unbatched input, on the CPU."""

    def collate(self, prepared: Sequence[Any]) -> Any:
        """A batch from prepared examples; a tensor or a dict of tensors, on the CPU."""

    def embed(self, batch: Any) -> torch.Tensor:
        """Features (N, D) of a batch on the module's device; differentiable."""


@dataclass(frozen=True)
class MapSpec:
    """One map of a backbone's: a cell has `channels` numbers, and is `stride` input pixels wide.

    `tap` is the name of the layer that it is read at, as the model's library gives it.
    """

    stride: int
    channels: int
    tap: str


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a frame: in its top left `content`, scaled; what is left is padding.

    Each is (height, width) in pixels: the picture's own, what it became, and the frame's.
    """

    picture: tuple[int, int]
    content: tuple[int, int]
    frame: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Frame pixels a pixel of the picture: (down, across)."""
        return self.content[0] / self.picture[0], self.content[1] / self.picture[1]


@dataclass(frozen=True)
class MapReader:
    """What a backbone's `map_reader((H, W))` gives: how its maps are read off.

    `module` is a copy whose position embeddings fit an input of `size`, which is (H, W), or the
    next size above that the model takes. `read(module, batch, wanted)` gives the maps
    (B, C, h, w) at those of `taps` that `wanted` numbers, differentiable; `taps` go from the
    first layer to the last, and a map covers all of its input.
    """

    module: torch.nn.Module
    size: tuple[int, int]
    taps: tuple[str, ...]
    read: Callable[[torch.nn.Module, torch.Tensor, Sequence[int]], Sequence[torch.Tensor]]


class DenseBackbone(Protocol):
    """A backbone at work on pictures of one size, its frame: what `models.dense` makes of one.

    `specs` describe its maps, the finest first and the last layer's last; where all layers have
    one stride they are those at each quarter of the depth.
    """

    @property
    def module(self) -> torch.nn.Module: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def input_size(self) -> tuple[int, int]: ...
    @property
    def specs(self) -> tuple[MapSpec, ...]: ...

    def place(self, raw: Raw) -> tuple[NDArray[np.uint8], Placement]:
        """One picture in its frame (H, W, 3), and where it lies."""

    def tensor(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H', W') float32 from frames (B, H, W, 3) uint8, on their device.

        The values are the weights' own (mean, std, order of the channels). (H', W') is
        `input_size`: the frame, padded below and to the right to a size that the model takes.
        """

    def maps(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A (B, C, h, w) for each of `specs`, float32, differentiable; it covers (H', W')."""

    def copy(self) -> DenseBackbone:
        """The same over a module of its own, to be trained."""


@dataclass(frozen=True)
class CellFeatures:
    """Features of N pictures on one grid: `values` (N, h, w, D) of any float type, perhaps on the
    disk, and where each picture lies in the frame that the grid divides.

    `loss` is the relative error of `values`, where they were rounded to be kept.
    """

    values: Any
    places: tuple[Placement, ...]
    loss: float = 0.0

    @property
    def grid(self) -> tuple[int, int]:
        _, h, w, _ = self.values.shape
        return h, w

    def rows(self, rows: NDArray[np.intp]) -> torch.Tensor:
        """(R, D) float32 of some cells, numbered through all pictures, on the CPU."""
        import numpy as np
        import torch

        flat = self.values.reshape(-1, self.values.shape[-1])
        return torch.as_tensor(np.asarray(flat[rows], dtype=np.float32))


class FeatureSource(Backbone, Protocol):
    """A backbone whose features are computed once and kept: what frozen methods use."""

    @property
    def device(self) -> torch.device: ...

    def features(self, split: Split) -> torch.Tensor:
        """(N, D) float32 features of `split`, on the CPU, in eval mode, without gradients."""

    def cells(self, split: Split, size: tuple[int, int], layers: str = "last") -> CellFeatures:
        """Features of the cells of `split`, on the grid of frames of `size` (height, width)."""


class Adapted(Protocol):
    """The end of an adaptation: it can score any split, and says what it chose.

    `chosen` are hyper-parameters picked on `valid`; `facts` are what the record
    should carry beside (train accuracy, iterations, gradient norm, seconds);
    `flags` as in Record.
    """

    @property
    def chosen(self) -> Mapping[str, Any]: ...
    @property
    def facts(self) -> Mapping[str, float]: ...
    @property
    def flags(self) -> tuple[str, ...]: ...
    @property
    def valid_scores(self) -> Any:
        """The output on `valid` of a fit that never saw `valid`, shaped as `predict`'s."""

    def predict(self, split: Split) -> Any:
        """What the task judges, on the CPU: (N, C) float32 log-probabilities of classes, (N,)
        float64 numbers for a regression, or N masks."""


class Method(Protocol):
    """A frozen dataclass whose fields are its hyper-parameters, with defaults.

    `version` changes when the numbers it gives may change; `needs` is "features"
    (frozen backbone), "module" (trains it) or "nothing" (controls); a frozen one that trains in
    steps all the same is `seeded`; `tasks` are the names of those it serves, and `view` what it
    reads of a backbone: "embed", "maps", "" for nothing.
    """

    version: ClassVar[int]
    needs: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    view: ClassVar[str] = "embed"

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Adapt to `splits.train`, choosing on `splits.valid` only.

        `backbone` is a FeatureSource, or None where `needs` is "nothing". The
        backbone's state_dict is the same afterwards unless `needs` is "module".
        Deterministic in `seed`. Raises a CellError where it cannot be done.
        """


class Team(Protocol):
    """Several processes that train one run of the grid together."""

    @property
    def ranks(self) -> int: ...

    def train(self, rate: float, pieces: int) -> dict[str, Any] | None:
        """`state` of the trained network, `valid_scores` and `facts`; None for a loss that left
        the finite numbers. Raises torch.OutOfMemoryError, or CellError where a process died."""
        ...
