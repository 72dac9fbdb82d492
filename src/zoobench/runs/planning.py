"""From a resolved suite to its cells, and why some pairs of it have none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from zoobench import datasets, methods, models
from zoobench.datasets import control, judged
from zoobench.datasets.shift import is_shifted
from zoobench.models import variants
from zoobench.models.weights import drawable, frozen, seeded, untrained, weights_digest
from zoobench.runs import pretraining
from zoobench.runs.suite import CONTROLS, MethodSpec, Suite
from zoobench.schema import PROTOCOL, Cell, Ref
from zoobench.tasks import task as task_named

PROBES = ("linear-probe", "ridge", "knn")
"""Methods of the random-weights control, the first one that the suite has."""


def unsuited(model: Ref, dataset: Ref, method: str) -> str:
    """Why no cell asks this of them, in words; "" where one does."""
    card, reads = datasets.card(dataset), models.card(model).modality
    if reads != card.modality:
        return f"{model.short} reads {reads}, {dataset.short} holds {card.modality}"
    answers, zero_shot = models.card(model).answers, models.card(model).zero_shot
    untouched = methods.untouched(method, card.task)
    if answers and not untouched:
        return f"{model.short} is a complete model: as-is judges it, {method} adapts a backbone"
    if untouched:
        if not answers + zero_shot:
            return f"{method} judges complete models, and {model.short} is a backbone"
        if card.task not in answers + zero_shot:
            known = ", ".join(answers + zero_shot)
            return f"{model.short} answers {known}, {dataset.short} asks {card.task}"
    served = methods.served(method)
    if card.task not in served:
        return f"{method} serves {', '.join(served)}, {dataset.short} asks {card.task}"
    if frozen(models.card(model)) and (why := _beyond_features(method, card.task)):
        return f"{model.short} is a fixed graph, without gradients or maps: {why}"
    if variant := variants.name_of(model):
        if not methods.heads(method, card.task):
            return f"{model.short} is a variant, which {method} of {card.task} cannot make"
        return variants.unsuited(models.card(model), variant)
    return ""


def _beyond_features(method: str, task: str) -> str:
    """What a method asks of a model beside its features, "" for nothing."""
    kind = methods.method_class(method, task=task)
    if kind.needs == "module":
        return f"{method} trains its layers"
    view = getattr(kind, "view", "embed")
    offered = ("embed", "answer", "scores", "")
    return f"{method} of {task} reads its {view}" if view not in offered else ""


def left_out(suite: Suite) -> list[str]:
    """Why pairs of the suite give no cell, each reason once."""
    own = [m for m in suite.methods if m.name not in CONTROLS]
    reasons = (
        unsuited(model, dataset, spec.name)
        for spec in own
        for dataset in suite.datasets
        for model in suite.models
        if spec.wants(model, dataset)
    )
    return [reason for reason in dict.fromkeys(reasons) if reason]


BLIND = ("chance", "majority")
"""Controls that no input is read for: what stands beside models that are judged as they are."""


def plan(suite: Suite) -> list[Cell]:
    """Every cell of `suite`, controls first, then the models' in the suite's order."""
    own = [m for m in suite.methods if m.name not in CONTROLS]
    cells = [c for ref in suite.datasets for c in _controls(suite, ref)]
    making = {one.model: one for one in suite.pretrain}
    for model in suite.models:
        of_model: list[Cell] = []
        for dataset in suite.datasets:
            for spec in own:
                of_model += _model_cells(suite, model, dataset, spec)
            of_model += _checked(suite, model, dataset)
        if model in making:  # an encoder is there before the cells of its seed
            seeds = sorted({cell.seed for cell in of_model} | set(suite.seeds))
            cells += pretraining.cells_of(making[model], seeds, suite.precision)
            of_model.sort(key=lambda cell: cell.seed)  # one loaded model serves those of its seed
        cells += of_model
    if "random-weights" in suite.controls:
        for model in suite.models:
            for dataset in suite.datasets:
                cells += _random_weights(suite, model, dataset)
    return list({cell.key: cell for cell in cells}.values())


def _random_weights(suite: Suite, model: Ref, dataset: Ref) -> Iterable[Cell]:
    """The probe of random weights that checks the one of `model` on `dataset`, if there is one: on
    all of the data, or of a large dataset on the control's part."""
    model = variants.original(model)  # what checks the original checks its variants
    drawn, probe = untrained(model), _probe(suite, dataset)
    if not drawable(model):
        return
    if drawn != model and probe is not None and not is_shifted(dataset):
        for cell in _model_cells(suite, drawn, dataset, probe, full_only=True):
            yield replace(cell, dataset=_for_control(dataset))


def _checked(suite: Suite, model: Ref, dataset: Ref) -> Iterable[Cell]:
    """The probe of `model` that is compared with its control's, where that has a part of the data
    alone. It follows the cell on all of the data, whose features it takes."""
    if "random-weights" not in suite.controls or suite.shots or variants.name_of(model):
        return
    probe = _probe(suite, dataset)
    parts = [one for one in _random_weights(suite, model, dataset) if control.on_part(one.dataset)]
    if probe is None or not parts:
        return
    for cell in _model_cells(suite, model, dataset, probe, full_only=True):
        yield replace(cell, dataset=_for_control(dataset))


