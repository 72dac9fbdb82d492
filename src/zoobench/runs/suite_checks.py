"""What of a resolved suite does not go together: said before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoobench import datasets, methods, models
from zoobench.errors import UserError
from zoobench.methods.audit import GRADIENTS
from zoobench.models.weights import frozen

if TYPE_CHECKING:
    from zoobench.runs.suite import Suite


def check(suite: Suite, names: Sequence[str], where: str) -> None:
    """`names` are those of the suite file's methods, in order. Raises UserError."""
    _check_variants(suite, where)
    _check_pairs(suite, where)
    _check_tasks(suite, names, where)
    _check_gradients(suite, where)


def _check_variants(suite: Suite, where: str) -> None:
    """Raises UserError where a variant would be computed in another precision on top."""
    for model in suite.models:
        if models.variants.name_of(model) and suite.precision == "bf16":
            raise UserError(
                f'{where}: precision = "bf16" makes every model its bf16 variant, and '
                f'{model.short} is a variant itself: leave precision at "auto" or "fp32"'
            )


def _check_pairs(suite: Suite, where: str) -> None:
    """Every model needs a dataset of its modality: a pairing that never happens is a mistake."""
    offered = {datasets.card(ref).modality for ref in suite.datasets}
    for i, ref in enumerate(suite.models):
        if models.card(ref).modality not in offered:
            kinds = ", ".join(sorted(offered))
            named = len(suite.models) - len(suite.pretrain)
            entry = f"models[{i}]" if i < named else f"pretrain[{i - named}]"
            raise UserError(
                f"{where}: {entry}: {ref.short} reads {models.card(ref).modality}, "
                f"but the suite's datasets are {kinds}"
            )


def _check_tasks(suite: Suite, names: Sequence[str], where: str) -> None:
    """Every method needs a dataset whose task it serves, and few shots need classes."""
    asked = {datasets.card(ref).task for ref in suite.datasets}
    for i, name in enumerate(names):
        served = methods.served(name)
        if not asked & set(served):
            raise UserError(
                f"{where}: methods[{i}]: {name} serves {', '.join(served)}, "
                f"but the suite's datasets ask {', '.join(sorted(asked))}"
            )
    for i, ref in enumerate(suite.datasets):
        if suite.shots and datasets.card(ref).task != "classification":
            raise UserError(
                f"{where}: datasets[{i}]: shots take some examples of each class, "
                f"and {ref.short} asks {datasets.card(ref).task}"
            )


def _check_gradients(suite: Suite, where: str) -> None:
    """A model without gradients is explained by occlusion alone: better said now than by a cell."""
    for spec in suite.methods:
        if spec.params.get("explain") != GRADIENTS:
            continue
        for model in suite.models:
            wanted = any(spec.wants(model, dataset) for dataset in suite.datasets)
            if wanted and frozen(models.card(model)):
                raise UserError(
                    f"{where}: {spec.name}.explain: {model.short} is a fixed graph, without "
                    f'gradients: "{GRADIENTS}" cannot explain it. Say explain = true, which is '
                    "occlusion, or leave it out by the method's `only`"
                )
