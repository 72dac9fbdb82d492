"""`[[pretrain]]` of a suite file: rows -> models of the suite, and the cells that make them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from zoobench import datasets, pretraining
from zoobench.errors import UserError, check_finite
from zoobench.files import file_name, new_folder
from zoobench.generation.judge import MODEL, model_of
from zoobench.models import pretrained_here_, small
from zoobench.pretraining import SAMPLES_MODEL, PretrainingRecipe
from zoobench.schema import PRETRAIN, PROTOCOL, Cell, Record, Ref, digest
from zoobench.tasks import task as task_named

FOLDER = "pretrained"
"""Of a run directory: the checkpoints that the run made."""


class PretrainRow(BaseModel):
    """The shape of one `[[pretrain]]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    objective: str
    dataset: str | dict[str, Any]
    architecture: str = ""
    steps: int = Field(default=PretrainingRecipe.steps, ge=1, le=10_000_000)
    batch: int = Field(default=PretrainingRecipe.batch, ge=2, le=65_536)
    rates: list[float] = Field(default=list(PretrainingRecipe.rates), min_length=1)
    samples_model: str = ""


@dataclass(frozen=True)
class Pretraining:
    """A row as resolved: the model that it makes, of which data, and how; and the model in whose
    features what it generates is judged, where one is named."""

    model: Ref
    dataset: Ref
    recipe: PretrainingRecipe
    samples_model: Ref | None = None


def resolve_row(row: PretrainRow, dataset: Ref, precision: str, where: str) -> Pretraining:
    """Raises UserError where the objective, the architecture and the data do not go together."""
    kind = pretraining.objective(row.objective, f"{where}: objective")
    card = datasets.card(dataset)
    default = next((n for n, m in small.ARCHITECTURES.items() if m == card.modality), "")
    asked = row.architecture or default
    name = pretrained_here_.check_architecture(asked, f"{where}: architecture")
    reads = pretrained_here_.modality_of(name)
    if reads != card.modality:
        raise UserError(f"{where}: {name} reads {reads}, {dataset.short} holds {card.modality}")
    if card.modality not in kind.modalities:
        fit = [one for one in pretraining.OBJECTIVES if card.modality in pretraining.reads(one)]
        raise UserError(
            f"{where}: {row.objective} is for {', '.join(kind.modalities)}, {dataset.short} holds "
            f"{card.modality}. Known for it: {', '.join(fit)}"
        )
    if card.task != "classification":
        raise UserError(
            f"{where}: rates are chosen by kNN on valid, which needs classes, and "
            f"{dataset.short} asks {card.task}"
        )
    check_finite(f"{where}: rates", row.rates)
    if min(row.rates) <= 0:
        raise UserError(f"{where}: rates must be above 0")
    recipe = PretrainingRecipe(row.objective, name, row.steps, row.batch, tuple(row.rates))
    made_of = {"architecture": name, "dataset": dataset.short, "objective": row.objective}
    named = dataset.located.at("") if datasets.on_hub(dataset) else dataset.located
    revision = digest(
        [PROTOCOL, named.text, card.version, asdict(recipe), precision,
         pretraining.version_of(row.objective)]
    )  # fmt: skip
    model = Ref(pretrained_here_.SOURCE, row.name, revision, made_of.items())
    return Pretraining(model, dataset, recipe, _samples_model(row, where))


def _samples_model(row: PretrainRow, where: str) -> Ref | None:
    """Raises UserError where it is no encoder of pictures that others have too, or nothing is
    generated."""
    if not row.samples_model:
        return None
    at = f"{where}: samples_model"
    if not pretraining.objective(row.objective).generates:
        able = [one for one in pretraining.OBJECTIVES if pretraining.objective(one).generates]
        raise UserError(f"{at}: {row.objective} generates no pictures; {', '.join(able)} does")
    ref = model_of(row.samples_model, at)
    if ref != ref.private or ref.source == pretrained_here_.SOURCE:
        raise UserError(
            f"{at}: {ref.short} is of this machine alone; distances are compared in the features "
            f"of a model that others have too, such as {MODEL}"
        )
    return ref


def at_commit(
    one: Pretraining, data: Callable[[Ref], Ref], model: Callable[[Ref], Ref]
) -> Pretraining:
    """`one` with its data, and the model that judges its samples, at the commits that these say."""
    judge = None if one.samples_model is None else model(one.samples_model)
    return replace(one, dataset=data(one.dataset), samples_model=judge)


def check_names(rows: Sequence[PretrainRow], where: str) -> None:
    """Raises UserError for two rows of one name, which would be one model."""
    for i, row in enumerate(rows):
        if row.name in [other.name for other in rows[:i]]:
            raise UserError(f"{where}: pretrain[{i}]: a second {row.name!r}: name each once")


def cells_of(one: Pretraining, seeds: Iterable[int], precision: str) -> list[Cell]:
    """The cells that make the encoders of `seeds`."""
    card = datasets.card(one.dataset)
    versions = {
        "protocol": PROTOCOL,
        "task": f"{card.task}@{task_named(card.task).version}",
        "dataset": card.version,
        "method": pretraining.VERSION,
        "precision": precision,
    }
    params: dict[str, Any] = {**asdict(one.recipe), "rates": list(one.recipe.rates)}
    if one.samples_model is not None:
        params[SAMPLES_MODEL] = str(one.samples_model)
    made = (Cell(one.model, one.dataset, PRETRAIN, params, seed, None, versions) for seed in seeds)
    return list(made)


def with_needed(kept: Sequence[Cell], every: Sequence[Cell]) -> list[Cell]:
    """`kept` of a plan, and what makes their encoders, in the plan's order."""
    needed = {(cell.model, cell.seed) for cell in kept}
    keys = {cell.key for cell in kept}
    return [
        cell
        for cell in every
        if cell.key in keys or (cell.method == PRETRAIN and (cell.model, cell.seed) in needed)
    ]


def keep(out: Path, record: Record) -> None:
    """A copy of the checkpoint that `record` tells of, in the run directory, where it is in this
    machine's cache: NAME/seed-0, complete or not there."""
    cell = record.cell
    if cell.method != PRETRAIN or record.status != "ok":
        return
    source = pretrained_here_.folder_of(cell.model, cell.seed)
    folder = out / FOLDER / file_name(cell.model.name) / f"seed-{cell.seed}"
    if not source.is_dir() or folder.is_dir():
        return
    with new_folder(folder) as new:
        shutil.copytree(source, new, dirs_exist_ok=True)


def as_toml(one: Pretraining) -> Mapping[str, Any]:
    """The keys of its row, for a suite file that means the same."""
    how = asdict(one.recipe)
    return {
        "name": one.model.name,
        "dataset": str(one.dataset),
        **{key: how[key] for key in ("objective", "architecture", "steps", "batch", "rates")},
        **({} if one.samples_model is None else {SAMPLES_MODEL: str(one.samples_model)}),
    }
