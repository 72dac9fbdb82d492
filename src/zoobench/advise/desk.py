"""What answers in the worker process: the dataset loaded once, one model at a time.

The rungs of a dataset are nested, so the features of each are put together from those of
the smaller ones and of what is new; every part goes through the ordinary feature cache.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zoobench import datasets, methods
from zoobench.datasets.splits import bounded
from zoobench.errors import CellError
from zoobench.interfaces import Split, Splits
from zoobench.methods.features import Features
from zoobench.metrics.cost import static_costs
from zoobench.runner import Bench, Result, Settings, failed
from zoobench.schema import Cell, Record, Ref

FACTS = ("params", "macs", "latency_ms_p50", "peak_memory_bytes", "logme", "h_score")
BOUNDS = ("max_train", "max_valid", "max_test")

LOOK = 16
"""Examples of a first look; as many before them warm up."""


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
    """Load the cell's model and time it on a few examples."""

    cell: Cell


@dataclass(frozen=True)
class Ask:
    """Measure `cell`. `rungs` are the names of its dataset's rungs, itself the last.

    With `costs` latency and memory are measured too.
    """

    cell: Cell
    rungs: tuple[str, ...]
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


class Desk:
    """Answers the requests above."""

    def __init__(self, settings: Settings, dataset: str) -> None:
        self.settings = settings
        self.dataset = dataset
        self.bench = Bench(settings, prepare=self._prepare)
        self._whole: Splits | None = None
        self._rungs: tuple[str, ...] = ()
        self._new = 0
        self._extract = 0.0

    def __call__(self, request: Open | Look | Ask) -> Opened | Answer:
        if isinstance(request, Open):
            return self._open()
        return self._look(request) if isinstance(request, Look) else self._ask(request)

    @property
    def whole(self) -> Splits:
        if self._whole is None:
            # Rungs are taken from all of the data, as a run of their cells would take them.
            self._whole = datasets.load(Ref.parse(self.dataset).without(*BOUNDS))
        return self._whole

    def _open(self) -> Opened:
        try:
            whole = bounded(self.whole, Ref.parse(self.dataset))
        except CellError as error:
            return Opened(error=str(error))
        sizes = (len(whole.train), len(whole.valid), len(whole.test))
        return Opened(sizes, len(whole.classes))

    def _look(self, request: Look) -> Answer:
        """Its pace on a few examples, after a warm-up on the same; and its static costs."""
        cell = request.cell
        try:
            source = self.bench.load(cell, methods.build(cell.method, cell.params)).features
            train = self.whole.train
            rows = np.arange(min(LOOK, len(train)))
            view = dataclasses.replace(source.view, batch_size=LOOK)
            own = Features(source.backbone, view)
            own.features(train.subset(rows))
            clock = time.perf_counter()
            own.features(train.subset(rows[::-1]))
            seconds = time.perf_counter() - clock
            facts = {m.metric: m.value for m in static_costs(source.backbone)}
        except Exception as error:  # noqa: BLE001  a model that fails is out, the rest goes on
            record = failed(cell, error)
            return Answer(status=record.status, why=_message(record))
        return Answer(new=len(rows), extract=seconds, facts=facts)

    def _ask(self, request: Ask) -> Answer:
        self._rungs, self._new, self._extract = request.rungs, 0, 0.0
        name = request.cell.dataset
        try:
            self.bench.given = {name: bounded(self.whole, Ref.parse(name))}
        except CellError as error:
            return Answer(status=error.status, why=str(error))
        self.bench.settings = dataclasses.replace(self.settings, measure_costs=request.costs)
        result = self.bench.run(request.cell)
        record = result.record
        if record.status != "ok":
            return Answer(result, self._new, self._extract, {}, record.status, _message(record))
        facts = {m.metric: m.value for m in record.measurements if m.metric in FACTS}
        try:
            right = self._out_of_fold(request.cell, record)
        except Exception as error:  # noqa: BLE001  a model that fails is out, the rest goes on
            record = failed(request.cell, error)
            return Answer(Result(record), self._new, self._extract, {}, record.status,
                          _message(record))  # fmt: skip
        return Answer(result, self._new, self._extract, facts, right=right)

    def _out_of_fold(self, cell: Cell, record: Record) -> NDArray[np.bool_] | None:
        """Whether a probe of the cell's penalty is right, for all examples that were paid for."""
        if "lambda" not in record.chosen:
            return None
        import torch

        from zoobench.solvers.classes import present_classes, relabel
        from zoobench.solvers.folds import out_of_fold

        splits = self.bench.given[cell.dataset]
        source = self.bench.load(cell, methods.build(cell.method, cell.params)).features
        every = (splits.train, splits.valid, splits.test)
        features = torch.cat([source.features(split) for split in every]).to(source.device)
        labels = torch.from_numpy(np.concatenate([s.labels for s in every])).to(source.device)
        classes = len(splits.classes)
        present = present_classes(labels, classes)
        local = relabel(labels, present, classes)
        said = out_of_fold(features, local, len(present), float(record.chosen["lambda"]))
        right: NDArray[np.bool_] = (said == local).cpu().numpy()
        return right

    def _prepare(self, features: Features, splits: Splits) -> None:
        """The features of each split from its parts; what that cost is noted."""
        rungs = [bounded(self.whole, Ref.parse(name)) for name in self._rungs]
        for split in ("train", "valid", "test"):
            parts = nested([getattr(rung, split) for rung in rungs])
            for part in parts:
                held, clock = len(features.computed), time.perf_counter()
                features.features(part)
                if len(features.computed) > held:
                    self._new += len(part)
                    self._extract += time.perf_counter() - clock
            features.assemble(getattr(splits, split), parts)


def nested(rungs: list[Split]) -> list[Split]:
    """The parts that `rungs`, each within the next, are made of: the first, then what is new."""
    seen: set[str] = set()
    parts = []
    for rung in rungs:
        rows = np.array([i for i, one in enumerate(rung.ids) if one not in seen], dtype=np.intp)
        if len(rows):
            parts.append(rung.subset(rows))
        seen.update(rung.ids)
    return parts


def _message(record: Record) -> str:
    return str((record.error or {}).get("message", record.status))
