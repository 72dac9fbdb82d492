"""Arrays of an .npz that somebody hands us: sizes are read first, and only numbers are taken."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LARGEST = 2**30
"""Bytes of all arrays of a file: 1,000 times what the largest test set needs."""


class Archive:
    """The arrays of an .npz by name, each read when it is asked for.

    Every method raises ValueError where the file is damaged, would take more than `LARGEST` bytes,
    or holds something else than arrays of numbers; nothing is inflated before that is known.
    """

    def __init__(self, source: Path | IO[bytes]) -> None:
        with _sound():
            self._file = zipfile.ZipFile(source)
            parts = self._file.infolist()
            if sum(part.file_size for part in parts) > LARGEST:
                raise ValueError(f"more than {LARGEST} bytes when unpacked")
            self._parts = {part.filename.removesuffix(".npy"): part for part in parts}
            if len(self._parts) != len(parts):
                raise ValueError("an array is there twice")

    def names(self) -> list[str]:
        return list(self._parts)

    def read(self, name: str) -> NDArray[Any]:
        """As well KeyError where there is no such array."""
        import numpy as np
        from numpy.lib import format as npy

        part = self._parts[name]
        with _sound(), self._file.open(part) as stream:
            if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name}: packed in another way than numpy packs")
            old = npy.read_magic(stream) == (1, 0)
            header = npy.read_array_header_1_0 if old else npy.read_array_header_2_0
            shape, _, dtype = header(stream)
            if dtype.kind not in "biuf":
                raise ValueError(f"{name}: holds {dtype}, not numbers")
            if math.prod(shape) * dtype.itemsize != part.file_size - stream.tell():
                raise ValueError(f"{name}: its header says another size than it has")
            stream.seek(0)
            return np.asarray(npy.read_array(stream, allow_pickle=False))


@contextmanager
def _sound() -> Iterator[None]:
    import struct
    import zlib

    try:
        yield
    except (
        TypeError, EOFError, RuntimeError, NotImplementedError, OverflowError, SyntaxError,
        zipfile.BadZipFile, zlib.error, struct.error, MemoryError,
    ) as error:  # fmt: skip
        raise ValueError(f"no sound .npz: {error or type(error).__name__}") from error
