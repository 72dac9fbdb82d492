"""The audio model of the source `synthetic`: the squared energy of 32 chirplets, gliding pitches.

It hears whether a tone rises or falls, which the mean of a spectrum over time cannot tell: the
energy that a tone which passes leaves in a filter is the same however its pitch glides, and is
squared for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from zoobench.interfaces import InputSpec
from zoobench.models.backbones import AudioBackbone
from zoobench.models.sound_frames import masked_mean
from zoobench.views import FrameReader

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

RATE = 8000
"""Samples a second."""
TAPS, HOP = 512, 32
"""Samples of a chirplet, and from one frame to the next."""
PITCHES = tuple(range(400, 3600, 400))
SLOPES = (-6000.0, -2000.0, 2000.0, 6000.0)
"""Hz in the middle of a chirplet, and Hz a second."""


def load(random: int | None, misbehave: Callable[[], None], spoil: float) -> AudioBackbone:
    """The backbone, with filters drawn from the seed `random` where there is one; its features are
    multiplied by `spoil`, after `misbehave`."""
    reader = FrameReader(1, RATE / HOP, _frames, _states)

    def forward(module: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        misbehave()
        return masked_mean(reader, module, batch) * spoil

    return AudioBackbone(
        module=_module(random),
        input_spec=InputSpec("audio", length=2 * RATE, rate=RATE),
        pooling="mean",
        listen=_filled,
        forward=forward,
        feature_dim=len(PITCHES) * len(SLOPES),
        provenance={"weights": "synthetic" if random is None else "random", "libraries": {}},
        frames=reader,
    )


def _filled(samples: NDArray[np.float32]) -> torch.Tensor:
    """(T,) of at least the samples of a chirplet."""
    import torch

    heard = torch.from_numpy(samples)
    return torch.nn.functional.pad(heard, (0, max(0, TAPS - len(heard))))


def _frames(lengths: torch.Tensor) -> torch.Tensor:
    return (lengths.clamp(min=TAPS) - TAPS) // HOP + 1


def _states(
    module: torch.nn.Module, batch: Mapping[str, torch.Tensor], wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    """(B, F, 32), for the one layer that there is."""
    energy = module(batch["values"][:, None]).square().square().transpose(1, 2)
    return [energy for _ in wanted]


def _module(seed: int | None) -> torch.nn.Module:
    """(B, 1, T) -> (B, 32, F)."""
    import numpy as np
    import torch

    filters = torch.nn.Conv1d(1, len(PITCHES) * len(SLOPES), TAPS, stride=HOP, bias=False)
    t = (np.arange(TAPS) - TAPS / 2) / RATE
    envelope = np.exp(-((t * RATE / TAPS * 4) ** 2) / 2)
    bank = [
        envelope * np.cos(2 * math.pi * (pitch * t + slope * t**2 / 2))
        for pitch in PITCHES
        for slope in SLOPES
    ]
    weight = torch.from_numpy(np.stack(bank)[:, None].astype(np.float32) / 16)
    if seed is not None:
        drawn = torch.Generator().manual_seed(seed)
        weight = torch.randn(weight.shape, generator=drawn) * weight.std()
    with torch.no_grad():
        filters.weight.copy_(weight)
    return torch.nn.Sequential(filters).eval()
