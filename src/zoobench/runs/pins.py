"""What lies on a hub, at the commits that a run began with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from zoobench import datasets, models
from zoobench.pretraining import SAMPLES_MODEL
from zoobench.runs.pretraining import at_commit
from zoobench.runs.suite import Suite
from zoobench.schema import Ref
from zoobench.store import read_suite


def pinned(spec: Suite, out: Path, ask: bool = True) -> Suite:
    """`spec` with what lies on a hub at the commits that a run in `out` began with.

    A suite that is run again asks the same questions, even if a hub has moved on. A new run takes
    what each revision means today, where that is known and `ask` allows a request.
    """
    body = read_suite(out)
    if not body:
        if not ask:
            return spec
        chosen = tuple(map(models.pin, spec.models)), tuple(map(datasets.pin, spec.datasets))
        made = tuple(at_commit(one, datasets.pin, models.pin) for one in spec.pretrain)
        return dataclasses.replace(spec, models=chosen[0], datasets=chosen[1], pretrain=made)
    if body.get("identity") != spec.identity:
        return spec  # the store refuses it with a better message
    rows = body.get("pretrain", ())
    learned = [row[key] for row in rows for key in ("dataset", SAMPLES_MODEL) if key in row]
    names = (*body.get("models", ()), *body.get("datasets", ()), *learned)
    held = {str(ref.at("")): ref for ref in map(Ref.parse, names)}

    def data(ref: Ref) -> Ref:
        return held.get(str(ref.at("")), ref) if datasets.on_hub(ref) else ref

    def model(ref: Ref) -> Ref:
        return held.get(str(ref.at("")), ref)

    return dataclasses.replace(
        spec,
        models=tuple(map(model, spec.models)),
        datasets=tuple(map(data, spec.datasets)),
        pretrain=tuple(at_commit(one, data, model) for one in spec.pretrain),
    )
