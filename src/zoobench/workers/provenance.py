"""What a record says beside its numbers: what the cards say and what was really loaded, on what it
was computed, and why there are none."""

from __future__ import annotations

import contextlib
import platform
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoobench import __version__, datasets, machine, models
from zoobench.errors import CellError, MissingExtra, UserError, ZoobenchError
from zoobench.interfaces import Splits
from zoobench.schema import Cell, Record, Ref
from zoobench.workers.settings import Settings

if TYPE_CHECKING:
    from zoobench.features.source import Features
    from zoobench.workers.loaded import Loaded

CARDLESS = (ZoobenchError, LookupError, OSError)
"""What a card's look-up may raise where a folder or a plug-in has gone since it was planned."""


def planned(cell: Cell) -> dict[str, Any]:
    """What the cards say of a cell before anything is loaded: a failed cell's whole provenance.

    Never raises for what is not known; that is left out.
    """
    found: dict[str, Any] = {}
    with contextlib.suppress(*CARDLESS):
        card = datasets.card(cell.dataset)
        found["nature"] = card.nature
        if card.classes:
            found["classes"] = card.classes
    ref = cell.model
    if ref.source != "control":
        with contextlib.suppress(*CARDLESS):
            found["model"] = _of_card(ref)
    return found


def _of_card(ref: Ref) -> dict[str, Any]:
    card = models.card(ref)
    names = ("license", "family", "pretrained_on", "modality")
    return {name: getattr(card, name) for name in names}


def provenance(cell: Cell, splits: Splits, loaded: Loaded | None, method: Any) -> dict[str, Any]:
    """`planned`, and of what was loaded: fingerprints, sizes, weights, the fixed probe batch as
    `method` reads the model."""
    found = planned(cell) | {
        "splits": splits.fingerprints,
        "sizes": {s.name: len(s) for s in (splits.train, splits.valid, splits.test)},
        **({"classes": len(splits.classes)} if splits.classes else {}),
        "notes": dict(splits.notes),
    }
    if loaded is not None:
        source = loaded.features
        found["model"] = {
            **_of_card(loaded.ref),
            "pooling": source.pooling,
            "input_size": list(source.input_spec.size or (source.input_spec.length or 0,)),
            "preprocessing": source.input_spec.digest,
            "state": source.weights,
            "precision": source.precision_facts(trained=method.needs == "module"),
            **source.provenance,
            **source.fingerprint(),
            **_of_cells(source, method),
        }
    return found


def _of_cells(source: Features, method: Any) -> dict[str, Any]:
    """What the fixed pictures become on the way that a method of frozen maps takes."""
    if method.needs != "features" or getattr(method, "view", "embed") != "maps":
        return {}
    return source.cell_source((method.size, method.size), method.layers).fingerprint()


def precision_of(record: Record) -> str:
    """The precision that a record's times belong to: what was taken, or was asked for."""
    asked = str(record.cell.versions.get("precision", "fp32")).replace("auto", "fp32")
    return str(record.provenance.get("model", {}).get("precision", {}).get("taken", asked))


def compiled(record: Record) -> bool:
    """Whether the times of a record whose suite says `compile` are those of a compiled network."""
    return record.cell.model.source != "control" and "compile-failed" not in record.flags


def failed(cell: Cell, error: BaseException) -> Record:
    """The record of a cell that raised: its status, and a message a person can use."""
    if isinstance(error, CellError):
        status = error.status
    elif machine.out_of_memory(error):
        status = "oom"
    else:
        status = "error"
    expected = isinstance(error, (CellError, UserError, MissingExtra))
    message = str(error) or type(error).__name__
    if not expected:
        message = f"{type(error).__name__}: {message}"
    # A library's own error stays in the log, where ours says what it means in a sentence.
    foreign = error.__cause__ is not None and not isinstance(
        error.__cause__, (OSError, ZoobenchError)
    )
    detail = "" if expected and not foreign else "".join(traceback.format_exception(error))[-4000:]
    body: Mapping[str, Any] = {"message": message, **({"detail": detail} if detail else {})}
    return Record(cell, status, error=body, provenance=planned(cell))


def environment(settings: Settings, record: Record) -> dict[str, Any]:
    """The part of the environment that decides whether times of `record` may be compared."""
    import torch

    cuda = settings.device.startswith("cuda")
    return {
        "device": "cuda" if cuda else settings.device,
        "device_name": machine.device_name(settings.device),
        "threads": torch.get_num_threads(),
        "workers": settings.workers,
        **({"ranks": settings.ranks} if settings.ranks > 1 else {}),
        "precision": precision_of(record),
        **({"compiled": True} if settings.compile and compiled(record) else {}),
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # torch's own class would make the parent import torch
        "zoobench": __version__,
        **({"driver": machine.driver(), "cuda": str(torch.version.cuda)} if cuda else {}),
    }
