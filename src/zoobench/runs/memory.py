"""Input sizes that no memory here holds are refused before any work (PROTOCOL section 4)."""

from __future__ import annotations

from collections.abc import Sequence

from zoobench import methods, models
from zoobench.costs import fresh_process
from zoobench.errors import UserError
from zoobench.schema import PRETRAIN, Cell, Ref

LARGE = {"input_size": 1024, "length": 2048}
"""From where on a size that was asked for is looked at: below it no network fills a machine, and
counting takes seconds."""

SECONDS = 120.0
"""Longest that counting one model may take."""


def check(cells: Sequence[Cell], device: str, share: int) -> None:
    """Raises UserError for the first model whose single example would not fit.

    `share` is what a worker may take of the machine's memory, in bytes; a card has its own. The
    prediction is a lower bound, counted without weights in a process of its own; a model for
    which that fails is let through, and ends as `oom` if it must.
    """
    asked = {cell.model: False for cell in cells if _large(cell.model)}
    for cell in cells:
        if cell.method == PRETRAIN:
            continue
        if cell.model in asked and methods.method_class(cell.method).needs == "module":
            asked[cell.model] = True
    for ref, trains in asked.items():
        holder, most = ("a worker", share) if device == "cpu" else (device, _memory_of(device))
        wanted = predicted(ref, trains)
        if wanted is not None and wanted > most:
            name = next(name for name in LARGE if ref.option(name) is not None)
            what = "training on one example" if trains else "one example"
            raise UserError(
                f"{ref.short}: {what} would take at least {wanted / 1e9:.3g} GB, and {holder} here "
                f"has {most / 1e9:.3g} GB: choose a smaller {name}"
            )


def _memory_of(device: str) -> int:
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory)


def _large(ref: Ref) -> bool:
    sizes = ((ref.option(name), least) for name, least in LARGE.items())
    return any(isinstance(size, int) and size >= least for size, least in sizes)


def predicted(ref: Ref, trains: bool) -> int | None:
    """Bytes that one example takes, weights included; None where nobody can say (yet)."""
    built = ref.source in ("timm", "torchvision") and "/" not in ref.name
    if not built and not models.available(ref)[0]:
        return None  # its configuration would be fetched
    try:
        arguments = {"ref": str(ref), "train": trains}
        return int(fresh_process.call("zoobench.costs.memory:needed", arguments, SECONDS))
    except UserError:
        return None
