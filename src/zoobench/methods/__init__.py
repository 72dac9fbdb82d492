"""METHODS: how a backbone is adapted to a dataset. Two literal tables, one lookup.

A method goes by one name whatever is asked of it, and may be another class where the task is
another: a linear probe of pictures, and of their cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from zoobench import plugins
from zoobench.errors import UserError, check_finite, unknown
from zoobench.interfaces import Method
from zoobench.methods.audit import OPTIONAL
from zoobench.schema import Cell

METHODS: dict[str, str] = {
    "knn": "zoobench.methods.knn:Knn",
    "linear-probe": "zoobench.methods.linear_probe:LinearProbe",
    "ridge": "zoobench.methods.ridge:Ridge",
    "fine-tune": "zoobench.methods.finetune:FineTune",
    "from-scratch": "zoobench.methods.finetune:FromScratch",
    "lora": "zoobench.methods.lora:Lora",
    "chance": "zoobench.methods.controls:Chance",
    "majority": "zoobench.methods.controls:Majority",
    "mean": "zoobench.methods.controls:Mean",
    "raw-input": "zoobench.methods.controls:RawInput",
    "oracle": "zoobench.methods.dense_controls:Oracle",
    "as-is": "zoobench.methods.as_is:AsIs",
}

FOR_TASK: dict[str, dict[str, str]] = {
    "classification": {"as-is": "zoobench.methods.class_as_is:ClassesAsIs"},
    "segmentation": {
        "linear-probe": "zoobench.methods.dense_probe:DenseProbe",
        "knn": "zoobench.methods.dense_knn:DenseKnn",
        "fine-tune": "zoobench.methods.dense_finetune:DenseFineTune",
        "from-scratch": "zoobench.methods.dense_finetune:DenseFromScratch",
        "majority": "zoobench.methods.dense_controls:MajorityClass",
        "raw-input": "zoobench.methods.dense_controls:ColourAndPlace",
    },
    "detection": {
        "linear-probe": "zoobench.methods.box_probe:BoxProbe",
        "fine-tune": "zoobench.methods.box_finetune:BoxFineTune",
        "from-scratch": "zoobench.methods.box_finetune:BoxFromScratch",
        "majority": "zoobench.methods.box_controls:UsualBoxes",
        "raw-input": "zoobench.methods.box_controls:ColourBoxes",
        "oracle": "zoobench.methods.box_controls:BoxOracle",
    },
    "token-classification": {
        "linear-probe": "zoobench.methods.word_probe:WordProbe",
        "fine-tune": "zoobench.methods.word_finetune:WordFineTune",
        "from-scratch": "zoobench.methods.word_finetune:WordFromScratch",
        "as-is": "zoobench.methods.word_as_is:TagsAsIs",
        "majority": "zoobench.methods.word_controls:UsualTag",
        "raw-input": "zoobench.methods.word_controls:WordAndShape",
    },
    "question-answering": {
        "linear-probe": "zoobench.methods.span_probe:SpanProbe",
        "fine-tune": "zoobench.methods.span_finetune:SpanFineTune",
        "from-scratch": "zoobench.methods.span_finetune:SpanFromScratch",
        "as-is": "zoobench.methods.as_is_reader:ReadAsIs",
        "majority": "zoobench.methods.answer_controls:UsualAnswer",
        "raw-input": "zoobench.methods.answer_controls:LikeliestSentence",
    },
    "language-modelling": {
        "as-is": "zoobench.methods.language_as_is:DocumentBits",
        "majority": "zoobench.methods.language_controls:ByteFrequencies",
        "raw-input": "zoobench.methods.language_controls:ByteNgrams",
    },
    "masked-language-modelling": {
        "as-is": "zoobench.methods.language_as_is:DocumentPseudoBits",
    },
    "multiple-choice": {
        "as-is": "zoobench.methods.language_as_is:LikeliestOption",
        "chance": "zoobench.methods.language_controls:AllOptions",
        "majority": "zoobench.methods.language_controls:UsualPlace",
        "raw-input": "zoobench.methods.language_controls:SharedWords",
    },
    "speech-recognition": {
        "linear-probe": "zoobench.methods.ctc_probe:CtcProbe",
        "fine-tune": "zoobench.methods.ctc_finetune:CtcFineTune",
        "from-scratch": "zoobench.methods.ctc_finetune:CtcFromScratch",
        "as-is": "zoobench.methods.speech_as_is:SpeechAsIs",
        "majority": "zoobench.methods.speech_controls:UsualTranscript",
        "raw-input": "zoobench.methods.speech_controls:LogMelCharacters",
    },
    "retrieval": {
        "as-is": "zoobench.methods.retrieval:RetrieveAsIs",
        "chance": "zoobench.methods.retrieval:RandomPairs",
    },
}
"""Task -> the classes behind names of METHODS whose own does not serve it."""

AUDITS = ("membership", "explain")
"""Options of methods that classify: what is measured beside, when `test` has been read."""

HEAD = "head"
HEADS = ("carried", "anew")
"""Of a variant of a model: the head that was fitted on the original's features and is used on the
variant's, and the one that is fitted on the variant's (PROTOCOL section 4). It stands among a
cell's parameters, and is no method's own."""


def names() -> list[str]:
    """Every method's name, plug-ins' included."""
    return sorted(plugins.table("methods", METHODS))


def method_class(name: str, where: str = "", task: str = "") -> type[Method]:
    """The frozen dataclass behind `name`, for `task` where that has one of its own; UnknownName
    with the nearest otherwise."""
    table = {**METHODS, **FOR_TASK.get(task, {})}
    return cast("type[Method]", plugins.named("methods", table, name, where))


def served(name: str, where: str = "") -> tuple[str, ...]:
    """The tasks that the method serves: classes, unless it says more."""
    own = getattr(method_class(name, where), "tasks", ("classification",))
    return (*own, *(task for task, classes in FOR_TASK.items() if name in classes))


def seeded(name: str, task: str = "") -> bool:
    """Whether the method trains in steps, so that its seed's luck is in the result."""
    kind = method_class(name, task=task)
    return kind.needs == "module" or getattr(kind, "seeded", False)


