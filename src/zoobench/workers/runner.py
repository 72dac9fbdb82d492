"""One group of cells -> records: load once, adapt, predict, measure, stamp.

A group is every cell of one model. What fails fails its own cell: the error
becomes the record's status and the next cell begins. This runs inside a worker
process; what it cannot catch (a crash, a hang) its engine does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from zoobench import datasets, methods, tasks, worktime
from zoobench.datasets import control
from zoobench.datasets.splits import drawn
from zoobench.errors import CellError, NotFinite, Unsupported
from zoobench.features.source import Features, Progress
from zoobench.interfaces import Adapted, Method, Split, Splits, Team
from zoobench.methods.explain import NOT_BETTER
from zoobench.methods.training import TrainedNetwork
from zoobench.metrics import measured
from zoobench.models import graphs, variants, weights
from zoobench.schema import PRETRAIN, Cell, Measurement, Outcomes, Record, Ref, digest
from zoobench.tasks.evaluate import UNKNOWN_CLASSES, evaluate, of_known
from zoobench.workers import torchrun
from zoobench.workers.audits import UNEXPLAINED, audited
from zoobench.workers.loaded import Alone, Loaded, bounded, load, second
from zoobench.workers.provenance import environment, failed, provenance
from zoobench.workers.settings import Result, Settings


def groups(cells: Sequence[Cell]) -> list[Sequence[Cell]]:
    """Cells by model, in the order of their first appearance; the controls are one group."""
    by_model: dict[str, list[Cell]] = {}
    for cell in cells:
        model = cell.model
        name = "control" if model.source == "control" else model.text
        by_model.setdefault(name, []).append(cell)
    return [tuple(group) for group in by_model.values()]


def run_group(
    cells: Sequence[Cell],
    settings: Settings,
    begin: Callable[[Cell], None] = lambda cell: None,
    progress: Progress | None = None,
    alone: Alone = contextlib.nullcontext,
) -> Iterator[Result]:
    """A result for each cell, in order. `begin` is told which cell is about to start.

    `alone` gives a context in which no other worker of this machine runs.
    """
    bench = Bench(settings, progress, alone=alone)
    for cell in cells:
        begin(cell)
        yield bench.run(cell)


@dataclass(frozen=True)
class AdaptedCell:
    """A cell that was adapted and judged. `loaded` is None for a method that needs no model;
    `seconds` are those of each stage."""

    method: Method
    splits: Splits
    loaded: Loaded | None
    adapted: Adapted
    outcomes: Outcomes
    seconds: tuple[Measurement, ...]


@dataclass
class Bench:
    """What the cells of a group share: the loaded model, its features and costs, the dataset.

    `given` are datasets that are loaded already, by a cell's name for them; `prepare` is
    called with a cell's features and splits before a method reads them.
    """

    settings: Settings
    progress: Progress | None = None
    given: Mapping[Ref, Splits] = field(default_factory=dict)
    prepare: Callable[[Features, Splits], None] | None = None
    alone: Alone = contextlib.nullcontext
    _models: dict[tuple[str, int, str], Loaded] = field(default_factory=dict)
    _failed: dict[tuple[str, int, str], CellError] = field(default_factory=dict)
    _dataset: tuple[Ref, Splits] | None = None

    @property
    def held(self) -> tuple[Loaded, ...]:
        return tuple(self._models.values())

    def run(self, cell: Cell) -> Result:
        """Never raises but for KeyboardInterrupt and its like."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        clock = worktime.now()
        try:
            result = self._measure(cell)
        except Exception as error:  # noqa: BLE001  one cell's failure is a record, whatever it is
            result = Result(failed(cell, error))
        record = dataclasses.replace(
            result.record,
            started=started,
            seconds=round(worktime.now() - clock, 3),
            environment=environment(self.settings, result.record),
        )
        return dataclasses.replace(result, record=record)

    def fit(self, cell: Cell) -> AdaptedCell:
        """The cell's model adapted to its dataset, and what it says of `test`. Raises CellError and
        whatever else may happen to a cell."""
        import torch

        method = methods.of_cell(cell, tasks.name_of(cell))
        whole = self._whole(cell)
        splits = drawn(control.part_of(whole, cell.dataset), cell)
        seed = int(digest([cell.key, "seed"], 8), 16)
        torch.manual_seed(seed)
        # A probe's own draw is the cell's seed: cells that differ in nothing else share it.
        loaded = None if method.needs == "nothing" else self.load(cell, method, whole.train)
        if loaded is not None:
            precision = loaded.features.training_precision
            # What is trained is the original, where a variant is made of it.
            trained = loaded.reads(cell)[0]
            if method.needs == "module" and (kind := graphs.kind_of(trained.module)):
                title = graphs.KINDS[kind].title
                raise Unsupported(f"{cell.model.short} is a graph of {title}, which nothing trains")
            trained.team = self._team(cell, method, len(splits.train), precision)
        if loaded is not None and method.needs == "features":
            for read in loaded.reads(cell):
                read.settle()
                if self.prepare is not None:
                    self.prepare(read, splits)
            take_part(loaded, whole, splits)
        adapted, scores, seconds = adapt(cell, method, splits, loaded)
        calibration = (_arrays(adapted.valid_scores), splits.valid)
        judged = tasks.task(splits.task).judge(_arrays(scores), splits.test, calibration)
        return AdaptedCell(method, splits, loaded, adapted, judged.of(splits.test.units), seconds)

    def _measure(self, cell: Cell) -> Result:
        if cell.method == PRETRAIN:
            return Result(self._pretrained(cell))
        fit = self.fit(cell)
        method, splits, loaded, adapted = fit.method, fit.splits, fit.loaded, fit.adapted
        task = tasks.task(splits.task)
        numbers = evaluate(task, fit.outcomes, splits)
        unknown = adapted.chosen.get(UNKNOWN_CLASSES, ())
        flags = [*splits.flags, *adapted.flags]
        flags += ["seen-in-pretraining"] * weights.seen(cell.model, cell.dataset)
        flags += ["temperature-of-few"] * any("temperature_of_few" in m.detail for m in numbers)
        audits = audited(cell, method, adapted, loaded, splits)
        flags += [UNEXPLAINED] * any(m.detail.get(NOT_BETTER) for m in audits)
        costs: tuple[Measurement, ...] = ()
        foreseen: tuple[Measurement, ...] = ()
        if loaded is not None:
            # A quality that was measured is not lost to a cost that cannot be.
            trained = method.needs == "module"
            whole = adapted.whole if isinstance(adapted, TrainedNetwork) else None
            costs = loaded.costs(self.settings, trained, self.alone, whole, artefact(cell, whole))
            flags += ["guessed-input"] if loaded.features.provenance.get("guessed") else []
            flags += ["costs-failed"] if loaded.costs_failed else []
            foreseen = loaded.foresight(cell, method, splits.train)
            if method.needs == "features" and loaded.features.compiling.failed:
                flags.append("compile-failed")
        record = Record(
            cell,
            "ok",
            measurements=(
                *numbers,
                *of_known(task, fit.outcomes, splits, numbers, unknown),
                *costs,
                *fit.seconds,
                *facts(adapted),
                *foreseen,
                *audits,
            ),
            chosen=dict(adapted.chosen),
            flags=tuple(dict.fromkeys(flags)),
            provenance=provenance(cell, splits, loaded, method),
        )
        unfit = [m.metric for m in record.measurements if not math.isfinite(m.value)]
        if unfit:
            raise NotFinite(f"the measurements {', '.join(unfit)}")
        return Result(record, fit.outcomes)

    def _pretrained(self, cell: Cell) -> Record:
        """The record of a cell that makes an encoder: its own numbers, and no task's."""
        from zoobench.pretraining.cell import pretrained

        self._models.clear()  # the next one needs the memory, and is another encoder
        splits = self._whole(cell)

        def features_of(ref: Ref) -> Features:
            return load(ref, 0, "fp32", self.settings, self.progress).features

        # A meter counts whatever runs on its card, or on the processor.
        alone = self.settings.workers <= self.settings.cards
        made, numbers = pretrained(
            cell, splits, self.settings.device, self.progress, features_of, alone
        )
        return Record(
            cell,
            "ok",
            measurements=numbers,
            chosen={"rate": made.card["rate"]} if made.objective.trains else {},
            flags=(*splits.flags, *made.card["flags"]),
            provenance=provenance(cell, splits, None, None) | {"pretraining": made.facts},
        )

    def _team(self, cell: Cell, method: Method, n: int, precision: str) -> Team | None:
        """Who trains this cell's network on `n` examples, if one process is not to do it alone."""
        batch = min(n, int(cell.params.get("batch_size", n)))
        ranks = min(self.settings.ranks, batch)  # each rank has an example of every batch
        if method.needs != "module" or ranks == 1:
            return None
        return torchrun.Processes(cell, self.settings.device, ranks, precision)

    def _whole(self, cell: Cell) -> Splits:
        """All of the cell's dataset; the last is kept, since cells come dataset by dataset."""
        ref = control.whole(cell.dataset)
        if ref in self.given:
            return self.given[ref]
        if self._dataset is None or self._dataset[0] != ref:
            self._dataset = None
            self._dataset = (ref, datasets.load(ref))
        return self._dataset[1]

    def load(self, cell: Cell, method: Method, train: Split | None = None) -> Loaded:
        """The cell's model, kept for the group; a model that failed once fails at once again.

        A variant that is calibrated is so on `train`, the whole of it whatever the cell's shots:
        it is shown pictures, and no answers.
        """
        ref, seed = weights.weights_of(cell, getattr(method, "random_weights", False))
        calibration = train if variants.calibrated(ref) else None
        key = (str(ref), seed, calibration.fingerprint if calibration is not None else "")
        if key in self._failed:
            raise self._failed[key]
        if key not in self._models:
            self._models.clear()  # one model at a time: the next one may need the memory
            precision = str(cell.versions.get("precision", "fp32"))
            try:
                self._models[key] = load(
                    ref, seed, precision, self.settings, self.progress, calibration
                )
            except CellError as error:
                self._failed[key] = error
                raise
        return self._models[key]


