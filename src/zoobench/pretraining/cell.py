"""A cell `pretrain`: one encoder made, or found in the cache, and what is known of it as numbers.

The training sees sealed splits. Only when its checkpoint is written is `test` read, for what an
objective rebuilds of its pictures and says of them, and for real pictures beside its samples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.costs.stopwatch import energy_meter
from zoobench.errors import MissingWeights, Unsupported
from zoobench.features.extraction import lay_out
from zoobench.features.source import Features, View
from zoobench.interfaces import Split, Splits
from zoobench.methods.inputs import Inputs
from zoobench.metrics import measured
from zoobench.models import checkpoints, pretrained_here_
from zoobench.pretraining import SAMPLES_MODEL, PretrainingRecipe, samples, version_of
from zoobench.pretraining.objective import Learner, PretrainingObjective
from zoobench.pretraining.pictures import grid_png
from zoobench.pretraining.samples import FeaturesOf
from zoobench.pretraining.training import PretrainingRun, hash_of, reproducible, sample
from zoobench.schema import Cell, Measurement, Ref
from zoobench.statistics.intervals import of_ratio
from zoobench.tasks.evaluate import bounds_of

if TYPE_CHECKING:
    import torch

MOST_JUDGED = 1000
"""Test examples that an objective's own numbers are taken of, by their ids; all where fewer."""
SHOWN = 8
"""Pictures of a row of the grids."""
LIBRARIES = ("torch", "numpy", "pillow", "safetensors")
RECONSTRUCTIONS, SAMPLES = "reconstructions.png", "samples.png"


@dataclass(frozen=True)
class Encoder:
    """A checkpoint as it lies in `folder`, and its `source`, `learner` and heads as loaded."""

    folder: Path
    recipe: PretrainingRecipe
    card: Mapping[str, Any]
    source: Features
    learner: Learner
    heads: Any

    @cached_property
    def objective(self) -> PretrainingObjective:
        return self.recipe.made

    @property
    def facts(self) -> dict[str, Any]:
        """What the record keeps of its card beside the numbers."""
        names = ("state", "objective", "architecture", "batch", "libraries", "license_of_the_data")
        return {name: self.card[name] for name in names}


def pretrained(
    cell: Cell,
    splits: Splits,
    device: str,
    progress: Callable[[str, int, int], None] | None = None,
    features_of: FeaturesOf | None = None,
    alone: bool = False,
) -> tuple[Encoder, tuple[Measurement, ...]]:
    """The encoder of the cell's seed, and its numbers; of its samples where the cell names a model
    for that, which `features_of` loads. Its energy is among them where the hardware says and it is
    `alone` on it. Raises CellError where it cannot be made."""
    made = _made(cell, splits, device, progress, alone)
    numbers = [*_numbers(made), *judged(made, splits.test)]
    if made.objective.generates:
        numbers += _of_samples(made, cell, splits, features_of)
    return made, tuple(numbers)


def _made(
    cell: Cell,
    splits: Splits,
    device: str,
    progress: Callable[[str, int, int], None] | None,
    alone: bool,
) -> Encoder:
    """The encoder as it was found, else trained."""
    recipe = recipe_of(cell)
    folder = pretrained_here_.folder_of(cell.model, cell.seed)
    source = _begun(cell, device, progress)
    with contextlib.suppress(MissingWeights, Unsupported):
        return _found(folder, recipe, source, splits)
    state = folder.with_suffix(".training")
    source = _begun(cell, device, progress)  # what was found may have been read into the first
    run = PretrainingRun(recipe, source, splits.sealed(), cell.seed, state, progress)
    energy = energy_meter(source.device) if alone and run.objective.trains else None
    if energy is not None:
        run.meter = energy[0]
    made = run.run()
    card = {
        **_about(cell, recipe, splits),
        "rate": made.rate, "curve": made.curve, "step_macs": made.macs,
        "macs_lower_bound": made.uncounted, "memory_bytes": made.memory,
        "seconds": round(made.seconds, 3), "flags": made.flags, "device": device,
        **({"joules": made.joules, "joules_by": energy[1]} if made.joules and energy else {}),
    }  # fmt: skip
    pretrained_here_.write(folder, source.module, made.heads, card)
    state.unlink(missing_ok=True)
    return _found(folder, recipe, source, splits)


