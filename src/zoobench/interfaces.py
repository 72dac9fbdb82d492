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
from zoobench.views import CellFeatures, FrameFeatures, WordFeatures

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Raw = Any
"""One example as its dataset gives it: an RGB PIL.Image.Image, a str or several, an audio.Clip."""


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
    speaker, the picture that was spoilt); empty where each is its own. `evidence(i)` says where
    the class of picture i is to be seen: (H, W), not 0 there, or None where nobody knows.
    """

    name: str
    ids: tuple[str, ...]
    targets: Targets
    read: Callable[[int], Raw] = field(repr=False, compare=False)
    reader: str = ""
    groups: tuple[str, ...] = field(default=(), repr=False, compare=False)
    evidence: Callable[[int], NDArray[Any] | None] | None = field(
        default=None, repr=False, compare=False
    )

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
        known = _Reindexed(self.evidence, picked) if self.evidence else None
        return Split(name or self.name, ids, targets, read, self.reader, groups, known)


@dataclass(frozen=True)
class _Reindexed:
    """A `read`, or an `evidence`, through an index; a class so that a split can be pickled."""

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
    the most tokens read. Audio: `length` is the most samples read, of `rate` a second.
    `extra` is whatever else changes the input's values.
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
    rate: int | None = None

    @property
    def digest(self) -> str:
        values = [getattr(self, name) for name in self.__dataclass_fields__]
        return digest(values if self.rate else values[:-1])  # keys are older than sound


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


class FeatureSource(Backbone, Protocol):
    """A backbone whose features are computed once and kept: what frozen methods use."""

    @property
    def device(self) -> torch.device: ...

    def features(self, split: Split) -> torch.Tensor:
        """(N, D) float32 features of `split`, on the CPU, in eval mode, without gradients."""

    def cells(self, split: Split, size: tuple[int, int], layers: str = "last") -> CellFeatures:
        """Features of the cells of `split`, on the grid of frames of `size` (height, width)."""

    def words(self, split: Split) -> WordFeatures:
        """Features of every word of `split`, whose examples are sequences of words."""

    def frames(self, split: Split) -> FrameFeatures:
        """Features of every frame of `split`, whose examples are recordings."""


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
    reads of a backbone: "embed", "maps", "words", "pairs", "frames", "" for nothing; of a complete
    model, from which nothing is learned, its "answer", or the "scores" (or directions) that `embed`
    gives.
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