def _for_control(dataset: Ref) -> Ref:
    large = control.is_large(dataset, datasets.card(dataset))
    return control.part(dataset) if large else dataset


def _probe(suite: Suite, dataset: Ref) -> MethodSpec | None:
    """The suite's probe that checks random weights on `dataset`, if it has one for its task."""
    task = datasets.card(dataset).task
    probes = (spec for name in PROBES for spec in suite.methods if spec.name == name)
    fit = (spec for spec in probes if spec.asks(task))
    return next((spec for spec in fit if task in methods.served(spec.name)), None)


def _controls(suite: Suite, dataset: Ref) -> Iterable[Cell]:
    if is_shifted(dataset):
        return  # they check the clean one
    task = datasets.card(dataset).task
    for name in CONTROLS[:-1]:
        if task not in methods.served(name):
            continue
        model = Ref("control", name)
        if name in suite.controls or any(m.name == name for m in suite.methods):
            spec = MethodSpec(name, _control_params(suite, name, dataset))
            for k in suite.shots:
                for draw in range(suite.draws):
                    yield _cell(suite, model, dataset, few_shot_spec(spec), draw, k)
            # What is judged as it is has no part of the data, nor has who knows nothing.
            blind = name in BLIND and any(
                methods.untouched(m.name, task) and m.asks(task) for m in suite.methods
            )
            if suite.all_data or not suite.shots or blind:
                yield _cell(suite, model, dataset, spec, suite.seeds[0], None)


def _control_params(suite: Suite, name: str, dataset: Ref) -> dict[str, Any]:
    """A control's own defaults, at the size of the suite's probe where it has one: a grid that is
    another is no control of it."""
    task = datasets.card(dataset).task
    params = methods.params_of(methods.build(name, {}, task=task))
    probe = _probe(suite, dataset)
    same = {key: probe.params[key] for key in ("size",) if probe and key in probe.params}
    return {key: same.get(key, value) for key, value in params.items()}


def _model_cells(
    suite: Suite, model: Ref, dataset: Ref, spec: MethodSpec, full_only: bool = False
) -> Iterable[Cell]:
    if unsuited(model, dataset, spec.name) or not spec.wants(model, dataset):
        return
    task = datasets.card(dataset).task
    if variants.name_of(model) and methods.HEAD not in spec.params:
        known = methods.heads(spec.name, task)
        for head in (one for one in known if one in (spec.heads or known)):
            own = replace(spec, params={**spec.params, methods.HEAD: head})
            yield from _model_cells(suite, model, dataset, own, full_only)
        return
    trains = methods.seeded(spec.name, task)
    # What is judged untouched would learn of few examples as little as of all.
    shots = () if full_only or trains or methods.untouched(spec.name, task) else suite.shots
    for k in shots:
        for draw in range(suite.draws):
            yield _cell(suite, model, dataset, few_shot_spec(spec), draw, k)
    if shots and not suite.all_data:
        return
    # On all of the data a frozen probe has nothing to draw: one seed says it all.
    drawn = trains or seeded(model)
    for seed in suite.seeds if drawn else suite.seeds[:1]:
        yield _cell(suite, model, dataset, spec, seed, None)


def _cell(
    suite: Suite, model: Ref, dataset: Ref, spec: MethodSpec, seed: int, shots: int | None
) -> Cell:
    card = datasets.card(dataset)
    if judged.on_valid(dataset):
        spec = few_shot_spec(spec)  # what is judged on is not learned from
    versions: dict[str, Any] = {
        "protocol": PROTOCOL,
        "task": f"{card.task}@{task_named(card.task).version}",
        "dataset": card.version,
        "method": methods.method_class(spec.name, task=card.task).version,
        "precision": _precision(suite, model),
    }
    digest_of_weights = weights_digest(model)
    if digest_of_weights:
        versions["weights"] = digest_of_weights
    return Cell(model, dataset, spec.name, dict(spec.params), seed, shots, versions)


def _precision(suite: Suite, model: Ref) -> str:
    """The suite's. A variant is a precision itself: where one stands in the suite, neither it nor
    its original is left to "auto", nor what checks them, for they are to be compared."""
    own = untrained(variants.original(model))
    beside = any(
        variants.name_of(m) and untrained(variants.original(m)) == own for m in suite.models
    )
    return "fp32" if beside and suite.precision == "auto" else suite.precision


def few_shot_spec(spec: MethodSpec) -> MethodSpec:
    """`spec` for a few-shot cell: k examples a class are learned from, and no more.

    The k of `valid` serve to choose; a method that would refit on them does not.
    """
    return replace(spec, params={**spec.params, "refit": False}) if "refit" in spec.params else spec
