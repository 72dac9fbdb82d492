"""A model whose evidence is planted in a corner of its pictures, for the tests of explanations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from probes import split_of
from zoobench.interfaces import Splits
from zoobench.methods.head import AffineHead

SIDE, C = 64, 2


def picture(i: int) -> torch.Tensor:
    """Noise, and in the corner stripes as strong, down or across: the class."""
    rng = torch.Generator().manual_seed(i)
    made = 1.4 * torch.randn(1, SIDE, SIDE, generator=rng)
    wave = torch.sin(torch.arange(16) * 1.5)
    made[0, :16, :16] = 2 * (wave[None, :] if i % C else wave[:, None]).expand(16, 16)
    return made


@dataclass
class Corner:
    """Sees the corner alone, by templates that are its weights; or nothing at all."""

    blind: bool = False
    module: torch.nn.Linear = field(default_factory=lambda: torch.nn.Linear(SIDE * SIDE, C))
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        wave = torch.sin(torch.arange(16) * 1.5)
        weight = torch.zeros(C, SIDE, SIDE)
        if not self.blind:
            weight[0, :16, :16] = 0.05 * wave[:, None]
            weight[1, :16, :16] = 0.05 * wave[None, :]
        with torch.no_grad():
            self.module.weight.copy_(weight.flatten(1))
            self.module.bias.zero_()

    def copy(self) -> Corner:
        return Corner(self.blind)

    def prepare(self, raw: Any) -> torch.Tensor:
        return picture(raw)

    def collate(self, prepared: Any) -> torch.Tensor:
        return torch.stack(prepared)

    def embed(self, batch: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.module(batch.flatten(1))
        return found


@dataclass
class Probe:
    """An Adapted with a head that leaves the features as they are."""

    def head(self) -> AffineHead:
        return AffineHead(torch.eye(C, dtype=torch.float64), torch.zeros(C, dtype=torch.float64))


def splits() -> Splits:
    parts = [split_of(name, np.arange(20) % C) for name in ("train", "valid", "test")]
    return Splits(parts[0], parts[1], parts[2], ("down", "across"), "image")
