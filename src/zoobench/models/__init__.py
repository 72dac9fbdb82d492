"""Pretrained models behind one protocol, with the preprocessing that belongs to the weights.

SOURCES says which module answers for the first part of a name. A source module has
`cards()`, `resolve(ref, where)`, `load(ref, seed)` and `available(ref)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoobench import errors, plugins
from zoobench.schema import ModelCard, Ref

if TYPE_CHECKING:
    from zoobench.interfaces import Backbone

SOURCES: dict[str, str] = {
    "packaged": "zoobench.models.packaged_",
    "timm": "zoobench.models.timm_",
    "torchvision": "zoobench.models.torchvision_",
    "hf": "zoobench.models.transformers_",
}


def _source(name: str, where: str = "") -> Any:
    if name in SOURCES:  # entry points cost milliseconds, and a suite asks often
        return plugins.load(SOURCES[name])
    table = plugins.table("models", SOURCES)
    if name not in table:
        raise errors.unknown(where, "model source", name, table)
    return plugins.load(table[name])


def resolve(name: str | Ref, where: str = "") -> Ref:
    """The exact, normal form of a model's name; cheap, without torch and without network.

    Raises UserError (unknown source, name, revision or option: nearest and known are said).
    """
    ref = Ref.parse(name) if isinstance(name, str) else name
    resolved: Ref = _source(ref.source, where).resolve(ref, where)
    return resolved


def load(ref: Ref, seed: int = 0) -> Backbone:
    """The backbone on the CPU, in eval mode, float32.

    `seed` draws random weights, and nothing else; torch's global generator is left as it
    was. Raises MissingWeights, Unsupported, MissingExtra.
    """
    backbone: Backbone = _source(ref.source).load(ref, seed)
    return backbone


def available(ref: Ref) -> tuple[bool, str]:
    """Whether `ref` can be loaded offline right now, and where from or why not."""
    if ref.option("weights") == "random":
        return True, "random weights"
    answer: tuple[bool, str] = _source(ref.source).available(ref)
    return answer


__all__ = ["SOURCES", "ModelCard", "available", "load", "resolve"]
