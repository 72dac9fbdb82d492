"""How an example is read once it is asked for, and what its id is.

Readers are small frozen dataclasses, so that a split can be pickled and cross processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

    from zoobench.interfaces import Raw


@dataclass(frozen=True)
class Texts:
    """Example i is a string that is already in memory."""

    texts: tuple[str, ...] = field(repr=False)

    def __call__(self, i: int) -> Raw:
        return self.texts[i]


@dataclass(frozen=True)
class PixelArray:
    """Example i is a picture in an array (N, H, W) or (N, H, W, 3), uint8."""

    pictures: NDArray[np.uint8] = field(repr=False)

    def __call__(self, i: int) -> Image.Image:
        from PIL import Image

        return Image.fromarray(self.pictures[i]).convert("RGB")


@dataclass(frozen=True)
class Files:
    """Example i is a picture in a file, decoded when it is asked for."""

    paths: tuple[str, ...] = field(repr=False)

    def __call__(self, i: int) -> Image.Image:
        from zoobench.datasets import images

        return images.decode(self.paths[i])


@dataclass(frozen=True)
class Column:
    """Example i is a cell of an Arrow table: a text, or a picture's bytes or path."""

    table: Any = field(repr=False)
    name: str

    def __call__(self, i: int) -> Raw:
        value = self.table[i][self.name]
        if isinstance(value, str):
            return value
        from zoobench.datasets import images

        return images.decode(stored(value))


def stored(value: Mapping[str, Any]) -> bytes | str:
    """The bytes of a picture in an Arrow table, or the path of its file."""
    content: bytes | str = value["path"] if value["bytes"] is None else value["bytes"]
    return content
