"""What needs no statistics: counts and digests, and where two runs of one model part.

A count or a digest either is what it was or it isn't. A change, whichever way, has to be
accepted by somebody. The stages of a drift, in the order in which a picture or a text
passes them: weights, preprocessing settings, pixels (the preprocessing's output on a
fixed probe batch), features on that batch, and the probe on top.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoobench.compare.gates import EXACT
from zoobench.compare.match import Pair, text_of
from zoobench.compare.verdicts import Drift, Finding, Stage
from zoobench.features.fingerprint import COARSE, FINE, distance
from zoobench.schema import Cell, Measurement, Outcome, Ref

MACHINE = ("device", "device_name", "threads", "driver", "precision")
"""Environment entries that are the machine's; every other text in it is a library's version."""
DEVICE = ("device", "precision")
"""Those of them that decide whether features can be compared at all."""
WEIGHTS = ("weights", "state", "sha256", "commit")
"""Provenance entries that identify weights; any one that both sides have decides."""
STAGES: tuple[Stage, ...] = ("preprocessing", "pixels", "features")
"""What a model's provenance says of each stage, in the order in which an example passes them."""
TOLERANCE = {"pixels": 1e-5, "features": FINE, "features coarse": COARSE}
"""Relative distances (features/fingerprint.py) that rounding explains. Measured in float32 on four
models, SSE4.1 kernels against AVX, one thread against two: pixels 0, features at most 7e-7.
"coarse" is for bf16 (8 bits of mantissa) and CUDA, where convolutions round to TF32."""
MEANING = {
    "preprocessing": "the preprocessing's settings differ (size, crop, interpolation, mean or std)",
    "pixels": "the preprocessing's output differs on the fixed probe batch, by the same settings",
    "features": "the features differ on the fixed probe batch, from the same weights and pixels",
    "probe": "pixels and features are the same on the probe batch: the probe's answers differ",
}


@dataclass
class Model:
    """All comparable pairs of one model, and the distinct values of what is the model's own."""

    cell: Cell
    pairs: list[Pair] = field(default_factory=list)

    @property
    def first(self) -> Pair:
        return self.pairs[0]


def by_model(pairs: Iterable[Pair]) -> dict[Ref, Model]:
    """Pairs by the candidate's model; controls, which have no weights, are left out."""
    models: dict[Ref, Model] = {}
    for pair in pairs:
        ref = pair.candidate.cell.model
        if ref.source != "control":
            models.setdefault(ref, Model(pair.candidate.cell)).pairs.append(pair)
    return models


def exact_findings(models: Mapping[Ref, Model]) -> list[Finding]:
    """One finding a model and exact metric, however many cells repeat it; and one for the
    first digest that differs."""
    out = []
    for model in models.values():
        for metric in EXACT:
            out.extend(_counts(model, metric))
        out.extend(_digest(model))
    return out


def _counts(model: Model, metric: str) -> list[Finding]:
    """One finding for all pairs that say the same, with their number."""
    groups: dict[tuple[object, ...], list[tuple[Measurement, Measurement | None]]] = {}
    for pair in model.pairs:
        old, new = pair.baseline.get(metric), pair.candidate.get(metric)
        if old is not None:
            said = [(m.value, str(m.detail.get("counter"))) for m in (old, new) if m]
            groups.setdefault(tuple(said), []).append((old, new))
    return [
        dataclasses.replace(_count(model.cell, metric, *both[0]), cells=len(both))
        for both in groups.values()
    ]


def _count(cell: Cell, metric: str, old: Measurement, new: Measurement | None) -> Finding:
    if new is None:
        why = f"{metric} was not measured"
        return Finding(cell, metric, old.value, None, "missing", why, kind="exact")
    outcome: Outcome = "same"
    why, accept = "equal", False
    if old.detail.get("counter") != new.detail.get("counter"):
        outcome = "same" if old.value == new.value else "incomparable"
        why = f"counted by {old.detail.get('counter')} -> {new.detail.get('counter')}"
    elif old.value != new.value:
        outcome = "improved" if old.better == "lower" and new.value < old.value else "regressed"
        share = f" ({new.value / old.value - 1:+.2%})" if old.value else ""
        why = f"{old.value:,.0f} -> {new.value:,.0f}{share}: a change either way must be accepted"
        accept = True
    return Finding(
        cell, metric, old.value, new.value, outcome, why, kind="exact", accept=accept
    )  # fmt: skip


def _facts(pair: Pair) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    old, new = pair.baseline.provenance.get("model"), pair.candidate.provenance.get("model")
    return (
        old if isinstance(old, Mapping) else {},
        new if isinstance(new, Mapping) else {},
    )


def weights_differ(pair: Pair) -> bool:
    old, new = _facts(pair)
    return any(old[n] != new[n] for n in WEIGHTS if old.get(n) and new.get(n))


def known_stages(pair: Pair) -> tuple[Stage, ...]:
    """Stages that both sides recorded, of the same probe batch."""
    old, new = _facts(pair)
    same_batch = old.get("probe_batch") == new.get("probe_batch")
    return tuple(
        s for s in STAGES if old.get(s) and new.get(s) and (same_batch or s == "preprocessing")
    )


