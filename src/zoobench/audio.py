"""Recordings: read from files by libsndfile, mixed to one channel, and resampled.

T samples. soundfile and scipy are imported where they are used.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import BadData, missing_extra

RATES = (1_000, 768_000)
"""Least and greatest sampling rate that is read, in samples a second."""
LONGEST = 3600.0
"""Seconds. A compressed file of a few kilobytes can hold days of silence."""
FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64")
"""libsndfile's readers that a stranger's file may meet."""
WINDOW = ("kaiser", 5.0)
"""Of the low pass: scipy's, 20 max(up, down) + 1 taps, which cuts at the lower of the two rates."""


@dataclass(frozen=True)
class Clip:
    """A recording: `samples` (T,) float32, the mean of its channels, about -1 to 1, T at least 1,
    at `rate` samples a second."""

    samples: NDArray[np.float32] = field(repr=False)
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def at(self, rate: int) -> NDArray[np.float32]:
        """The samples at another rate: ceil(T rate / own rate) of them, by a polyphase filter."""
        if rate == self.rate:
            return self.samples
        from scipy import signal

        shared = gcd(rate, self.rate)
        up, down = rate // shared, self.rate // shared
        made = signal.resample_poly(self.samples, up, down, window=WINDOW)
        return np.asarray(made, dtype=np.float32)


def library() -> Any:
    """The module soundfile. Raises MissingExtra."""
    try:
        import soundfile
    except ImportError as error:
        raise missing_extra("soundfile", "sound", "reading sound") from error
    return soundfile


def decode(file: str | bytes) -> Clip:
    """The recording in a file, or in the bytes of one. Raises BadData for what is none, is empty,
    breaks off, is too long or holds what is no number; MissingExtra without soundfile."""
    sf = library()
    try:
        with sf.SoundFile(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
            if opened.format not in FORMATS:
                raise BadData(f"it is {opened.format_info}; known: {', '.join(FORMATS)}")
            rate, frames = int(opened.samplerate), int(opened.frames)
            if not RATES[0] <= rate <= RATES[1]:
                raise BadData(f"its sampling rate is {rate}, not {RATES[0]} to {RATES[1]}")
            if frames > LONGEST * rate:
                raise BadData(f"it is {frames / rate:.0f} s long, more than {LONGEST:.0f}")
            samples = opened.read(frames, dtype="float32", always_2d=True)
    except sf.LibsndfileError as error:
        raise BadData(f"it is no recording that can be read: {error.error_string}") from None
    if len(samples) < frames:
        raise BadData(f"it breaks off after {len(samples)} of {frames} samples")
    if not len(samples):
        raise BadData("it is empty: it has no samples")
    if not np.isfinite(samples).all():
        raise BadData("some of its samples are no numbers")
    return Clip(samples.mean(axis=1, dtype=np.float32), rate)