def untouched(name: str, task: str = "") -> bool:
    """Whether the method judges a complete model as it is, from which nothing is learned."""
    return getattr(method_class(name, task=task), "view", "embed") in ("answer", "scores")


def heads(name: str, task: str) -> tuple[str, ...]:
    """The heads of HEADS that a variant is asked for by this method: both of a frozen one; of one
    that trains all weights what it made of the original, where that can be made smaller."""
    kind = method_class(name, task=task)
    if kind.needs == "features":
        return HEADS
    return HEADS[:1] if getattr(kind, "carries", False) else ()


def build(name: str, params: Mapping[str, Any], where: str = "", task: str = "") -> Method:
    """The method with `params` checked and every default filled in. Raises UserError."""
    from pydantic import TypeAdapter, ValidationError

    cls = method_class(name, where, task)
    fields = {field.name for field in dataclasses.fields(cast("Any", cls))}
    for key in params:
        if key not in fields:
            raise unknown(where, "parameter", key, fields, f"for {name}")
    try:
        method: Method = TypeAdapter(cls).validate_python(dict(params))
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        why = first["msg"].removeprefix("Value error, ")
        if first["type"] == "tuple_type":
            given = first["input"]
            short = isinstance(given, (int, float)) and abs(given) < 1e12
            value = f"{given:g}" if short else "..."
            why = f"expected a list, such as {at} = [{value}]"
        raise UserError(f"{where}: {name}{'.' + at if at else ''}: {why}") from None
    check_finite(f"{where}: {name}" if where else name, params_of(method))
    for option in AUDITS:
        if getattr(method, option, False) and task not in ("", "classification"):
            raise UserError(f"{where}: {name}.{option}: it asks about classes, not about {task}")
    return method


def of_cell(cell: Cell, task: str) -> Method:
    """The method that the cell names, for `task`. Raises UserError."""
    params = {key: value for key, value in cell.params.items() if not _is_head(cell, key)}
    return build(cell.method, params, task=task)


def _is_head(cell: Cell, key: str) -> bool:
    return key == HEAD and cell.model.option("variant") is not None


def params_of(method: Method) -> dict[str, Any]:
    """The hyper-parameters of `method`, defaults included, as JSON types; options that are off
    (audit.off) are left out."""
    left_out = {
        field.name
        for field in dataclasses.fields(cast("Any", method))
        if OPTIONAL in field.metadata and getattr(method, field.name) == field.default
    }
    every = dataclasses.asdict(cast("Any", method))
    return {name: value for name, value in every.items() if name not in left_out}
