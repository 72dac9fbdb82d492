"""METHODS: how a backbone is adapted to a dataset. One literal table, one lookup."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from zoobench import plugins
from zoobench.errors import UserError, check_finite, unknown
from zoobench.interfaces import Method

METHODS: dict[str, str] = {
    "knn": "zoobench.methods.knn:Knn",
    "linear-probe": "zoobench.methods.linear_probe:LinearProbe",
    "ridge": "zoobench.methods.ridge:Ridge",
    "fine-tune": "zoobench.methods.finetune:FineTune",
    "from-scratch": "zoobench.methods.finetune:FromScratch",
    "chance": "zoobench.methods.controls:Chance",
    "majority": "zoobench.methods.controls:Majority",
    "mean": "zoobench.methods.controls:Mean",
    "raw-input": "zoobench.methods.controls:RawInput",
}


def names() -> list[str]:
    """Every method's name, plug-ins' included."""
    return sorted(plugins.table("methods", METHODS))


def method_class(name: str, where: str = "") -> type[Method]:
    """The frozen dataclass behind `name`; UnknownName with the nearest otherwise."""
    return cast("type[Method]", plugins.named("methods", METHODS, name, where))


def served(name: str) -> tuple[str, ...]:
    """The tasks that the method serves: classes, unless it says more."""
    return getattr(method_class(name), "tasks", ("classification",))


def build(name: str, params: Mapping[str, Any], where: str = "") -> Method:
    """The method with `params` checked and every default filled in. Raises UserError."""
    from pydantic import TypeAdapter, ValidationError

    cls = method_class(name, where)
    fields = {field.name for field in dataclasses.fields(cast("Any", cls))}
    for key in params:
        if key not in fields:
            raise unknown(where, "parameter", key, fields, f"for {name}")
    try:
        method: Method = TypeAdapter(cls).validate_python(dict(params))
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {name}{'.' + at if at else ''}: {first['msg']}") from None
    check_finite(f"{where}: {name}" if where else name, params_of(method))
    return method


def params_of(method: Method) -> dict[str, Any]:
    """The hyper-parameters of `method`, defaults included, as JSON types."""
    return dataclasses.asdict(cast("Any", method))
