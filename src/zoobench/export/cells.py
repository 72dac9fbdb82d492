"""Which cell of a run is meant, and the same cell where its files lie on this machine."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zoobench.errors import UserError, unknown
from zoobench.runs import suite as suites
from zoobench.runs.suite import matches
from zoobench.schema import Cell, Record, Ref
from zoobench.store import SUITE, Run

UNSAVED = {
    "knn": "it keeps all train examples and has no weights: save the linear-probe",
    "as-is": "it is the published model itself: use it as its source says",
    "raw-input": "it is a control, which has no model",
    "chance": "it is a control, which has no model",
    "majority": "it is a control, which has no model",
    "mean": "it is a control, which has no model",
}
"""Methods of which no model can be saved, and why."""


@dataclass(frozen=True)
class CellPattern:
    """What the user named: globs as in `--only`, and the beginning of a key; "" is anything."""

    model: str = ""
    dataset: str = ""
    method: str = ""
    cell: str = ""

    @classmethod
    def exactly(cls, model: Ref, method: str) -> CellPattern:
        return cls(model=glob.escape(model.short), method=method)


def chosen(run: Run, wanted: CellPattern) -> Record:
    """The one record that is meant; of several that differ in seed, shots or how much of the data
    they took, the first seed on most data, and of a variant's two heads the carried one.

    Raises UserError where none is, or where they differ in anything else.
    """
    if wanted.method in UNSAVED:
        raise UserError(f"--method: no model of {wanted.method} is saved: {UNSAVED[wanted.method]}")
    records = [r for r in run.records if r.cell.model.source != "control"]
    records = [r for r in records if r.cell.model.option("weights") != "random"]
    if not records:
        raise UserError(f"{run.path}: no record of a model with trained weights is in it")
    records = _named(records, "--model", wanted.model, lambda cell: cell.model)
    records = _named(records, "--dataset", wanted.dataset, lambda cell: cell.dataset)
    ok = [r for r in records if r.status == "ok"]
    if not ok:
        said = (records[0].error or {}).get("message", "")
        raise UserError(f"{records[0].cell.label}: {records[0].status}: {said}: nothing to save")
    if wanted.cell:
        ok = [r for r in ok if r.key.startswith(wanted.cell)]
        if len(ok) != 1:
            raise UserError(f"--cell: {len(ok)} records here have a key that begins with that")
        return ok[0]
    saved = [r for r in ok if r.cell.method not in UNSAVED]
    if not saved:
        tried = sorted({r.cell.method for r in ok})
        why = UNSAVED[tried[0]]
        raise UserError(f"{ok[0].cell.label}: no model of {tried[0]} is saved: {why}")
    known = sorted({r.cell.method for r in saved})
    if wanted.method:
        saved = [r for r in saved if r.cell.method == wanted.method]
        if not saved:
            raise unknown("--method", "method", wanted.method, known, "of this model here")
    _only_one("--method", known if not wanted.method else known[:1])
    return _first(saved)


def _named(
    records: Sequence[Record], option: str, pattern: str, part: Callable[[Cell], Ref]
) -> list[Record]:
    """The records whose model or dataset matches; one name must be left."""
    named = [r for r in records if not pattern or matches(part(r.cell), pattern)]
    if not named:
        known = {part(r.cell).short for r in records}
        raise unknown(option, option.removeprefix("--"), pattern, known)
    # Datasets with other bounds are one: most of the data is what is meant.
    name = "id" if option == "--dataset" else "short"
    _only_one(option, sorted({getattr(part(r.cell), name) for r in named}))
    return named


def _only_one(option: str, names: Sequence[str]) -> None:
    if len(names) > 1:
        shown = ", ".join(names[:12]) + ", ..." * (len(names) > 12)
        raise UserError(f"{option}: say which of {len(names)}: {shown}")


def _first(records: Iterable[Record]) -> Record:
    """By most train examples, all of the data before shots, the carried head, then the seed."""

    def place(record: Record) -> tuple[bool, int, bool, int]:
        train = told(record, "sizes").get("train")
        many = train if isinstance(train, int) else 0
        anew = bool(record.cell.params.get("head") == "anew")
        return record.cell.shots is not None, -many, anew, record.cell.seed

    ordered = sorted(records, key=place)
    level = [r for r in ordered if place(r) == place(ordered[0])]
    if len(level) > 1:
        keys = ", ".join(f"{r.key} ({_params(r)})" for r in level[:6])
        raise UserError(f"--cell: say which of {len(level)} by the beginning of its key: {keys}")
    return ordered[0]


def told(record: Record, name: str) -> Mapping[str, Any]:
    """A table of the record's provenance, which is a stranger's; {} where it is none."""
    found = record.provenance.get(name)
    return found if isinstance(found, Mapping) else {}


def _params(record: Record) -> str:
    return " ".join(f"{name}={value}" for name, value in record.cell.params.items())


def located(run: Run, cell: Cell) -> Cell:
    """`cell` with the paths that the run's suite.toml has and records leave out.

    Raises UserError where data or model are no longer what they were there.
    """
    if not _is_local(cell.model) and not _is_local(cell.dataset):
        return cell
    if not run.suite:
        raise UserError(f"{run.path}: no {SUITE} here says where the files of {cell.label} lie")
    spec = suites.read(str(run.path / SUITE))
    model, dataset = _placed(cell.model, spec.models), _placed(cell.dataset, spec.datasets)
    return replace(cell, model=model, dataset=dataset)


def _is_local(ref: Ref) -> bool:
    """Whether records leave out where the files of `ref` lie."""
    weights = ref.option("weights", "pretrained")
    named = weights not in ("pretrained", "random") or ref.option("configuration") is not None
    return named or ref.source in ("folder", "table", "saved", "onnx")


def _placed(ref: Ref, known: Iterable[Ref]) -> Ref:
    """The one of `known` that stands in records as `ref`, with the options that `ref` has more."""
    if not _is_local(ref):
        return ref
    for one in known:
        more = {k: v for k, v in ref.options if k not in dict(one.private.options)}
        if one.private.with_options(**more) == ref:
            return one.with_options(**more)
    raise UserError(f"{ref.short}: what lies there now is not what the run was given")
