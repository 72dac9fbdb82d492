"""A model as a worker holds it: loaded once, given to every cell of its group."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from zoobench import datasets, machine, models, worktime
from zoobench.costs import counted as cost
from zoobench.costs.measured import measured_costs
from zoobench.datasets.control import on_part
from zoobench.errors import UserError
from zoobench.features.cache import FeatureCache
from zoobench.features.extraction import lay_out
from zoobench.features.pixels import PixelCache
from zoobench.features.source import Features, Progress, View
from zoobench.interfaces import Method, Split
from zoobench.machine import Place, cache_dir
from zoobench.methods.transferability import foresee
from zoobench.metrics import measured
from zoobench.schema import Cell, Measurement, Ref
from zoobench.tasks.classification import Labels
from zoobench.workers.settings import Settings

Alone = Callable[[], AbstractContextManager[None]]
"""Gives a context in which no other worker of this machine runs."""


@dataclass
class Loaded:
    """A model on its device, and its costs: counted once, timed in each precision that is used."""

    ref: Ref
    features: Features
    load_seconds: float
    _costs: dict[str, tuple[Measurement, ...]] = field(default_factory=dict)
    costs_failed: bool = False
    _foreseen: dict[str, tuple[Measurement, ...]] = field(default_factory=dict)

    def foresight(self, cell: Cell, method: Method, train: Split) -> tuple[Measurement, ...]:
        """Transferability scores of the features that a frozen method has just used, once."""
        untrained = self.ref.option("weights") == "random"
        classes = isinstance(train.targets, Labels)
        checks = untrained or on_part(cell.dataset)
        if method.needs != "features" or cell.shots is not None or checks or not classes:
            return ()
        key = train.fingerprint
        if key not in self._foreseen:
            found = foresee(self.features, train)
            self._foreseen[key] = tuple(measured(name, value) for name, value in found.items())
        return self._foreseen[key]

    def costs(
        self, settings: Settings, trained: bool = False, alone: Alone = contextlib.nullcontext
    ) -> tuple[Measurement, ...]:
        """In the precision that was taken, for features or for training, once each.

        Times are of the machine with nothing else of ours on it, and all of its threads, however
        many workers there are. What was counted stays where the stopwatch fails.
        """
        taken = self.features.training_precision if trained else self.features.precision
        if taken not in self._costs:
            self._costs[taken] = (second("load_seconds", self.load_seconds),)
            backbone = self.features.backbone
            try:
                self._costs[taken] += self.counted
                # Random weights cost what the pretrained ones do: once is enough.
                if settings.measure_costs and self.ref.option("weights") != "random":
                    place = Place(settings.device, taken)
                    with alone(), threads(settings.timed_threads):
                        found = measured_costs(backbone, place, settings.cost_seconds)
                    self._costs[taken] += found
            except Exception:  # noqa: BLE001  whatever the counter or the stopwatch met
                self.costs_failed = True
        return self._costs[taken]

    @cached_property
    def counted(self) -> tuple[Measurement, ...]:
        """What no precision changes."""
        return cost.static_costs(self.features.backbone)


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads of torch meanwhile; 0 leaves them as they are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(
    ref: Ref, seed: int, precision: str, settings: Settings, progress: Progress | None
) -> Loaded:
    """Raises CellError where the model cannot be had."""
    clock = worktime.now()
    backbone = models.load(ref, seed)
    lay_out(backbone, settings.device)
    seconds = worktime.now() - clock
    name = ref.at("").text
    view = View(name, settings.device, precision, compile=settings.compile)
    folder = Path(settings.cache)
    cache = FeatureCache(folder) if settings.cache else None
    pixels = PixelCache(folder.parent / "pixels") if settings.cache else None
    return Loaded(ref, Features(backbone, view, cache, progress, pixels), seconds)


def feature_source(model: Ref, data: Sequence[Ref], device: str) -> Features:
    """`model` as a source of float32 features of the datasets `data`, kept in the cache.

    Both are resolved. Raises UserError for data of another modality, CellError where the model
    cannot be had.
    """
    reads = models.card(model).modality
    for name in data:
        holds = datasets.card(name).modality
        if holds != reads:
            raise UserError(f"{model.short} reads {reads}, but {name.short} holds {holds}")
    settings = Settings(machine.resolve(device), cache=str(cache_dir() / "features"))
    return load(model, 0, "fp32", settings, None).features


def second(name: str, value: float, **detail: Any) -> Measurement:
    return measured(name, round(value, 6), detail=detail)
