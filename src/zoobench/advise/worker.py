"""What answers in the worker process: the dataset loaded once, one model at a time.

The rungs of a dataset are nested, so the features of each are put together from those of
the smaller ones and of what is new; every part goes through the ordinary feature cache.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobench import datasets, methods
from zoobench.datasets.options import BOUNDS
from zoobench.datasets.splits import bounded
from zoobench.errors import CellError
from zoobench.features.source import Features
from zoobench.interfaces import Split, Splits
from zoobench.methods.controls import RawFeatures, encoder
from zoobench.schema import Cell, Record, Ref
from zoobench.tasks.classification import labels_of
from zoobench.workers.provenance import failed
from zoobench.workers.runner import Bench
from zoobench.workers.settings import Result, Settings

FACTS = ("params", "macs", "latency_ms_p50", "peak_memory_bytes", "logme", "h_score")
LOOK = 32
"""Examples of a first look, of the smallest rung: the first half warm up, the second is timed."""

HELD_BYTES = 2 * 2**30
"""Weights of the models that stay loaded from one rung to the next."""


@dataclass(frozen=True)
class Open:
    """Load the dataset."""


@dataclass(frozen=True)
class Opened:
    """(train, valid, test) sizes and the number of classes; `error` where it cannot be used."""

    sizes: tuple[int, int, int] = (0, 0, 0)
    classes: int = 0
    error: str = ""


@dataclass(frozen=True)
class Look:
    """Load the cell's model and time it on a few examples of its dataset, which stay known."""

    cell: Cell


@dataclass(frozen=True)
class Ask:
    """Measure `cell`. `rungs` are the names of its dataset's rungs, itself the last, and
    `looked` that of the first look's.

    With `costs` latency and memory are measured too.
    """

    cell: Cell
    looked: Ref
    rungs: tuple[Ref, ...]
    costs: bool = False


@dataclass(frozen=True)
class Answer:
    """`extract` seconds went into the features of `new` examples.

    `right` are a probe's outcomes out of fold, on train, then valid, then test; None for others.
    """

    result: Result | None = None
    new: int = 0
    extract: float = 0.0
    facts: Mapping[str, float] = field(default_factory=dict)
    status: str = "ok"
    why: str = ""
    right: NDArray[np.bool_] | None = None


