"""Smaller forms of a model: `MODEL?variant=int8-dynamic` is a model of its own beside its original.

    variants.made(backbone, "bf16")     the same backbone with weights and arithmetic in bfloat16

A variant is a function and a row of VARIANTS. What it gives is one object: its quality, its bytes,
its time and its memory are all of it (PROTOCOL section 4, Variants). One that covers less than
half of a model's parameters and of its MACs gains next to nothing and is refused with its shares.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoobench.errors import Unsupported, ZoobenchError, one_line, unknown
from zoobench.machine import out_of_memory
from zoobench.models.backbones import OurBackbone
from zoobench.models.variants.coverage import Coverage
from zoobench.models.weights import frozen
from zoobench.schema import ModelCard, Ref

if TYPE_CHECKING:
    from zoobench.interfaces import Backbone

OPTION = "variant"
HALVES = ("bf16", "fp16")
"""What can be made of any backbone, of whatever class."""
LEAST = 0.5
"""Share of the parameters or of the MACs that a variant must touch to be worth its name."""
CALIBRATION = 128
"""Train pictures that a calibrated variant is shown."""


@dataclass(frozen=True)
class Variant:
    """`function` is "module:name" in this room: it takes a backbone that it may keep, and where
    the variant is `calibrated` batches of its prepared inputs, and gives the new backbone and its
    Coverage. `modality` is the one that it serves, "" for each."""

    function: str
    about: str
    calibrated: bool = False
    modality: str = ""


VARIANTS: dict[str, Variant] = {
    "bf16": Variant("halves:bf16", "weights and arithmetic in bfloat16"),
    "fp16": Variant("halves:fp16", "weights and arithmetic in float16"),
    "int8-weight": Variant("int8:weight_only", "linear layers' weights in int8, a scale a row"),
    "int8-dynamic": Variant(
        "int8:dynamic", "linear layers in int8, inputs scaled as they come, a row at a time"
    ),
    "int8-static": Variant(
        "onnx_static:static", "convolutions in int8 by ONNX Runtime, calibrated on train pictures",
        calibrated=True, modality="image",
    ),
    "pruned-50": Variant(
        "pruned:half", "the smaller half of all layers' weights is zero; no bytes less unpacked"
    ),
}  # fmt: skip


def name_of(ref: Ref) -> str:
    """Which variant `ref` names; "" for a model as it is published."""
    return str(ref.option(OPTION, ""))


def calibrated(ref: Ref) -> bool:
    """Whether `ref` names a variant that is shown train pictures before it can be used."""
    return VARIANTS[name].calibrated if (name := name_of(ref)) else False


def original(ref: Ref) -> Ref:
    """The model that `ref` is a variant of; `ref` itself where it is none."""
    return ref.without(OPTION)


def check(ref: Ref, where: str = "") -> None:
    """Raises UnknownName, with the nearest, for a variant that is none."""
    name = ref.option(OPTION)
    if name is not None and name not in VARIANTS:
        raise unknown(where, OPTION, str(name), VARIANTS, f"of {ref.id}")


def unsuited(card: ModelCard, name: str) -> str:
    """Why there is no such variant of a model, as far as its card tells; "" where there may be."""
    row = VARIANTS[name]
    if row.modality and card.modality != row.modality:
        return f"{name} is for models that read {row.modality}, {card.name} reads {card.modality}"
    if frozen(card):
        return f"{card.name} is a fixed graph, and variants are made of a network's own layers"
    if card.answers:
        return f"{card.name} is a complete model, and variants are made of backbones"
    return ""


def made(backbone: Backbone, name: str, batches: Sequence[Any] = ()) -> Backbone:
    """The variant `name` of `backbone`, on the CPU, in eval mode; `backbone` is left as it was.

    `batches` are prepared inputs (B, 3, H, W) to calibrate by. What was made stands in its
    provenance: {"variant": {"name", "params", "macs"}}, the shares that it touches.
    Raises Unsupported where it cannot be made or touches too little, MissingExtra.
    """
    row = VARIANTS[name]
    ours = isinstance(backbone, OurBackbone)
    if not ours and name not in HALVES:
        raise Unsupported(f"{name}: there are no variants of a {type(backbone).__name__}")
    if row.calibrated and not batches:
        raise Unsupported(f"{name} is calibrated on the train pictures of a dataset: name one")
    module, _, function = row.function.partition(":")
    make = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    try:
        made_of, coverage = make(backbone, *([batches] if row.calibrated else []))
    except (ZoobenchError, MemoryError):
        raise
    except Exception as error:  # of any kind: networks and libraries are strangers'
        if out_of_memory(error):
            raise
        raise Unsupported(f"{name} cannot be made of it ({one_line(error)})") from error
    _check_coverage(name, coverage)
    facts = {"name": name, "params": coverage.params, "macs": coverage.macs}
    found: Backbone = replace(made_of, provenance={**backbone.provenance, OPTION: facts})
    return found


def _check_coverage(name: str, coverage: Coverage) -> None:
    if max(coverage.params, coverage.macs) < LEAST:
        raise Unsupported(
            f"{name} covers {coverage.params:.0%} of the parameters and {coverage.macs:.0%} of the "
            "MACs, less than half of each: next to nothing is gained"
        )
