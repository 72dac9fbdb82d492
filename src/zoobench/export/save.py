"""Save the model behind one record: fit it again, see that it is the one that was judged, write it.

A frozen probe is fitted anew from the cached features, which the cell determines; a fine-tune is
trained again from the same seed. Either must say of the test examples what the record's kept
predictions say, and the files that were written must say it too, or nothing is written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench import machine, tasks
from zoobench.errors import UserError
from zoobench.export import cells, model_card
from zoobench.export.saved import SavedModel, open_saved
from zoobench.files import new_folder
from zoobench.machine import cache_dir
from zoobench.methods.head import AffineHead
from zoobench.models import graphs
from zoobench.models.backbones import Blueprint
from zoobench.models.saved.description import (
    DESCRIPTION,
    FORMAT,
    HEAD,
    ONNX,
    WEIGHTS,
    script_path,
)
from zoobench.models.weights import plain_tensors
from zoobench.schema import Outcomes, Record, to_json
from zoobench.store import Run
from zoobench.workers.loaded import threads
from zoobench.workers.runner import AdaptedCell, Bench
from zoobench.workers.settings import Settings

if TYPE_CHECKING:
    import torch

SAVED = ("classification", "regression")
"""Tasks whose models a script of ours runs."""
SLACK = {"fp32": 0.002, "bf16": 0.05, "fp16": 0.01, "int8-dynamic": 0.02}
"""By the precision or the variant that was judged: how far a probability may be from the one that
was kept, and two classes from each other where the saved model says the other one. Another
processor, or another size of batches, moves float32 by a hundredth of it. Of numbers it is a share
of their deviation."""
COMPARED = 256
"""Test examples that the written files are tried on."""
BATCH = 16
MOST_THREADS = 1024
"""A record that names more was made up."""


@dataclass(frozen=True)
class Saved:
    """What was written: the folder, the record behind it, and on how many test examples its files
    gave the answers that were judged."""

    folder: Path
    record: Record
    compared: int
    bytes: int

    @property
    def license(self) -> str:
        """The weights' own; "unknown" where nobody said."""
        return str(cells.told(self.record, "model").get("license", "unknown"))


def save(
    run: Run,
    record: Record,
    folder: Path,
    device: str = "auto",
    say: Callable[[str], None] = lambda line: None,
) -> Saved:
    """Write the model of `record` to `folder`, which must be new or empty.

    Raises UserError where it cannot be had again as it was judged, CellError where model or data
    cannot be loaded.
    """
    check_free(folder)
    if (asked := tasks.name_of(record.cell)) not in SAVED:
        raise UserError(
            f"{record.cell.label}: no model of {asked} is saved, only of classification and "
            "regression; its suite makes it again"
        )
    kept = run.outcomes(record)
    if kept is None:
        raise UserError(
            f"{run.path}: no predictions of {record.cell.label} are here to compare with"
        )
    cell = cells.located(run, record.cell)
    seconds = record.value("train_seconds")
    if seconds is not None:
        say(f"{cell.label}: trained again from its seed; that took {seconds:.0f} s in the run")
    place = machine.resolve(device)
    settings = Settings(place, cache=str(cache_dir() / "features"), measure_costs=False)
    with threads_of(record):
        fit = Bench(settings, _stages(say)).fit(cell)
    head = getattr(fit.adapted, "head", None)
    if head is None or fit.loaded is None:
        raise UserError(f"{cell.label}: no model of {cell.method} is saved")
    slack = SLACK[_precision(record)]
    check_same(fit, record, kept, slack)
    with new_folder(folder) as new:
        write(fit, head(), record, new)
        compared = check_files(open_saved(new), fit, kept, slack)
        model_card.write(new, record, fit.splits, compared)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Saved(folder, record, compared, size)


def _stages(say: Callable[[str], None]) -> Callable[[str, int, int], None]:
    """Says each stage that takes time once, when it begins."""
    begun: set[str] = set()

    def progress(stage: str, done: int, total: int) -> None:
        if stage not in begun:
            begun.add(stage)
            say(f"{stage}: {total} {'steps' if stage.startswith('train at') else 'examples'}")

    return progress


def check_free(folder: Path) -> None:
    """Raises UserError where `folder` is anything but a new or an empty folder."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder}: is there and no folder; nothing was written")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty; nothing was written")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def threads_of(record: Record) -> AbstractContextManager[None]:
    """As many threads as the record's worker had: sums of floats depend on it."""
    had = record.environment.get("threads")
    if not isinstance(had, int) or not 1 <= had <= MOST_THREADS:
        had = machine.threads()
    return threads(had)


def _precision(record: Record) -> str:
    if (variant := str(record.cell.model.option("variant", ""))) in SLACK:
        return variant
    precision = cells.told(record, "model").get("precision")
    taken = precision.get("taken") if isinstance(precision, Mapping) else ""
    return "bf16" if taken == "bf16" else "fp32"


