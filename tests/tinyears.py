"""A tiny backbone that hears: the energies of a bank of tones, for tests of what reads frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from zoobench.audio import Clip
from zoobench.datasets.synthetic_speech import LETTERS, RATE
from zoobench.interfaces import InputSpec
from zoobench.views import FrameReader

FRAME, HOP, BANDS = 160, 80, 2 * len(LETTERS)
SPEC = InputSpec("audio", length=10 * RATE, rate=RATE)


class Ears(torch.nn.Module):
    """(B, T) samples -> (B, F, BANDS) log energies, the second layer; the first hears nothing."""

    def __init__(self, deaf: bool = False) -> None:
        super().__init__()
        pitches = [300 + 350 * (k // 2) for k in range(BANDS)]
        grid = np.arange(FRAME) / RATE
        waves = [(np.sin, np.cos)[k % 2](2 * np.pi * p * grid) for k, p in enumerate(pitches)]
        self.bank = torch.nn.Conv1d(1, BANDS, FRAME, HOP, bias=False)
        tuned = torch.from_numpy(np.stack(waves).astype(np.float32))[:, None]
        with torch.no_grad():
            self.bank.weight.copy_(torch.ones_like(tuned) if deaf else tuned)

    def forward(self, samples: torch.Tensor) -> list[torch.Tensor]:
        energy = self.bank(samples[:, None]).transpose(1, 2)
        heard = (energy.unflatten(2, (-1, 2)).square().sum(dim=3) + 1e-2).log()
        last = torch.cat([heard, heard.square()], dim=2)
        return [torch.zeros_like(last), last]


@dataclass
class TinyEars:
    """A Backbone over Ears, which reads at most ten seconds."""

    module: torch.nn.Module = field(default_factory=Ears)
    input_spec: InputSpec = SPEC
    feature_dim: int = BANDS
    pooling: str = "mean"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, raw: Clip) -> dict[str, Any]:
        samples = torch.from_numpy(raw.at(RATE)[: self.input_spec.length])
        filled = torch.nn.functional.pad(samples, (0, max(0, FRAME - len(samples))))
        return {"values": filled, "length": len(samples)}

    def collate(self, prepared: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        values = torch.nn.utils.rnn.pad_sequence([one["values"] for one in prepared], True)
        return {"values": values, "lengths": torch.tensor([one["length"] for one in prepared])}

    def embed(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        (states,) = _read(self.module, batch, [2])
        counts = _frames(batch["lengths"])
        return torch.stack([one[:many].mean(0) for one, many in zip(states, counts, strict=True)])

    def frame_reader(self) -> FrameReader:
        return FrameReader(2, RATE / HOP, _frames, _read)


def _frames(lengths: torch.Tensor) -> torch.Tensor:
    return (lengths.clamp(min=FRAME) - FRAME) // HOP + 1


def _read(
    module: torch.nn.Module, batch: Mapping[str, torch.Tensor], wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    layers = module(batch["values"])
    return [layers[one - 1] for one in wanted]