def recipe_of(cell: Cell) -> PretrainingRecipe:
    """How the encoder of a cell is made."""
    how = {name: value for name, value in cell.params.items() if name != SAMPLES_MODEL}
    return PretrainingRecipe(**{**how, "rates": tuple(how["rates"])})


def _begun(cell: Cell, device: str, progress: Callable[[str, int, int], None] | None) -> Features:
    """The encoder with the random weights of the cell's seed, on `device`."""
    backbone = pretrained_here_.untrained(cell.model, cell.seed)
    lay_out(backbone, device)
    precision = str(cell.versions.get("precision", "fp32"))
    return Features(backbone, View(cell.model.at("").text, device, precision), None, progress)


def _about(cell: Cell, recipe: PretrainingRecipe, splits: Splits) -> dict[str, Any]:
    """What a card says of the recipe and of the data."""
    from zoobench import datasets

    return {
        "objective": recipe.objective,
        "architecture": recipe.architecture,
        "dataset": str(cell.model.option("dataset")),
        "splits": {name: splits.fingerprints[name] for name in ("train", "valid")},
        "license_of_the_data": datasets.card(cell.dataset).license,
        "seed": cell.seed,
        "steps": recipe.steps,
        "batch": min(recipe.batch, len(splits.train)),
        "recipe": {**asdict(recipe), "rates": list(recipe.rates)},
        "versions": version_of(recipe.objective),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _found(folder: Path, recipe: PretrainingRecipe, source: Features, splits: Splits) -> Encoder:
    """The checkpoint in `folder`, loaded. Raises MissingWeights where it is none of this data."""
    from zoobench.models.weights import state_digest

    card = pretrained_here_.read_card(folder)
    if card["splits"] != {name: splits.fingerprints[name] for name in ("train", "valid")}:
        raise MissingWeights(f"{folder}: pretrained on other examples")
    learner = Learner(source, len(splits.classes))
    with reproducible():
        heads = recipe.made.heads(learner).to(source.device)
    files = {pretrained_here_.WEIGHTS: source.module, pretrained_here_.HEADS: heads}
    for name, module in files.items():
        if len(module.state_dict()):
            checkpoints.fit(module, checkpoints.read(folder / name), str(folder / name))
    if state_digest(source.module) != card["state"]:
        raise MissingWeights(f"{folder}: its weights are not those that its card names")
    source.module.eval()
    return Encoder(folder, recipe, card, source, learner, heads.eval())


def _numbers(made: Encoder) -> tuple[Measurement, ...]:
    """What the card says of the training."""
    recipe, trains = made.recipe, made.objective.trains
    card, steps = made.card, int(made.card["steps"]) if trains else 0
    seen, macs = steps * int(card["batch"]), steps * int(card["step_macs"])
    curve = [
        {"examples": int(step) * int(card["batch"]), "macs": int(step) * int(card["step_macs"]),
         "accuracy": accuracy}
        for step, accuracy in card["curve"]
    ]  # fmt: skip
    bound = {"lower_bound": True} if card.get("macs_lower_bound") else {}
    rates = {"rates_tried": len(recipe.rates)} if steps else {}
    energy = []
    if "joules" in card:
        by = {"source": card["joules_by"]}
        energy.append(measured("pretraining_joules", float(card["joules"]), detail=by))
    return (
        measured("pretraining_valid_accuracy", curve[-1]["accuracy"], detail={"curve": curve}),
        measured("examples_seen", float(seen), detail={"views": made.objective.views}),
        measured("pretraining_macs", float(macs), detail={**bound, **rates}),
        measured("train_memory_bytes", float(card["memory_bytes"])),
        measured("pretraining_seconds", float(card["seconds"]), detail={"device": card["device"]}),
        *energy,
    )


def judged(made: Encoder, test: Split) -> tuple[Measurement, ...]:
    """The objective's own numbers on test examples, with intervals over them; a sheet of pictures
    is written beside the checkpoint."""
    import torch

    objective = made.objective
    if not len(test) or not objective.trains:
        return ()
    split = test.subset(sample(test, MOST_JUDGED))
    inputs = Inputs(made.source, split)
    values: dict[str, list[torch.Tensor]] = {}
    rebuilt: list[torch.Tensor] = []
    with reproducible(), torch.no_grad():
        for start in range(0, len(split), 128):
            torch.manual_seed(hash_of(0, start))  # the same noise and masks for each encoder
            batch = inputs.batch(list(range(start, min(start + 128, len(split)))))
            pictures = objective.rebuilt(made.learner, made.heads, batch)
            if pictures is not None:
                pixels = made.learner.pixels(batch)
                rebuilt += [torch.stack([pixels, pictures], 1)] if start == 0 else []
                for name, each in quality(pixels, pictures).items():
                    values.setdefault(name, []).append(each.cpu())
            for name, each in objective.judged(made.learner, made.heads, batch).items():
                values.setdefault(name, []).append(each.double().cpu())
        whole = objective.judged_whole(made.learner, made.heads, split)
    _show(made.folder, rebuilt)
    found = {name: torch.cat(parts).numpy() for name, parts in values.items()}
    return tuple(_with_interval(name, each, split) for name, each in {**found, **whole}.items())


def quality(pixels: torch.Tensor, rebuilt: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """(N,) PSNR and SSIM of each rebuilt picture."""
    from zoobench.solvers.image_quality import psnr, ssim

    return {"psnr": psnr(rebuilt, pixels), "ssim": ssim(rebuilt, pixels)}


def _with_interval(name: str, values: Any, split: Split) -> Measurement:
    """The mean over examples of (N,) values, or the ratio of the sums of (N, 2), and its 95%
    interval over their units. Pictures that were rebuilt exactly have no PSNR and are left out,
    as is what was not asked for and has nothing in either sum."""
    over, below = values.T if values.ndim == 2 else (values, np.ones(len(values)))
    kept = np.isfinite(over) & (below > 0)
    over, below, units = over[kept], below[kept], split.units[kept]
    value = float(over.sum() / below.sum())
    low, high = of_ratio(over, below, units, bounds_of(name))
    exact = int((~np.isfinite(values)).sum())
    detail = {"exact": exact} if exact else {}
    return measured(name, value, low=low, high=high, n=len(over), detail=detail)


def _show(folder: Path, rebuilt: Sequence[torch.Tensor]) -> None:
    """Test pictures above what was made of them, as PNG."""
    if rebuilt:
        first = rebuilt[0][: 2 * SHOWN]
        halves = (first[at : at + SHOWN] for at in range(0, len(first), SHOWN))
        rows = [part for half in halves for part in half.unbind(1)]
        (folder / RECONSTRUCTIONS).write_bytes(grid_png(rows))


def _of_samples(
    made: Encoder, cell: Cell, splits: Splits, features_of: FeaturesOf | None
) -> tuple[Measurement, ...]:
    """What the model that the cell names says of new pictures; a sheet of some is written."""
    if not len(splits.test):
        return ()
    most = max(4 * SHOWN, min(samples.MOST, len(splits.test)))
    pictures = samples.generated(made.objective, made.learner, made.heads, most, cell.seed)
    others = samples.real(made.learner, splits.test, 4 * SHOWN)
    if rows := samples.beside(pictures, others, min(SHOWN, len(others))):
        (made.folder / SAMPLES).write_bytes(grid_png(rows))
    model = cell.params.get(SAMPLES_MODEL)
    if model is None or features_of is None:
        return ()
    return samples.compared(pictures, made.learner, splits, features_of(Ref.parse(str(model))))
