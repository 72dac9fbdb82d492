"""Pictures of any kind as RGB, and the check that a file can be decoded at all."""

from __future__ import annotations

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zoobench.datasets.ids import THREADS, bytes_id
from zoobench.errors import BadData

SUFFIXES = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif",
        ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga", ".avif",
    )
)  # fmt: skip
"""File names (in lower case) that a folder's pictures end with."""


def decode(source: bytes | str | Path) -> Image.Image:
    """A file, or its content, as an RGB picture.

    EXIF orientation is applied; of an animation the first frame is taken;
    transparency is laid over white; CMYK and palettes are converted; 16 bits are
    scaled to 8, not clipped. Raises BadData where it cannot be decoded.
    """
    try:
        with _opened(source) as picture:
            return _rgb(_upright(picture))
    except MemoryError:
        raise
    except Exception as error:
        # A damaged file can raise anything inside a decoder: OSError, SyntaxError,
        # struct.error, zlib.error, DecompressionBombError, ...
        name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
        raise BadData(f"{name}: not a picture that can be decoded: {_why(error)}") from error


def fault(content: bytes) -> str:
    """Why `content` cannot be decoded to its last pixel; empty when it can.

    JPEG is decoded at an eighth of its size: the whole stream is read, at a
    fraction of the cost.
    """
    if not content:
        return "the file is empty"
    try:
        with _opened(content) as picture:
            if picture.width * picture.height == 0:
                return "it has no pixels"
            picture.draft(None, (picture.width // 8, picture.height // 8))
            picture.load()
            if picture.mode in ("I", "F"):
                _eight_bits(picture)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - as in decode, anything can come
        return _why(error)
    return ""


def scan(paths: Iterable[Path | str], *, verify: bool) -> tuple[list[str], list[str]]:
    """(ids, faults) of files, by a few threads; a fault is empty where all is well.

    Without `verify` only unreadable and empty files are faulty; they have an id
    as well. Memory: one file a thread.
    """

    def one(path: Path | str) -> tuple[str, str]:
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            return bytes_id(b""), f"cannot be read: {error.strerror or error}"
        wrong = fault(content) if verify or not content else ""
        return bytes_id(content), wrong

    with ThreadPoolExecutor(THREADS) as pool:
        both = list(pool.map(one, paths))
    return [one_id for one_id, _ in both], [wrong for _, wrong in both]


def _opened(source: bytes | str | Path) -> Image.Image:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def _why(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "unknown or damaged format"
    return f"{type(error).__name__}: {error}"


def _upright(picture: Image.Image) -> Image.Image:
    """With EXIF orientation applied; a damaged EXIF block does not cost the picture."""
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, OverflowError):
        return picture


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _eight_bits(picture)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of more than 8 bits, scaled by its format's range.

    "I;16": 0..65535. "I" (32 bits) has no agreed range: 255 or 65535, whichever its
    values fit. "F": 1, 255 or 65535 likewise. Raises ValueError for other values.
    """
    values = np.asarray(picture, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all() or low < 0 or high > 65535:
        raise ValueError(f"grey values from {low:g} to {high:g}: no range that is known")
    if picture.mode.startswith("I;16") or high > 255:
        top = 65535.0
    else:
        top = 1.0 if picture.mode == "F" and high <= 1 else 255.0
    return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
