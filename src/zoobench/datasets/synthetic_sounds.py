"""Tones that glide, for the source `synthetic`: how fast the pitch rises or falls is the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoobench.audio import Clip

RATE = 8000
"""Samples a second."""
STEEPEST = 6000.0
"""Hz a second, up and down."""


@dataclass(frozen=True)
class Tones:
    """Reads recording i: a quarter of a second of a gliding tone, in noise."""

    seed: int
    slopes: tuple[int, ...]
    classes: int
    noise: float

    def __call__(self, i: int) -> Clip:
        rng = np.random.default_rng([self.seed, i])
        samples = int(rng.integers(RATE // 5, RATE // 3))
        t = (np.arange(samples) - samples / 2) / RATE
        slope = STEEPEST * (2 * self.slopes[i] / (self.classes - 1) - 1)
        pitch, phase = rng.uniform(1600, 2200), rng.uniform(0, 2 * np.pi)
        tone = 0.3 * np.sin(2 * np.pi * (pitch * t + slope * t**2 / 2) + phase)
        noise = 3e-4 * self.noise * rng.standard_normal(samples)
        return Clip((tone + noise).astype(np.float32), RATE)
