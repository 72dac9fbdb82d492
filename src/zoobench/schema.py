"""The frozen nouns that reach the disk. No torch, no behaviour that touches the world.

A `Ref` names a model or a dataset exactly, in one line; a `Cell` is one
question (this model, on this dataset, by this method); a `Record` is its answer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, total_ordering
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote, unquote

from zoobench.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 1
"""Version of a record's shape. `store` upgrades older ones when it reads them."""

PROTOCOL = 1
"""Version of the definitions in docs/protocol.md. Another version is not comparable."""

Scalar: TypeAlias = "str | int | float | bool"
Value: TypeAlias = "Scalar | tuple[Scalar, ...]"

Modality = Literal["image", "text"]
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


def _written(value: Value) -> str:
    return value if isinstance(value, str) else canonical(value)


def _read(text: str) -> Value:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, (int, float, bool)) else text


@total_ordering
class Ref:
    """The name of a model or dataset: `source/name@revision?option=value&...`. Immutable.

    `text` is the identity, by which refs are equal and in order; it stands in suites,
    records, tables and `--only` patterns, and `Ref.parse(ref.text) == ref`. An empty
    revision means "not pinned yet"; options are sorted by name, reserved characters in
    their values percent-encoded.
    """

    source: str
    name: str
    revision: str
    options: tuple[tuple[str, Value], ...]
    text: str

    def __init__(
        self,
        source: str,
        name: str,
        revision: str = "",
        options: Iterable[tuple[str, Value]] = (),
    ) -> None:
        ordered = tuple(sorted(options, key=lambda item: item[0]))
        at = f"@{revision}" if revision else ""
        query = "&".join(f"{k}={quote(_written(v), safe='/.,:[]')}" for k, v in ordered)
        text = f"{source}/{name}{at}{'?' + query if query else ''}"
        vars(self).update(source=source, name=name, revision=revision, options=ordered, text=text)

    @classmethod
    def parse(cls, text: str) -> Ref:
        """For the edges, where a name comes in as text. Raises UserError without `source/name`."""
        body, _, query = text.partition("?")
        path, _, revision = body.partition("@")
        source, _, name = path.partition("/")
        if not source or not name:
            raise UserError(
                f"{text!r} is not a name of the form source/name, such as timm/resnet18"
            )
        pairs = [item.partition("=") for item in query.split("&") if item]
        return cls(source, name, revision, [(unquote(k), _read(unquote(v))) for k, _, v in pairs])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Ref is immutable: {name} can't be set")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.text == other.text

    def __lt__(self, other: Ref) -> bool:
        return self.text < other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Ref.parse({self.text!r})"

    @property
    def id(self) -> str:
        """`source/name`, with neither revision nor options."""
        return f"{self.source}/{self.name}"

    @cached_property
    def located(self) -> Ref:
        """The same thing, wherever it lies: paths left out, since contents are hashed instead."""
        ref = self.without("path")
        weights = ref.option("weights", "random")
        if weights in ("random", "pretrained"):
            return ref
        return ref.with_options(weights=PurePath(str(weights)).name)

    @cached_property
    def short(self) -> str:
        """What a table shows: neither the revision nor where the files lie."""
        return self.located.at("").text

    def option(self, name: str, default: Any = None) -> Any:
        return dict(self.options).get(name, default)

    def with_options(self, **changes: Value) -> Ref:
        return Ref(self.source, self.name, self.revision, {**dict(self.options), **changes}.items())

    def without(self, *names: str) -> Ref:
        kept = [item for item in self.options if item[0] not in names]
        return (
            self
            if len(kept) == len(self.options)
            else Ref(self.source, self.name, self.revision, kept)
        )

    def at(self, revision: str) -> Ref:
        return (
            self
            if revision == self.revision
            else Ref(self.source, self.name, revision, self.options)
        )


@dataclass(frozen=True)
class ModelCard:
    """What is known of a pretrained model before it is loaded.

    `license` is an SPDX identifier or "unknown"; `weights` says in words where
    the weights come from; `family` groups variants of one architecture.
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
