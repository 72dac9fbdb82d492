"""A resolved suite as a TOML file: what a run directory keeps of the question that it answers."""

from __future__ import annotations

import json
from typing import Any

from zoobench.runs.pretraining import as_toml
from zoobench.runs.suite import Suite


def to_toml(suite: Suite) -> str:
    """The suite as resolved, as the text of a suite file that means the same."""
    limits = suite.limits.model_dump(exclude_none=True)
    made = {one.model for one in suite.pretrain}
    lines = [
        f"name = {_toml(suite.name)}",
        f"description = {_toml(suite.description)}",
        f"identity = {_toml(suite.identity)}",
        f"models = {_toml([str(ref) for ref in suite.models if ref not in made])}",
        f"datasets = {_toml([str(ref) for ref in suite.datasets])}",
        f"controls = {_toml(list(suite.controls))}",
        f"seeds = {_toml(list(suite.seeds))}",
        f"shots = {_toml(list(suite.shots))}",
        f"draws = {suite.draws}",
        f"precision = {_toml(suite.precision)}",
        *(["compile = true"] if suite.compile else []),
        *(["all_data = true"] if suite.all_data else []),
    ]
    for one in suite.pretrain:
        lines += ["", "[[pretrain]]"]
        lines += [f"{key} = {_toml(value)}" for key, value in as_toml(one).items()]
    for spec in suite.methods:
        lines += ["", "[[methods]]", f"name = {_toml(spec.name)}"]
        given = {key: value for key, value in spec.params.items() if value is not None}
        lines += [f"{key} = {_toml(value)}" for key, value in given.items()]
        if spec.only:
            pairs = ", ".join(f"{key} = {_toml(value)}" for key, value in spec.only.items())
            lines.append(f"only = {{ {pairs} }}")
        if spec.heads:
            lines.append(f"heads = {_toml(list(spec.heads))}")
    lines += ["", "[limits]", *(f"{key} = {_toml(value)}" for key, value in limits.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A TOML literal: text (a JSON string is a TOML basic string), number, boolean or list."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
