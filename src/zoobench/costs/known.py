"""What was counted before: the packed tables of results/costs, read without torch."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zoobench.schema import ModelCard

SOURCES = ("timm", "torchvision", "packaged")
OTHER_HEADS = frozenset(
    {
        "tiny_vit_11m_224", "tiny_vit_21m_224", "tiny_vit_5m_224", "vit_base_patch16_224_miil",
        "vit_so400m_patch14_siglip_378", "vit_so400m_patch14_siglip_gap_378",
    }
)  # fmt: skip
"""timm networks with ImageNet-1k weights, counted with the other head of their default weights."""


@dataclass(frozen=True)
class Counted:
    """One row: the network at `input` ("1x3x224x224"); `lower_bound` where an operator had no
    formula. Counts are of one forward pass of one example (PROTOCOL section 4)."""

    input: str
    params: int
    macs: int
    lower_bound: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(int, self.input.split("x")))


def network(source: str, architecture: str) -> Counted | None:
    """The row of a network, as counted at its default weights' size; None where there is none."""
    return _table(source).get(architecture) if source in SOURCES else None


def counted(card: ModelCard) -> Counted | None:
    """The row of a model's network, None where the tables hold none that is its own.

    A table has a row an architecture, counted at the size and with the head of its default
    weights. Other weights of it share the row where both are the same: an equal input size
    and ImageNet-1k's 1,000 classes, as their tag says.
    """
    extra = dict(card.extra)
    row = network(card.source, str(extra.get("architecture", card.name)))
    if row is None or card.source != "timm" or extra.get("default"):
        return row
    if extra.get("architecture") in OTHER_HEADS:
        return None
    same = row.input.endswith(f"x{extra.get('input_size')}") and card.name.endswith("in1k")
    return row if same else None


def path_of(source: str) -> Path:
    """Where a table lies: inside the installed package, or results/costs of a checkout."""
    packed = Path(__file__).parents[1] / "costs" / f"{source}.csv"
    return packed if packed.exists() else Path(__file__).parents[3] / f"results/costs/{source}.csv"


@cache
def _table(source: str) -> dict[str, Counted]:
    with path_of(source).open(newline="", encoding="utf-8") as file:
        return {
            line["model"]: Counted(
                line["input"],
                int(line["params"]),
                int(line["macs"]),
                line["lower_bound"] == "true",
            )
            for line in csv.DictReader(file)
            if not line["error"]
        }
