"""A model as a worker holds it: loaded once, given to every cell of its group."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from zoobench import datasets, machine, models, worktime
from zoobench.costs import counted as cost
from zoobench.costs.measured import AUTOCAST, measured_costs
from zoobench.datasets.control import on_part
from zoobench.errors import UserError
from zoobench.features.cache import FeatureCache
from zoobench.features.carried import CarriedFeatures
from zoobench.features.extraction import lay_out
from zoobench.features.pixels import PixelCache
from zoobench.features.source import Features, Progress, View
from zoobench.features.stages import NOTHING, StageSeconds
from zoobench.interfaces import Adapted, Backbone, Method, Split
from zoobench.machine import Place, cache_dir
from zoobench.methods import HEAD
from zoobench.methods.finetune import Tuned
from zoobench.methods.transferability import foresee
from zoobench.metrics import measured
from zoobench.models import variants
from zoobench.models.complete import answers_itself
from zoobench.schema import Cell, Measurement, Ref, digest
from zoobench.tasks.classification import Labels
from zoobench.workers.settings import Settings

BATCH = 16
"""Pictures of a batch that a variant is calibrated on."""

Alone = Callable[[], AbstractContextManager[None]]
"""Gives a context in which no other worker of this machine runs."""


@dataclass
class Loaded:
    """A model on its device, and its costs: counted once, timed in each precision that is used.

    `original` is there beside a variant: heads and fine-tunes that are carried over are its own.
    `smaller` makes the same variant of another backbone, such as a fine-tuned one.
    """

    ref: Ref
    features: Features
    load_seconds: float
    original: Features | None = None
    smaller: Callable[[Backbone], Backbone] | None = None
    _costs: dict[str, tuple[Measurement, ...]] = field(default_factory=dict)
    costs_failed: bool = False
    _foreseen: dict[str, tuple[Measurement, ...]] = field(default_factory=dict)

    def reads(self, cell: Cell) -> tuple[Features, ...]:
        """Whose features the cell's head is fitted and used on."""
        if self.original is None or cell.params.get(HEAD) != "carried":
            return (self.features,)
        return self.original, self.features

    def source(self, cell: Cell, method: Method) -> Features | CarriedFeatures:
        """What the cell's method is given."""
        read = self.reads(cell)
        carries = len(read) > 1 and method.needs == "features"
        return CarriedFeatures(*read) if carries else read[0]

    def carried(self, adapted: Adapted, source: Features | CarriedFeatures) -> Adapted:
        """`adapted` on the variant, where it was adapted on the original."""
        if isinstance(source, CarriedFeatures):
            source.carry()
        elif self.smaller is not None and isinstance(adapted, Tuned):
            return adapted.on(self.features.over(self.smaller(adapted.backbone.backbone)))
        return adapted

    def foresight(self, cell: Cell, method: Method, train: Split) -> tuple[Measurement, ...]:
        """Transferability scores of the features that a frozen method has just used, once."""
        untrained = self.ref.option("weights") == "random" or self.original is not None
        classes = isinstance(train.targets, Labels)
        checks = untrained or on_part(cell.dataset)
        reads = method.needs == "features" and getattr(method, "view", "embed") == "embed"
        if not reads or cell.shots is not None or checks or not classes:
            return ()
        key = train.fingerprint
        if key not in self._foreseen:
            found = foresee(self.features, train)
            self._foreseen[key] = tuple(measured(name, value) for name, value in found.items())
        return self._foreseen[key]

    def costs(
        self, settings: Settings, trained: bool = False, alone: Alone = contextlib.nullcontext,
        whole: Backbone | None = None, name: str = "",
    ) -> tuple[Measurement, ...]:  # fmt: skip
        """In the precision that was taken, for features or for training, once each; of the `whole`
        network that was trained on the model's maps, where there is one, once a `name`.

        Times are of the machine with nothing else of ours on it, and all of its threads, however
        many workers there are. What was counted stays where the stopwatch fails.
        """
        taken = self.features.training_precision if trained else self.features.precision
        key = f"{taken} {name}"
        if key not in self._costs:
            self._costs[key] = (second("load_seconds", self.load_seconds),)
            backbone = whole or self.features.backbone
            try:
                under = trained or whole is not None or answers_itself(backbone)
                halved = taken == "bf16" and not under
                self._costs[key] += self._counts(whole, halved)
                # Random weights cost what the pretrained ones do: once is enough.
                if settings.measure_costs and self.ref.option("weights") != "random":
                    place = Place(
                        settings.device, taken.replace("bf16", AUTOCAST) if under else taken
                    )
                    with alone(), threads(settings.timed_threads):
                        found = measured_costs(backbone, place, settings.cost_seconds)
                    self._costs[key] += found
            except Exception:  # noqa: BLE001  whatever the counter or the stopwatch met
                self.costs_failed = True
        return self._costs[key]

    def _counts(self, whole: Backbone | None, halved: bool) -> tuple[Measurement, ...]:
        """What is counted of what was judged; the bytes of the bf16 variant where that was."""
        if whole is not None:
            return cost.static_costs(whole)
        if not halved:
            return self.counted
        return cost.of_variant(self.counted, self.features.half, covered=False)

    @cached_property
    def counted(self) -> tuple[Measurement, ...]:
        """What no precision changes. A variant computes what its original does: what is counted of
        the function is counted there."""
        if self.original is None:
            return cost.static_costs(self.features.backbone)
        return cost.of_variant(cost.static_costs(self.original.backbone), self.features.backbone)


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
    ref: Ref,
    seed: int,
    precision: str,
    settings: Settings,
    progress: Progress | None,
    train: Split | None = None,
) -> Loaded:
    """`train` is what a variant is calibrated on. Raises CellError where the model cannot be had,
    MissingExtra."""
    clock = worktime.now()
    backbone = models.load(variants.original(ref), seed)
    lay_out(backbone, settings.device)
    seconds = worktime.now() - clock
    folder = Path(settings.cache)
    cache = FeatureCache(folder) if settings.cache else None
    pixels = PixelCache(folder.parent / "pixels") if settings.cache else None

    def features(of: Backbone, name: Ref) -> Features:
        view = View(name.at("").text, settings.device, precision, compile=settings.compile)
        return Features(of, view, cache, progress, pixels)

    own = features(backbone, variants.original(ref))
    if not (variant := variants.name_of(ref)):
        return Loaded(ref, own, seconds)

    def smaller(of: Backbone) -> Backbone:
        found = variants.made(of, variant, calibration(of, train) if train is not None else ())
        lay_out(found, settings.device)
        return found

    return Loaded(ref, features(smaller(backbone), ref), seconds, own, smaller)


def calibration(backbone: Backbone, train: Split) -> list[Any]:
    """Batches of what `backbone` makes of some pictures of `train`, chosen by a hash of their ids:
    the same pictures in the same order wherever they stand."""
    order = sorted(range(len(train)), key=lambda i: digest(["calibration", 1, train.ids[i]]))
    chosen = order[: variants.CALIBRATION]
    parts = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
    prepare, collate = backbone.prepare, backbone.collate
    return [collate([prepare(train.read(i)) for i in part]) for part in parts]


def feature_source(model: Ref, device: str, data: Sequence[Ref] = ()) -> Features:
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


def bounded(stages: Mapping[str, StageSeconds], prints: Sequence[str]) -> list[Measurement]:
    """In which share of the extraction of some splits, by fingerprint, what computes had no batch,
    and what bounded it; nothing where that was not noted of all."""
    if not stages.keys() >= set(prints):
        return []
    spent = sum((stages[one] for one in prints), NOTHING)
    if not spent.batch:
        return []
    detail = {"bound": spent.bound, **spent.facts()}
    return [measured("extract_waiting_share", round(spent.waiting_share, 4), detail=detail)]


def second(name: str, value: float, **detail: Any) -> Measurement:
    return measured(name, round(value, 6), detail=detail)
