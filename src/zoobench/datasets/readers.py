"""How an example is read once it is asked for, and what its id is.

Readers are small frozen dataclasses, so that a split can be pickled and cross processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets.ranges import GUESSED, Grey
from zoobench.errors import BadData
from zoobench.files import lies_in

if TYPE_CHECKING:
    from PIL import Image

    from zoobench.audio import Clip
    from zoobench.interfaces import Raw


@dataclass(frozen=True)
class Texts:
    """Example i is a string that is already in memory."""

    texts: tuple[str, ...] = field(repr=False)

    def __call__(self, i: int) -> Raw:
        return self.texts[i]


@dataclass(frozen=True)
class Words:
    """Example i is a tuple of words that is already in memory."""

    sentences: tuple[tuple[str, ...], ...] = field(repr=False)

    def __call__(self, i: int) -> tuple[str, ...]:
        return self.sentences[i]


@dataclass(frozen=True)
class PixelArray:
    """Example i is a picture in an array (N, H, W) or (N, H, W, 3), uint8."""

    pictures: NDArray[np.uint8] = field(repr=False)

    def __call__(self, i: int) -> Image.Image:
        from PIL import Image

        return Image.fromarray(self.pictures[i]).convert("RGB")


@dataclass(frozen=True)
class Files:
    """Example i is a picture in a file, or in its bytes, decoded when it is asked for, in the range
    `grey`."""

    paths: tuple[str | bytes, ...] = field(repr=False)
    grey: Grey = GUESSED

    def __call__(self, i: int) -> Image.Image:
        from zoobench.datasets import images

        return images.decode(self.paths[i], self.grey)


@dataclass(frozen=True)
class Recordings:
    """Example i is a recording in a file, or in its bytes, an audio.Clip, decoded when it is asked
    for."""

    paths: tuple[str | bytes, ...] = field(repr=False)

    def __call__(self, i: int) -> Clip:
        from zoobench.datasets import sounds

        return sounds.decode(self.paths[i])


@dataclass(frozen=True)
class Column:
    """Example i is a cell of an Arrow table: a text, or the bytes or path of a picture, or of a
    recording where it holds `sound`.

    Files are read inside one of the folders `within` alone, pictures in the range `grey`.
    """

    table: Any = field(repr=False)
    name: str
    within: tuple[str, ...] = ()
    grey: Grey = GUESSED
    sound: bool = False

    def __call__(self, i: int) -> Raw:
        value = self.table[i][self.name]
        if isinstance(value, str):
            return value
        from zoobench.datasets import images, sounds

        if self.sound:
            return sounds.decode(stored(value, self.within))
        return images.decode(stored(value, self.within), self.grey)


def stored(value: Mapping[str, Any], within: Sequence[str]) -> bytes | str:
    """The bytes of a picture or recording in an Arrow table, or the real path of its file.

    Whoever wrote the table chose the path. Raises BadData where it leads, by links or by `..`,
    to anything but a file inside one of the folders `within`.
    """
    content = value["bytes"]
    if content is not None:
        return bytes(content)
    text = str(value["path"])
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # loops of links, a NUL byte
        real = Path(text).resolve()
        if Path(text).is_absolute() and lies_in(real, *within) and real.is_file():
            return str(real)
    raise BadData(f"it names a file that is not there, or not in its own repository: {text!r}")
