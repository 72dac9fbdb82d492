"""Pictures of any kind as RGB, and the check that a file can be decoded at all."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zoobench.errors import BadData

SUFFIXES = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif",
        ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga", ".avif",
    )
)  # fmt: skip
"""File names (in lower case) that a folder's pictures end with."""

LOOK = 24
"""Bytes of a picture's `look`."""
WAVES = np.cos(np.pi * np.arange(8)[:, None] * (np.arange(32) + 0.5) / 32)
"""(8, 32): the lowest frequencies of a cosine transform."""


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


def look(source: bytes | str | Path) -> tuple[bytes, str]:
    """What a picture looks like, in `LOOK` bytes; else b"" and why it cannot be decoded.

    The first 16 bytes are a digest of its size and RGB pixels; the other 8 a perceptual hash:
    which of the 64 lowest frequencies of its brightness, at 32 x 32, lie above their median.
    """
    try:
        with _opened(source) as picture:
            if picture.width * picture.height == 0:
                return b"", "it has no pixels"
            rgb = _rgb(_upright(picture))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - as in decode, anything can come
        return b"", _why(error)
    exact = hashlib.sha256(repr(rgb.size).encode())
    exact.update(np.asarray(rgb).data)
    grey = rgb.convert("L").resize((32, 32), Image.Resampling.BOX)
    # Rounded, so that rounding errors do not decide about a flat picture.
    low = (WAVES @ np.asarray(grey, dtype=np.float64) @ WAVES.T).round(3)
    return exact.digest()[:16] + np.packbits(low > np.median(low)).tobytes(), ""


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