def changed_stages(pair: Pair) -> dict[Stage, float]:
    """Stage -> how far apart, relative to its size, for the stages that differ; inf untellable.

    Features of other weights differ, as they should: they are left out.
    """
    old, new = _facts(pair)
    found: dict[Stage, float] = {}
    for stage in known_stages(pair):
        if stage == "preprocessing":
            apart, allowed = (0.0 if old[stage] == new[stage] else math.inf), 0.0
        else:
            apart, allowed = distance(old[stage], new[stage]), _tolerance(stage, pair)
        if apart > allowed and not (stage == "features" and weights_differ(pair)):
            found[stage] = apart
    return found


def _tolerance(stage: Stage, pair: Pair) -> float:
    coarse = any(
        r.environment.get("device") == "cuda" or r.environment.get("precision") == "bf16"
        for r in (pair.baseline, pair.candidate)
    )
    return TOLERANCE["features coarse" if coarse and stage == "features" else stage]


def _digest(model: Model) -> list[Finding]:
    """The first stage that differs; the later ones follow from it and are named with it."""
    pair = model.first
    known, changed = known_stages(pair), changed_stages(pair)
    if not changed:
        return [
            Finding(model.cell, name, None, None, "same", "equal", kind="exact", stage=name)
            for name in known[-1:]
            if not weights_differ(pair)
        ]
    stage, apart = next(iter(changed.items()))
    why = MEANING[stage] + _by(apart)
    if len(changed) > 1:
        why += f"; {' and '.join(list(changed)[1:])} follow"
    moved = machine_differs(pair, DEVICE)
    if stage == "features" and moved:
        # Another kind of device computes by other rules: no proof of a fault, nor of its absence.
        why = f"the features differ{_by(apart)}, and so does the device: {', '.join(moved)}"
        return [
            Finding(
                model.cell, stage, None, None, "incomparable", why, kind="exact", stage=stage,
                cells=len(model.pairs),
            )
        ]  # fmt: skip
    libraries = library_changes(pair)
    if libraries:
        why += f" ({written(libraries)})"
    return [
        Finding(
            model.cell, stage, None, None, "regressed", f"{why}: it must be accepted",
            kind="exact", accept=True, stage=stage, cells=len(model.pairs),
        )
    ]  # fmt: skip


def _by(apart: float) -> str:
    return f", by about {apart:.2g} of their size" if math.isfinite(apart) else ""


def machine_differs(pair: Pair, names: Sequence[str] = MACHINE) -> list[str]:
    """The machine's entries that differ, as "threads 2 -> 4"."""
    old, new = pair.baseline.environment, pair.candidate.environment
    if old is new:
        return []
    return [
        f"{n} {text_of(old.get(n, 'unknown'))} -> {text_of(new.get(n, 'unknown'))}"
        for n in names
        if old.get(n) != new.get(n)
    ]


def library_changes(pair: Pair) -> dict[str, tuple[str, str]]:
    """Library -> versions, where they differ: of the run, and of those that loaded the model."""
    old, new = (
        dict(facts.get("libraries") or {}) | _libraries(record.environment)
        for record, facts in zip((pair.baseline, pair.candidate), _facts(pair), strict=True)
    )
    return {
        name: (old.get(name, "absent"), new.get(name, "absent"))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def _libraries(environment: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in environment.items():
        if name in ("libraries", "versions", "packages") and isinstance(value, Mapping):
            found |= {str(k): str(v) for k, v in value.items()}
        elif name not in MACHINE and isinstance(value, str):
            found[name] = value
    return found


def written(libraries: Mapping[str, tuple[str, str]]) -> str:
    return ", ".join(f"{name} {old} -> {new}" for name, (old, new) in libraries.items())


def drifts(models: Mapping[Ref, Model], moved: Container[Ref]) -> tuple[Drift, ...]:
    """Where each model's two runs part, for the models in which anything differs.

    `moved` are the models of which an answer changed, by more than rounding.
    """
    out = []
    for model in models.values():
        drift = drift_of(model.first.identity[0], model, model.cell.model in moved)
        if drift is not None:
            out.append(drift)
    return tuple(out)


def drift_of(name: str, model: Model, moved: bool) -> Drift | None:
    """The first stage that differs; None where libraries, digests and answers all agree."""
    pair = model.first
    old, new = _facts(pair)
    libraries = library_changes(pair)
    stage: Stage = next(iter(changed_stages(pair)), "none")
    if weights_differ(pair):
        stage = "weights"
    if stage == "none" and moved:
        stage = "probe"
    if stage == "none":
        if not libraries:
            return None
        return Drift(name, stage, f"{written(libraries)}, and nothing else differs", libraries)
    return Drift(name, stage, _told(stage, model, old, new, libraries), libraries)


def _told(
    stage: Stage,
    model: Model,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    libraries: Mapping[str, tuple[str, str]],
) -> str:
    if stage == "weights":
        text = "the weights differ"
        both = (model.first.baseline, model.first.candidate)
        revisions = [r.cell.model.revision for r in both]
        if revisions[0] != revisions[1]:
            text += f": revision {revisions[0] or 'unknown'} -> {revisions[1] or 'unknown'}"
    elif stage == "probe" and not {"pixels", "features"} <= set(known_stages(model.first)):
        text = "the answers differ, and no digests of pixels and features say where it began"
    else:
        text = MEANING[stage] + _by(changed_stages(model.first).get(stage, math.inf))
        if not any(old.get(n) and new.get(n) for n in WEIGHTS):
            text += " (the weights are not identified)"
    if libraries:
        text += f"; libraries: {written(libraries)}"
    moved = machine_differs(model.first)
    return text + (f"; machine: {', '.join(moved)}" if moved else "")
