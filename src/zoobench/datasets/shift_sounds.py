"""Recordings spoilt as microphones, lines and rooms spoil them, at five severities.

Nothing depends on a recording's level or length but where it says so; the rate stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoobench.audio import Clip

Samples = NDArray[np.float64]

HEARD = 8000.0
"""Hz that networks hear at most: half of the rate of nearly all of them."""


def corrupt(clip: Clip, kind: str, severity: int, rng: np.random.Generator) -> Clip:
    """A recording spoilt by one of `SOUNDS`."""
    one = SOUNDS[kind]
    x = clip.samples.astype(np.float64)
    spoilt = one.spoil(x, one.strengths[severity - 1], clip.rate, rng)
    return Clip(spoilt.astype(np.float32), clip.rate)


def white_noise(x: Samples, c: float, rate: int, rng: np.random.Generator) -> Samples:
    """White noise, of which what lies below HEARD lies c dB below the recording's mean power: as
    much of it is heard at any rate; none where the recording is silent."""
    below = min(1.0, 2 * HEARD / rate)
    deviation = np.sqrt(np.mean(np.square(x)) * 10 ** (-c / 10) / below)
    return np.asarray(x + rng.normal(0.0, 1.0, x.shape) * deviation)


def band_limit(x: Samples, c: float, rate: int, rng: np.random.Generator) -> Samples:
    """A low pass at c Hz, Butterworth's of order 4 forth and back, so that nothing is late; the
    recording as it is where its rate holds no more."""
    from scipy import signal

    if c >= rate / 2:
        return x
    low_pass = signal.butter(4, c, fs=rate, output="sos")
    return np.asarray(signal.sosfiltfilt(low_pass, x, padlen=min(len(x) - 1, 24)))


def clipping(x: Samples, c: float, rate: int, rng: np.random.Generator) -> Samples:
    """Cut at c times the root of the mean square, digital silence apart."""
    sound = x[x != 0]
    most = c * float(np.sqrt(np.mean(np.square(sound)))) if len(sound) else 0.0
    return np.clip(x, -most, most)


def quiet(x: Samples, c: float, rate: int, rng: np.random.Generator) -> Samples:
    """c dB quieter, then rounded to the steps of 16 bits, which were fine enough before."""
    return np.asarray(np.rint(x * 10 ** (-c / 20) * 2**15) / 2**15)


@dataclass(frozen=True)
class SoundCorruption:
    """A formula, and its strengths at severities 1 to 5."""

    spoil: Callable[[Samples, float, int, np.random.Generator], Samples]
    strengths: tuple[float, ...]


SOUNDS: Mapping[str, SoundCorruption] = {
    "white_noise": SoundCorruption(white_noise, (30, 20, 10, 5, 0)),
    "band_limit": SoundCorruption(band_limit, (4000, 3000, 2000, 1500, 1000)),
    "clipping": SoundCorruption(clipping, (2.0, 1.5, 1.0, 0.6, 0.3)),
    "quiet": SoundCorruption(quiet, (6, 12, 24, 36, 48)),
}