def artefact(cell: Cell, whole: object) -> str:
    """What tells one `whole` network that is trained on a model from the others, whose seeds share
    its costs; "" where there is none."""
    return "" if whole is None else digest([cell.dataset.text, cell.method, dict(cell.params)])


def take_part(loaded: Loaded, whole: Splits, splits: Splits) -> None:
    """The features of a control's part from those of all data, where these are at hand."""
    if loaded.ref.option("weights") == "random":
        return
    pairs = [
        (splits.train, whole.train), (splits.valid, whole.valid), (splits.test, whole.test),
    ]  # fmt: skip
    for one, all_ in pairs:
        if len(one) < len(all_) and loaded.features.has(all_):
            loaded.features.assemble(one, [all_])


def adapt(
    cell: Cell, method: Method, splits: Splits, loaded: Loaded | None
) -> tuple[Adapted, Any, tuple[Measurement, ...]]:
    """What was adapted, its output on test, and the seconds of each stage.

    `test` is out of reach until the adaptation has ended, and read once after it.
    """
    source = loaded.source(cell, method) if loaded is not None else None
    frozen = source if method.needs == "features" else None
    before = len(frozen.computed) if frozen else 0
    view = getattr(method, "view", "embed")
    learned = () if view == "scores" else (splits.train,)
    if frozen:
        for split in (*learned, splits.valid):
            _read(frozen, split, method)
    prepared = worktime.now()
    adapted = method.adapt(source, splits.sealed(), cell.seed)
    fitted = worktime.now()
    if loaded is not None and source is not None:
        adapted = loaded.carried(adapted, source)
    if frozen:
        _read(frozen, splits.test, method)
    opened = worktime.now()
    scores = adapted.predict(splits.test)
    ended = worktime.now()
    # facts() says a training's own; it is in no other time but the total.
    compiling = adapted.facts.get("compile_seconds", 0.0)
    fit = "train_seconds" if method.needs == "module" else "fit_seconds"
    seconds = [
        second(fit, fitted - prepared - compiling),
        second("predict_seconds", ended - opened),
    ]
    total = fitted - prepared + ended - opened
    if frozen and view != "pairs":  # it runs the network as it fits
        # What the features cost when they were computed, in this run or an earlier one; a
        # total without it would make whichever method came first look slow.
        prints = [one.fingerprint for one in (*learned, splits.valid, splits.test)]
        if not frozen.seconds.keys() >= set(prints):
            return adapted, scores, tuple(seconds)
        extraction = sum(frozen.seconds[one] for one in prints)
        cached = len(frozen.computed) == before
        seconds.append(second("extract_seconds", extraction, cached=cached))
        seconds += bounded(frozen.stages, prints)
        total += extraction
        if compiling := frozen.compiling.seconds:
            seconds.append(second("compile_seconds", compiling))
            total += compiling
    return adapted, scores, (*seconds, second("total_seconds", total))


def _read(source: Any, split: Split, method: Any) -> None:
    """Computes and keeps what a frozen method reads of `split`."""
    if getattr(method, "view", "embed") == "maps":
        source.cells(split, (method.size, method.size), method.layers)
    elif getattr(method, "view", "embed") == "words":
        source.words(split)
    elif getattr(method, "view", "embed") == "frames":
        source.frames(split)
    elif getattr(method, "view", "embed") in ("embed", "scores"):
        source.features(split)


def _arrays(output: Any) -> Any:
    """A task is given numpy's arrays for tensors, and whatever else a method says as it is."""
    import torch

    return output.numpy() if isinstance(output, torch.Tensor) else output


def facts(adapted: Adapted) -> tuple[Measurement, ...]:
    """What the method says of its own fit, as measurements (train accuracy, iterations, ...)."""
    return tuple(measured(name, float(value)) for name, value in adapted.facts.items())
