"""What is published of models before anyone has tried them: timm's own result tables.

The table lies beside this module, packed by benchmarks/pack_priors.py from
huggingface/pytorch-image-models, folder results/, commit aa4b5850c154 (Apache-2.0).
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zoobench.models.catalog import PACKAGED
from zoobench.schema import ModelCard

FILE = Path(__file__).parent / "published.csv.gz"

TESTS = ("imagenet", "real", "v2", "sketch", "a", "r")
"""ImageNet's validation set, ReaL labels, V2 matched-frequency, Sketch, -A and -R."""


@dataclass(frozen=True)
class Prior:
    """`params` and `macs` of one example are counts, None where unknown; `top1` in [0, 1]."""

    name: str
    params: float | None
    macs: float | None
    license: str
    top1: Mapping[str, float]

    @property
    def score(self) -> float:
        """Mean top-1 over the test sets it has: the static ranker."""
        return sum(self.top1.values()) / len(self.top1)


@lru_cache(maxsize=1)
def published() -> Mapping[str, Prior]:
    """timm name, tag and all -> what was published of it."""
    text = gzip.decompress(FILE.read_bytes()).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {row["model"]: _prior(row) for row in csv.DictReader(lines)}


def _prior(row: Mapping[str, str]) -> Prior:
    return Prior(
        row["model"],
        float(row["params"]) * 1e6 if row["params"] else None,
        float(row["gmacs"]) * 1e9 if row["gmacs"] else None,
        row["license"],
        {test: float(row[test]) / 100 for test in TESTS if row[test]},
    )


def prior_of(card: ModelCard) -> Prior | None:
    """The published results of these very weights, where they are in the table."""
    if card.source == "timm":
        return published().get(card.name)
    for entry in PACKAGED:
        if entry.card.id == card.id and entry.architecture:
            return published().get(f"{entry.architecture}.in1k")
    return None
