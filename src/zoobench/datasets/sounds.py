"""Recordings of files and columns: which files are some, and the check that each can be decoded."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from zoobench import audio
from zoobench.datasets import regular
from zoobench.errors import BadData, MissingExtra

SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"))
"""File names (in lower case) that a folder's recordings end with."""

MARKS = (
    # (where, what stands there, what it then is)
    (8, b"WAVE", "WAV"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"ID3", "MP3"),
    (8, b"AIFF", "AIFF"),
    (8, b"AIFC", "AIFF"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, b"riff\x2e\x91\xcf\x11", "W64"),
)
"""What the beginning of a file says that it is."""

_LOOK = struct.Struct("<16sII?")
LOOK = _LOOK.size
"""Bytes of a recording's `look`."""


def decode(source: bytes | str) -> audio.Clip:
    """A file, or its content: the one way in which any reader gets a recording.

    Raises BadData, which names the file, where it cannot be decoded.
    """
    try:
        return _decoded(source)
    except BadData as error:
        name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
        raise BadData(f"{name}: not a recording that can be decoded: {error}") from error


def look(source: bytes | str) -> tuple[bytes, str]:
    """What a recording holds, in `LOOK` bytes; else b"" and why it cannot be decoded.

    A digest of its rate and samples (16 bytes), its samples and its rate, and whether all samples
    are zero. Raises MissingExtra without soundfile.
    """
    try:
        clip = _decoded(source)
    except (MemoryError, MissingExtra):
        raise
    except BadData as error:
        return b"", str(error)
    exact = hashlib.sha256(f"{clip.rate} ".encode())
    exact.update(clip.samples.data)
    silent = not clip.samples.any()
    return _LOOK.pack(exact.digest()[:16], len(clip.samples), clip.rate, silent), ""


def kind(head: bytes) -> str:
    """What the first bytes of a file say that it is; "" where they do not say a recording."""
    if head[:1] == b"\xff" and head[1:2] in b"\xfa\xfb\xf2\xf3\xe2\xe3" and len(head) > 1:
        return "MP3"
    return next((name for where, mark, name in MARKS if head[where:].startswith(mark)), "")


def notes(looks: Iterable[bytes]) -> dict[str, Any]:
    """For the record: how long the recordings of some `look`s are, at which rates, and how many of
    them are silent; nothing where there are none."""
    held = [_LOOK.unpack(one) for one in looks]
    if not held:
        return {}
    seconds = np.asarray([samples / rate for _, samples, rate, _ in held])
    rates = Counter(rate for _, _, rate, _ in held)
    told: dict[str, Any] = {
        "sound_hours": round(float(seconds.sum()) / 3600, 4),
        "sound_seconds": {
            name: round(float(np.quantile(seconds, share)), 3)
            for name, share in (("least", 0.0), ("median", 0.5), ("most", 1.0))
        },
        "sound_rates": {str(rate): rates[rate] for rate in sorted(rates)},
    }
    if silent := sum(quiet for *_, quiet in held):
        told["silent"] = silent
    return told


def _decoded(source: bytes | str) -> audio.Clip:
    try:
        content = source if isinstance(source, bytes) else regular.read(source)
    except OSError as error:
        raise BadData(f"cannot be read: {error.strerror or error}") from error
    return audio.decode(content)
