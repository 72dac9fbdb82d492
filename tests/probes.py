"""A feature source that is a table, for the frozen methods' tests."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from zoobench.interfaces import Split, Splits
from zoobench.tasks.classification import Labels


@dataclass
class Table:
    """Features by split name; `read` lists the splits that were asked for."""

    values: dict[str, torch.Tensor]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    read: list[str] = field(default_factory=list)

    def features(self, split: Split) -> torch.Tensor:
        self.read.append(split.name)
        return self.values[split.name]


def split_of(name: str, labels: NDArray[np.int64]) -> Split:
    return Split(name, tuple(f"{name}{i}" for i in range(len(labels))), Labels(labels), lambda i: i)


def world(
    train: int = 120, valid: int = 40, test: int = 60, classes: int = 4, dims: int = 8,
    missing: int | None = None, informative: bool = True,
) -> tuple[Table, Splits]:  # fmt: skip
    """Gaussian classes; class `missing` has no train example."""
    rng = np.random.default_rng(0)
    centres = 2.5 * rng.standard_normal((classes, dims)) * informative
    splits, values = {}, {}
    for name, n in (("train", train), ("valid", valid), ("test", test)):
        labels = np.arange(n, dtype=np.int64) % classes
        if name == "train" and missing is not None:
            labels[labels == missing] = (missing + 1) % classes
        x = centres[labels] + rng.standard_normal((n, dims))
        splits[name] = split_of(name, labels)
        values[name] = torch.from_numpy(x.astype(np.float32))
    names = tuple(f"class{c}" for c in range(classes))
    found = Splits(splits["train"], splits["valid"], splits["test"], names, "image")
    return Table(values), found
