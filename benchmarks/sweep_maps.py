"""Which architectures have maps, at which sizes: one of each kind, with random weights.

    python benchmarks/sweep_maps.py [timm] [torchvision] [--most-params 140]

The smallest of each of timm's files (a file implements one kind of networks), by results/costs, and
of each of torchvision's classes. Each is asked for maps at its own size and at 256 x 320, which is
another and not square. There one quarter of the input is changed, in two corners, and the last map
is to change in the same ones. Written to results/maps/*.csv.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoobench.errors import ZoobenchError, one_line
from zoobench.interfaces import InputSpec
from zoobench.models import timm_maps, torchvision_maps
from zoobench.models.backbones import seeded
from zoobench.models.dense import dense
from zoobench.views import MapReader

ROOT = Path(__file__).parent.parent / "results"
OTHER = (256, 320)
COLUMNS = ("architecture", "kind", "own size", "strides", "channels", "last layer", "at own size",
           "at 256 x 320", "padded to", "corner")  # fmt: skip


def kinds(source: str) -> dict[str, str]:
    """Architecture -> the file or the class that implements it."""
    if source == "timm":
        from timm.models._registry import _model_to_module  # the only place that tells it

        return {k: v for k, v in _model_to_module.items() if not k.startswith("test_")}
    import torchvision.models as zoo

    return {name: zoo.get_model_builder(name).__module__.rpartition(".")[2]
            for name in zoo.list_models(module=zoo)}  # fmt: skip


def smallest(source: str, most: float) -> Iterator[tuple[str, str]]:
    """(architecture, kind): of each kind the one with the fewest parameters."""
    with (ROOT / "costs" / f"{source}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    params = {row["model"]: float(row["params"] or "inf") for row in rows}
    by_kind: dict[str, list[tuple[float, str]]] = {}
    for name, kind in kinds(source).items():
        by_kind.setdefault(kind, []).append((params.get(name, float("inf")), name))
    for kind, found in sorted(by_kind.items()):
        count, name = min(found)
        if count <= most * 1e6:
            yield name, kind


@dataclass(frozen=True)
class Bare:
    """As much of a backbone as `dense` asks of one; its colours are those of the pixels."""

    module: torch.nn.Module
    input_spec: InputSpec
    map_reader: Callable[[tuple[int, int]], MapReader]

    def prepare(self, raw: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(raw, dtype=np.float32).transpose(2, 0, 1))


def bare(source: str, name: str) -> Any:
    """The architecture with random weights, as its source makes it."""
    if source == "timm":
        import timm

        module = timm.create_model(name, num_classes=0).eval()
        size, reader = module.pretrained_cfg["input_size"], timm_maps.reader
    else:
        import torchvision.models as zoo

        quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        module = zoo.get_model(name, weights=None, **quick).eval()
        side = zoo.get_model_weights(name).DEFAULT.transforms().crop_size[0]
        size, reader = (3, side, side), torchvision_maps.reader
    return Bare(module, InputSpec("image", tuple(size)), partial(reader, module))


def look(source: str, name: str, kind: str) -> dict[str, Any]:
    """One row of the table."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {"architecture": name, "kind": kind}
    with seeded(0):
        backbone = bare(source, name)
    own = backbone.input_spec.size[1:]
    row["own size"] = "{} x {}".format(*own)
    view: Any = None
    for column, size in (("at own size", own), ("at 256 x 320", OTHER)):
        try:
            view = dense(backbone, size)
            row[column] = "works"
            if size == OTHER:
                row["padded to"] = "{} x {}".format(*view.input_size)
        except ZoobenchError as error:
            row[column] = f"unsupported: {one_line(error)}"
    if view is not None:
        row["strides"] = " ".join(str(spec.stride) for spec in view.specs)
        row["channels"] = " ".join(str(spec.channels) for spec in view.specs)
        row["last layer"] = view.specs[-1].tap
        row["corner"] = corners(view)
    return row


def corners(view: Any) -> str:
    """Whether what changes of the last map lies above and to the right of the rest where the top
    right of the input is changed, and not its bottom left: nothing is turned or mirrored."""
    height, width = view.input_size
    with seeded(0):
        base = torch.randn(1, 3, height, width)
    changed = ((0, 1), (1, 0))
    batch = [base]
    for row, column in changed:
        other = base.clone()
        top, left = row * height // 2, column * width // 2
        other[..., top : top + height // 2, left : left + width // 2] *= -1
        batch.append(other)
    with torch.no_grad():
        last = view.last().maps(torch.cat(batch))[0]
    change = (last[1:] - last[:1]).square().sum(1)
    down, across = (change.sum(axis) / change.sum((1, 2))[:, None] for axis in (2, 1))
    y, x = ((share * torch.arange(share.shape[1])).sum(1) for share in (down, across))
    return "right" if y[0] < y[1] and x[0] > x[1] else "not told"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sources", nargs="*", default=["torchvision", "timm"])
    parser.add_argument("--kinds", help="first and last of them, as in a-f")
    parser.add_argument("--most-params", type=float, default=140, help="millions")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    for source in asked.sources:
        path = ROOT / "maps" / f"{source}{asked.kinds or ''}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for name, kind in smallest(source, asked.most_params):
                if asked.kinds and not asked.kinds[0] <= kind[0] <= asked.kinds[-1]:
                    continue
                row = look(source, name, kind)
                writer.writerow(row)
                file.flush()
                print(*(row[column] for column in COLUMNS), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
