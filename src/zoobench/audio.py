"""Recordings: read from files by libsndfile, mixed to one channel, and resampled.

T samples. soundfile and scipy are imported where they are used.
"""

from __future__ import annotations

import io
import re
import threading
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import BadData, missing_extra

VERSION = 1
"""Counts changes of what is read from a file."""
RATES = (1_000, 768_000)
"""Least and greatest sampling rate that is read, in samples a second."""
LONGEST = 3600.0
"""Seconds. A compressed file of a few kilobytes can hold days of silence."""
MOST = 2**28
"""Samples of one channel: a gigabyte of memory."""
BLOCK = 2**16
"""Samples that are read at once: a file may have any number of channels."""
WHOLE = 0.99
"""Share of what a header tells of that must be there: some count a padding byte or a trailer."""
UNKNOWN = 0x7FFF0000
"""A header's size from here on was written before anybody knew it, by a program in a pipe."""
_SAID = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.M)
"""How libsndfile notes bytes that a header tells of and that are not there."""
FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64")
"""libsndfile's readers that a stranger's file may meet."""
PAGE = 27 + 255 + 255 * 255
"""Bytes of the longest page of an OGG (RFC 3533, section 6): head, lengths, and what they count."""
WINDOW = ("kaiser", 5.0)
"""Of the low pass: scipy's, 20 max(up, down) + 1 taps, which cuts at the lower of the two rates."""
_OPENING = threading.Lock()
"""Why a file could not be opened is kept by libsndfile in one place for all threads."""


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


class _Bytes(io.BytesIO):
    """A file in memory. A damaged header may send libsndfile to before its beginning."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return super().seek(offset if whence else max(offset, 0), whence)


def library() -> Any:
    """The module soundfile. Raises MissingExtra."""
    try:
        import soundfile
    except ImportError as error:
        raise missing_extra("soundfile", "sound", "reading sound") from error
    return soundfile


def decode(file: str | bytes) -> Clip:
    """The recording in a file, or in the bytes of one. Raises BadData for what is none, is empty,
    breaks off, is too long or holds what is no number; MissingExtra without soundfile.
    """
    sf = library()
    try:
        with _OPENING:
            found = sf.SoundFile(_Bytes(file) if isinstance(file, bytes) else file)
        with found as opened:
            rate, frames = _checked(opened)
            if opened.format == "OGG" and not _ended(file):
                raise BadData("it breaks off: its last page does not end its stream")
            samples = _mixed(opened, frames)
    except sf.LibsndfileError as error:
        raise BadData(f"it is no recording that can be read: {error.error_string}") from None
    if not len(samples):
        raise BadData("it is empty: it has no samples")
    if not np.isfinite(samples).all():
        raise BadData("some of its samples are no numbers")
    return Clip(samples, rate)


def _checked(opened: Any) -> tuple[int, int]:
    """(rate, samples) of an opened file. Raises BadData for what is not read, or breaks off."""
    if opened.format not in FORMATS:
        raise BadData(f"it is {opened.format_info}; known: {', '.join(FORMATS)}")
    rate, frames = int(opened.samplerate), int(opened.frames)
    if not RATES[0] <= rate <= RATES[1]:
        raise BadData(f"its sampling rate is {rate}, not {RATES[0]} to {RATES[1]}")
    most = min(LONGEST, MOST / rate)
    if frames > most * rate:
        raise BadData(f"it is {frames / rate:.0f} s long, more than {most:.0f}")
    for said, there in _SAID.findall(opened.extra_info):
        if int(there) < WHOLE * int(said) and int(said) < UNKNOWN:
            raise BadData(f"it breaks off: {there} of {said} bytes are there")
    return rate, frames


def _ended(file: str | bytes) -> bool:
    """Whether the last page of an OGG is whole, and says that it is its stream's last: libsndfile
    takes the pages that are there for a shorter recording."""
    if isinstance(file, str):
        with open(file, "rb") as opened:
            opened.seek(max(0, opened.seek(0, io.SEEK_END) - 2 * PAGE))
            file = opened.read()
    page = file[max(0, file.rfind(b"OggS\0")) :]
    count = page[26] if len(page) > 26 else 255
    return len(page) >= 27 + count + sum(page[27 : 27 + count]) and bool(page[5] & 0x04)


def _mixed(opened: Any, frames: int) -> NDArray[np.float32]:
    """(T,) the mean of the channels of a file that has `frames`. Raises BadData for fewer."""
    samples = np.empty(frames, dtype=np.float32)
    done = 0
    while done < frames:
        block = opened.read(min(BLOCK, frames - done), dtype="float32", always_2d=True)
        if not len(block):
            break
        samples[done : done + len(block)] = block.mean(axis=1)
        done += len(block)
    # An MP3 of constant bit rate need not tell its length: it is then guessed from the file's size.
    guessed = opened.format == "MP3" and "constant" in opened.extra_info
    if done < (0.9 if guessed else WHOLE) * frames:
        raise BadData(f"it breaks off after {done} of {frames} samples")
    return samples[:done]