def check_same(fit: AdaptedCell, record: Record, kept: Outcomes, slack: float) -> None:
    """Raises UserError where weights, data or test predictions are not the record's."""
    what = record.cell.label
    assert fit.loaded is not None
    state = cells.told(record, "model").get("state")
    if state not in (None, fit.loaded.features.weights):
        raise UserError(f"{what}: the weights that are here are not those that were judged")
    splits = record.provenance.get("splits")
    if splits not in (None, fit.splits.fingerprints):
        raise UserError(f"{what}: the data that are here are not those that were judged")
    task = tasks.task(fit.splits.task)
    for name in task.truth:
        if not np.array_equal(fit.outcomes.arrays[name], kept.arrays[name]):
            raise UserError(f"{what}: the test answers are not those of the kept predictions")
    (new, sure), (old, was) = (_said(one, fit.splits.task) for one in (fit.outcomes, kept))
    close = np.abs(sure - was) <= slack * _unit(fit)
    if fit.splits.task == "classification":
        # Of two classes that are level, rounding decides; neither is above a half.
        close &= (new == old) | (was <= 0.5 + slack)
    if bad := int((~close).sum()):
        how = "trained" if fit.method.needs == "module" else "fitted"
        raise UserError(
            f"{what}: {how} again it says something else of {bad} of {kept.n} test examples than "
            "the record does: another device, thread count or library version gives another "
            "model, and a GPU may each time that it trains one. Run the suite here, and save "
            "from that run"
        )


def _said(outcomes: Outcomes, task: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """(N,) the class and its probability; of numbers twice the number."""
    arrays = outcomes.arrays
    said = arrays["predicted"]
    return said, arrays["confidence"] if task == "classification" else said


def _unit(fit: AdaptedCell) -> float:
    """What the slack is a share of: 1 of probabilities, of numbers their deviation."""
    if fit.splits.task == "classification":
        return 1.0
    return float(np.std(fit.outcomes.arrays["target"])) or 1.0


def write(fit: AdaptedCell, head: AffineHead, record: Record, folder: Path) -> None:
    """The weights, predict.json and predict.py. Raises UserError for a model that no library alone
    makes."""
    assert fit.loaded is not None
    # A fine-tune's own copy, or what the frozen method was given.
    source = getattr(fit.adapted, "backbone", fit.loaded.features)
    blueprint: Blueprint | None = getattr(source.backbone, "blueprint", None)
    if blueprint is None:
        raise UserError(
            f"{record.cell.model.short}: no script makes such a model without zoobench; saved are "
            "models of timm, torchvision and transformers, files of ONNX, and word vectors"
        )
    variant = str(source.provenance.get("variant", {}).get("name", ""))
    beside = write_network(source.backbone, variant, folder)
    _save({"weight": head.weight, "bias": head.bias, **beside}, folder / HEAD)
    described = describe(fit, record, blueprint)
    if variant:
        described["variant"] = variant
    text = json.dumps(described, indent=1)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="ascii")
    shutil.copyfile(script_path(blueprint.library), folder / "predict.py")


def write_network(backbone: Any, variant: str, folder: Path) -> Mapping[str, torch.Tensor]:
    """The network's file, and what its library reads beside it; what belongs beside the head."""
    blueprint: Blueprint = backbone.blueprint
    beside: Mapping[str, torch.Tensor] = {}
    if graphs.kind_of(backbone.module) == "onnx":
        (folder / ONNX).write_bytes(graphs.content_of(backbone.module))
    else:
        model, beside = map(plain_tensors, blueprint.parts(backbone.module))
        _save(model, folder / WEIGHTS)
    if blueprint.write is not None:
        blueprint.write(folder, backbone.module)
    return beside


def _save(state: Mapping[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    # Tensors that share memory are written each for itself; the format refuses them else.
    apart = {name: one.detach().cpu().contiguous().clone() for name, one in state.items()}
    save_file(apart, path, {"format": "pt"})
    path.chmod(0o666 & ~_umask())  # the library makes it its owner's alone


def describe(fit: AdaptedCell, record: Record, blueprint: Blueprint) -> dict[str, Any]:
    """What predict.json says."""
    primary = tasks.task(fit.splits.task).metrics[0]
    number = record.get(primary)
    if number is None:
        raise UserError(f"{record.cell.label}: its record holds no {primary}")
    expected = {name: getattr(number, name) for name in ("metric", "value", "low", "high", "n")}
    model = cells.told(record, "model")
    origin = {
        name: str(model[name])[:1000] for name in ("license", "pretrained_on") if model.get(name)
    }
    return {
        "format": FORMAT,
        "library": blueprint.library,
        "task": fit.splits.task,
        "classes": list(fit.splits.classes),
        "expected": expected,
        "cell": {"key": record.key, **to_json(record.cell)},
        "model": dict(blueprint.settings),
        **origin,
    }


def check_files(saved: SavedModel, fit: AdaptedCell, kept: Outcomes, slack: float) -> int:
    """On how many test examples the written files say what was judged; all that were tried.

    Raises UserError where they say anything else of one.
    """
    test = fit.splits.test
    rows = np.unique(np.linspace(0, len(test) - 1, min(COMPARED, len(test))).astype(int))
    said, sure = (array[rows] for array in _said(kept, fit.splits.task))
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        scores = saved.scores([test.read(int(row)) for row in rows[part]])
        if fit.splits.task == "classification":
            probabilities = scores.softmax(dim=1).numpy()
            best = probabilities.max(axis=1)
            mine = probabilities[np.arange(len(best)), said[part]]
            apart = np.maximum(np.abs(best - sure[part]), best - mine)
        else:
            apart = np.abs(scores[:, 0].numpy() - said[part])
        if float(apart.max()) > slack * _unit(fit):
            raise UserError(
                f"{saved.folder.name}: the saved files do not say of the test examples what was "
                f"judged (off by {float(apart.max()):.2g}); nothing was written"
            )
    return len(rows)
