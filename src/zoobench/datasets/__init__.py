"""Datasets by name: `SOURCES` is the table, everything else is a lookup in it.

A source is a module with `cards()`, `resolve(ref, where)`, `load(ref)` and
`available(ref)`; one whose datasets are not all catalogued also has `card(ref)`, and one
whose datasets lie on the Hugging Face hub `repository(ref)`.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from zoobench import audio, hub, plugins
from zoobench.datasets import control, judged, shift
from zoobench.errors import UserError, opening, unknown
from zoobench.interfaces import Splits
from zoobench.schema import DatasetCard, Ref

SOURCES: dict[str, str] = {
    "synthetic": "zoobench.datasets.synthetic_:Datasets",
    "packaged": "zoobench.datasets.packaged_",
    "torchvision": "zoobench.datasets.torchvision_",
    "hf": "zoobench.datasets.hub_",
    "folder": "zoobench.datasets.folder_",
    "table": "zoobench.datasets.table_",
    "squad": "zoobench.datasets.squad_",
    "conll": "zoobench.datasets.conll_",
}


def resolve(name: str | Ref, where: str = "") -> Ref:
    """`name` with its options checked and its revision filled in; no torch, no network.

    Raises UserError (where, what, nearest, known) for whatever is wrong with it.
    """
    ref = _parsed(name, where)
    if judged.on_valid(ref):
        judged.check(ref, where)
        return resolve(judged.plain(ref), where).with_options(**{judged.OPTION: "valid"})
    module = _module(ref.source, where)
    if not shift.is_shifted(ref):
        return module.resolve(ref, where)  # type: ignore[no-any-return]
    shift.check(ref, card(ref).modality, where)
    options = {key: value for key, value in ref.options if key in shift.OPTIONS}
    if "test_from" in options:
        options["test_from"] = str(resolve(str(options["test_from"]), f"{opening(where)}test_from"))
    resolved: Ref = module.resolve(shift.clean(ref), where)
    return resolved.with_options(**options)


def card(name: str | Ref) -> DatasetCard:
    """The card of a dataset; of a folder, table or uncatalogued set, what its name shows."""
    ref = judged.plain(_parsed(name, ""))
    module = _module(ref.source)
    if hasattr(module, "card"):
        return module.card(ref)  # type: ignore[no-any-return]
    for known in module.cards():
        if known.name == ref.name:
            return known  # type: ignore[no-any-return]
    raise unknown("", "dataset", ref.id, _names())


def load(name: str | Ref) -> Splits:
    """Raises BadData where the data cannot be had or is unusable; MissingExtra likewise."""
    ref = _parsed(name, "")
    if control.on_part(ref):
        return control.part_of(load(control.whole(ref)), ref)
    if judged.on_valid(ref):
        return judged.as_test(load(judged.plain(ref)))
    splits: Splits = _module(ref.source).load(shift.clean(ref))
    if shift.is_shifted(ref):
        splits = shift.apply(splits, ref, load)
    reader = f"{ref.source} {card(ref).version}"
    if "pixel_range" in splits.notes:  # the same file is another picture in another range
        reader += f" {splits.notes['pixel_range']}"
    if splits.modality == "audio":
        reader += f" sound {audio.VERSION}"
    train, valid, test = (
        replace(split, reader=reader) for split in (splits.train, splits.valid, splits.test)
    )
    return replace(splits, train=train, valid=valid, test=test)


def available(name: str | Ref) -> tuple[bool, str]:
    """Whether it could be loaded offline right now, and in a few words why (not)."""
    ref = judged.plain(_parsed(name, ""))
    return _module(ref.source).available(ref)  # type: ignore[no-any-return]


def on_hub(ref: Ref) -> bool:
    """Whether what the revision of `ref` means may change under its name."""
    return hasattr(_module(ref.source), "repository")


def pin(ref: Ref) -> Ref:
    """`ref` at the hub commit that its revision means now; unchanged where that is unknown.

    As `models.pin`: the hub's local cache first, then the hub, once. Never raises.
    """
    if not on_hub(ref):
        return ref
    commit = hub.pin(_module(ref.source).repository(ref), ref.revision, "datasets")
    return ref.at(commit) if commit else ref


def list_cards(pattern: str = "*") -> list[DatasetCard]:
    """Catalogued datasets whose `source/name`, or name alone, matches (any case)."""
    wanted = pattern.casefold()
    return [
        known
        for _, source in plugins.every("datasets", SOURCES)
        for known in source.cards()
        if fnmatchcase(f"{known.source}/{known.name}".casefold(), wanted)
        or fnmatchcase(known.name.casefold(), wanted)
    ]


def _module(source: str, where: str = "") -> Any:
    """Raises UserError for a source nobody offers, and for one that cannot be imported."""
    return plugins.named("datasets", SOURCES, source, where)


def _names() -> list[str]:
    return [f"{known.source}/{known.name}" for known in list_cards()]


def _parsed(name: str | Ref, where: str) -> Ref:
    if isinstance(name, Ref):
        return name
    try:
        return Ref.parse(name)
    except UserError as error:
        if name and "/" not in name:
            raise unknown(where, "dataset", name, _names()) from None
        raise UserError(f"{opening(where)}{error}") from None


__all__ = ["SOURCES", "available", "card", "list_cards", "load", "on_hub", "pin", "resolve"]
