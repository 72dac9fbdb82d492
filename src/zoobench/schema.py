"""The frozen nouns that reach the disk. No torch, no behaviour that touches the world.

A `Ref` names a model or a dataset exactly, in one line; a `Cell` is one
question (this model, on this dataset, by this method); a `Record` is its answer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

from zoobench.errors import UserError
from zoobench.refs import Ref as Ref
from zoobench.refs import Scalar as Scalar
from zoobench.refs import Value as Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 1
"""Version of a record's shape. `store` upgrades older ones when it reads them."""

PROTOCOL = 1
"""Version of the definitions in docs/protocol.md. Another version is not comparable."""

PRETRAIN = "pretrain"
"""The method of a cell that makes the model which it names, and judges nothing."""

Modality = Literal["image", "text", "audio"]
Nature = Literal["real", "composite", "rendered"]
STATUSES = (
    "ok", "oom", "crash", "timeout", "nan", "unsupported", "missing-weights", "bad-data", "error",
)  # fmt: skip


def _text_of(value: object) -> str:
    if isinstance(value, Ref):
        return value.text
    raise TypeError(f"{type(value).__name__} has no JSON")


_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_text_of
)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces, a Ref as its text: equal values give equal text."""
    return _CANONICAL.encode(value)


def digest(value: object, length: int = 16) -> str:
    """First `length` hex digits of the sha256 of `value`'s canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


@dataclass(frozen=True)
class ModelCard:
    """What is known of a pretrained model before it is loaded.

    `license` is an SPDX identifier or "unknown"; `weights` says in words where
    the weights come from; `family` groups variants of one architecture; `answers` are the tasks
    that a complete model answers itself, none of a backbone; `zero_shot` are those that a backbone
    of pictures answers without being adapted, by what its other half makes of texts.
    """

    source: str
    name: str
    modality: Modality
    revision: str = ""
    weights: str = ""
    sha256: str = ""
    pretrained_on: str = "unknown"
    license: str = "unknown"
    published: str = ""
    family: str = ""
    extra: tuple[tuple[str, Scalar], ...] = ()
    answers: tuple[str, ...] = ()
    zero_shot: tuple[str, ...] = ()

    @property
    def ref(self) -> Ref:
        return Ref(self.source, self.name, self.revision)

    @property
    def id(self) -> str:
        return self.ref.text


@dataclass(frozen=True)
class DatasetCard:
    """What is known of a dataset before it is loaded.

    `sizes` are the official (train, valid, test) sizes, 0 where there is no such
    official split; `version` counts changes of how zoobench reads it.
    """

    source: str
    name: str
    modality: Modality
    classes: int
    sizes: tuple[int, int, int]
    revision: str = ""
    task: str = "classification"
    license: str = "unknown"
    nature: Nature = "real"
    version: int = 1
    about: str = ""

    @property
    def ref(self) -> Ref:
        return Ref(self.source, self.name, self.revision)

    @property
    def id(self) -> str:
        return self.ref.text


@dataclass(frozen=True)
class Cell:
    """One question. `params` has every default filled in; `shots` is None for all data.

    `versions` holds what else may change a quality number: protocol, task,
    dataset reader, method, and the digest of the weights where it is known.
    """

    model: Ref
    dataset: Ref
    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    shots: int | None = None
    versions: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Hash of all that may change a quality number, and of nothing else."""
        named = {"model": self.model.located.text, "dataset": self.dataset.located.text}
        return digest(to_json(self) | named)

    @property
    def label(self) -> str:
        """For people: model, dataset, method, and the seed and shots where they say anything."""
        shots = f" {self.shots}-shot" if self.shots is not None else ""
        seed = f" seed {self.seed}" if self.seed else ""
        return f"{self.model.short} · {self.dataset.short} · {self.method}{shots}{seed}"


Better = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Measurement:
    """One number. `low` and `high` bound a 95% interval; an unknown number is absent."""

    metric: str
    value: float
    unit: str = ""
    better: Better = "none"
    low: float | None = None
    high: float | None = None
    n: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """The answer to a cell, ok or failed; one line of records.jsonl.

    `chosen` are the hyper-parameters picked on `valid`; `predictions` is the
    digest of the arrays kept in predictions/<key>.npz; `flags` name what a
    reader must know (derived-split, not-converged, lambda-on-edge, ...);
    `error` has `message` and `detail`.
    """

    cell: Cell
    status: str
    measurements: tuple[Measurement, ...] = ()
    chosen: Mapping[str, Any] = field(default_factory=dict)
    predictions: str = ""
    flags: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    error: Mapping[str, Any] | None = None
    schema: int = SCHEMA

    @property
    def key(self) -> str:
        return self.cell.key

    def value(self, metric: str) -> float | None:
        """The value of `metric`, or None when it was not measured."""
        found = self.get(metric)
        return None if found is None else found.value

    def get(self, metric: str) -> Measurement | None:
        for m in self.measurements:
            if m.metric == metric:
                return m
        return None


@dataclass(frozen=True)
class Outcomes:
    """What is kept of `n` test examples: arrays (n, ...), or ragged ones (K, ...) beside `owner`
    (K,) int32, the example in [0, n) of each row.

    The metrics follow from them alone. `unit` (n,) is equal where examples are drawn together.
    """

    n: int
    arrays: Mapping[str, NDArray[Any]]

    def of(self, units: NDArray[Any]) -> Outcomes:
        return Outcomes(self.n, {**self.arrays, "unit": units})


Outcome = Literal["same", "improved", "regressed", "inconclusive", "missing", "incomparable"]


@dataclass(frozen=True)
class Verdict:
    """What comparing one metric of one cell in two runs came to, and why."""

    cell: Cell
    metric: str
    baseline: float | None
    candidate: float | None
    outcome: Outcome
    why: str


_ALWAYS = frozenset(f.name for f in dataclasses.fields(Cell)) | {"measurements"}
"""Fields that a reader may rely on, even where they are null or empty."""
_PLAIN = frozenset({str, int, bool, type(None)})


def to_json(value: Any) -> Any:
    """Dataclasses, tuples and mappings as plain JSON types; absent fields are left out.

    Raises ValueError for NaN and infinities, which JSON has no way to write.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not JSON compliant")
        return float(value)
    if isinstance(value, (str, Ref)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if names := getattr(value, "__dataclass_fields__", None):
        body = {"key": value.key} if isinstance(value, Record) else {}
        for name in names:
            entry = getattr(value, name)
            if name in _ALWAYS or not _absent(entry):
                body[name] = to_json(entry)
        return body
    if isinstance(value, (dict, Mapping)):
        return {str(k): to_json(v) for k, v in value.items()}
    return value


def _absent(value: Any) -> bool:
    return value is None or (not value and isinstance(value, (str, tuple, dict, Mapping)))


def from_json(kind: type, value: Any) -> Any:
    """`dec_hook` for msgspec: the text of a Ref. Raises ValueError."""
    if kind is not Ref or not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
    return _interned(value)


@lru_cache(maxsize=2**14)
def _interned(text: str) -> Ref:
    """One object for a name that a run repeats in thousands of records."""
    try:
        return Ref.parse(text)
    except UserError as error:
        raise ValueError(str(error)) from error