@dataclass
class AdviceWorker:
    """Answers the requests above."""

    settings: Settings
    dataset: Ref
    _benches: dict[Ref, Bench] = field(default_factory=dict)
    _bounded: dict[Ref, Splits] = field(default_factory=dict)
    _asked: Ask | None = None
    _new: int = 0
    _extract: float = 0.0

    def __call__(self, request: Open | Look | Ask) -> Opened | Answer:
        if isinstance(request, Open):
            return self._open()
        return self._look(request) if isinstance(request, Look) else self._ask(request)

    @cached_property
    def whole(self) -> Splits:
        """All of the data: rungs are taken from it, as a run of their cells would take them."""
        return datasets.load(self.dataset.without(*BOUNDS))

    def _rung(self, name: Ref) -> Splits:
        """The dataset within the bounds of `name`. Raises CellError."""
        if name not in self._bounded:
            self._bounded[name] = bounded(self.whole, name)
        return self._bounded[name]

    def _bench(self, cell: Cell) -> Bench:
        """The bench that holds the cell's model; those asked longest ago make room for it."""
        bench = self._benches.pop(cell.model, None) or Bench(self.settings, prepare=self._prepare)
        while self._benches and sum(map(_weight, self._benches.values())) > HELD_BYTES:
            del self._benches[next(iter(self._benches))]
        self._benches[cell.model] = bench
        return bench

    def _open(self) -> Opened:
        try:
            whole = self._rung(self.dataset)
        except CellError as error:
            return Opened(error=str(error))
        sizes = (len(whole.train), len(whole.valid), len(whole.test))
        return Opened(sizes, len(whole.classes))

    def _look(self, request: Look) -> Answer:
        """Its pace on a few examples, and its static costs."""
        cell = request.cell
        try:
            loaded = self._bench(cell).load(cell, methods.build(cell.method, cell.params))
            halves = _look_of(self._rung(cell.dataset).train)
            held = len(loaded.features.computed)
            seconds = _pace(loaded.features, halves)
            if len(loaded.features.computed) < held + len(halves):  # a disk's pace is not its own
                own = Features(loaded.features.backbone, loaded.features.view)
                seconds = _pace(own, halves)
            facts = {m.metric: m.value for m in loaded.counted}
        except Exception as error:  # noqa: BLE001  a model that fails is out, the rest goes on
            record = failed(cell, error)
            return Answer(status=record.status, why=_message(record))
        many = sum(map(len, halves))
        return Answer(new=many, extract=many * seconds, facts=facts)

    def _ask(self, request: Ask) -> Answer:
        self._asked, self._new, self._extract = request, 0, 0.0
        name = request.cell.dataset
        bench = self._bench(request.cell)
        try:
            bench.given = {name: self._rung(name)}
        except CellError as error:
            return Answer(status=error.status, why=str(error))
        bench.settings = dataclasses.replace(self.settings, measure_costs=request.costs)
        result, right = bench.run(request.cell), None
        if result.record.status == "ok":
            try:
                right = self._out_of_fold(bench, result.record)
            except Exception as error:  # noqa: BLE001  a model that fails is out, the rest goes on
                result = Result(failed(request.cell, error))
        record = result.record
        facts = {m.metric: m.value for m in record.measurements if m.metric in FACTS}
        return Answer(
            result, self._new, self._extract, facts, record.status, _message(record), right
        )

    def _out_of_fold(self, bench: Bench, record: Record) -> NDArray[np.bool_] | None:
        """Whether a probe is right that did not see it, for all examples that were paid for."""
        if "lambda" not in record.chosen:
            return None
        import torch

        from zoobench.solvers.folds import out_of_fold

        cell = record.cell
        splits = bench.given[cell.dataset]
        source: Any = (
            RawFeatures(encoder(splits.sealed()))
            if cell.model.source == "control"
            else bench.load(cell, methods.build(cell.method, cell.params)).features
        )
        every = (splits.train, splits.valid, splits.test)
        features = torch.cat([source.features(split) for split in every]).to(source.device)
        labels = torch.from_numpy(np.concatenate([labels_of(s) for s in every])).to(source.device)
        present, local = torch.unique(labels, return_inverse=True)
        said, _ = out_of_fold(features, local, len(present), float(record.chosen["lambda"]))
        right: NDArray[np.bool_] = (said == local).cpu().numpy()
        return right

    def _prepare(self, features: Features, splits: Splits) -> None:
        """The features of each split from its parts; what that cost is noted."""
        assert self._asked is not None
        rungs = [self._rung(name) for name in self._asked.rungs]
        looked = _look_of(self._rung(self._asked.looked).train)
        for split in ("train", "valid", "test"):
            known = looked if split == "train" else []
            parts = nested([*known, *(getattr(rung, split) for rung in rungs)])
            for part in parts:
                held, clock = len(features.computed), time.perf_counter()
                features.features(part)
                if len(features.computed) > held:
                    self._new += len(part)
                    self._extract += time.perf_counter() - clock
            features.assemble(getattr(splits, split), parts)


def _pace(source: Features, halves: list[Split]) -> float:
    """Seconds an example of the last of `halves`; what comes before it warms up."""
    seconds = 0.0
    for half in halves:
        clock = time.perf_counter()
        source.features(half)
        seconds = (time.perf_counter() - clock) / len(half)
    return seconds


def _look_of(train: Split) -> list[Split]:
    """The examples of a first look, in two halves."""
    rows = np.array_split(np.arange(min(LOOK, len(train))), 2)
    return [train.subset(half) for half in rows if len(half)]


def _weight(bench: Bench) -> int:
    """Bytes of the weights that `bench` holds, in the copy for features too."""
    return sum(2 * p.nbytes for one in bench.held for p in one.features.module.parameters())


def nested(rungs: list[Split]) -> list[Split]:
    """The parts that `rungs` are made of: the first, then what is new in each."""
    seen: set[str] = set()
    parts = []
    for rung in rungs:
        rows = np.array([i for i, one in enumerate(rung.ids) if one not in seen], dtype=np.intp)
        if len(rows):
            parts.append(rung.subset(rows))
        seen.update(rung.ids)
    return parts


def _message(record: Record) -> str:
    """Why a cell failed; "" where it did not."""
    return str((record.error or {}).get("message", ""))
