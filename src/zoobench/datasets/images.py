"""Pictures of any kind as RGB, and the check that a file can be decoded at all."""

from __future__ import annotations

import hashlib
import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoobench.datasets import regular
from zoobench.datasets.ranges import BYTE, GUESSED, OVERSHOOT, UNIT, WORD, Grey, Levels
from zoobench.errors import BadData

FORMATS = (
    "JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "TGA", "AVIF",
)  # fmt: skip
"""Pillow's decoders that a picture may meet, whatever it is called. Among the others are some that
start a program (Ghostscript, for PostScript) or that nobody has fed strangers' files to."""

KINDS = (
    # (where, what stands there, what it then is, whether it is one of FORMATS)
    (0, b"\xff\xd8\xff", "JPEG", True),
    (0, b"\x89PNG\r\n\x1a\n", "PNG", True),
    (0, b"BM", "BMP", True),
    (0, b"GIF8", "GIF", True),
    (8, b"WEBP", "WebP", True),
    (0, b"II*\0", "TIFF", True),
    (0, b"MM\0*", "TIFF", True),
    (0, b"II+\0", "TIFF", True),
    (0, b"MM\0+", "TIFF", True),
    (0, b"\0\0\0\x0cjP", "JPEG 2000", True),
    (0, b"\xffO\xffQ", "JPEG 2000", True),
    (4, b"ftypavi", "AVIF", True),
    (4, b"ftyphe", "HEIC", False),
    (4, b"ftypmif1", "HEIC", False),
    (4, b"ftyp", "a film", False),
    (0, b"\xff\x0a", "JPEG XL", False),
    (0, b"\0\0\0\x0cJXL", "JPEG XL", False),
    (0, b"%!PS", "PostScript", False),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript", False),
    (0, b"%PDF", "PDF", False),
    (0, b"8BPS", "a Photoshop file", False),
    (0, b"PK\x03\x04", "a ZIP archive", False),
    (0, b"\x1f\x8b", "a gzip file", False),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", False),
    (0, b"<", "HTML, SVG or XML", False),
)
"""What the beginning of a file says that it is."""
HEAD = 32
"""Bytes that `KINDS` looks at."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""How EXIF's orientation is undone."""

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


def decode(source: bytes | str | Path, grey: Grey = GUESSED) -> Image.Image:
    """A file, or its content, as an RGB picture: the one way in which any reader gets one.

    The content decides which of `FORMATS` it is, not its name. EXIF orientation is applied; of
    an animation the first frame is taken; transparency is laid over white; CMYK and palettes are
    converted; more than 8 bits are scaled by the range `grey`. Raises BadData where it cannot be
    decoded.
    """
    rgb, why, error = _decoded(source, grey)
    if rgb is None:
        name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
        raise BadData(f"{name}: not a picture that can be decoded: {why}") from error
    return rgb


def look(source: bytes | str | Path, grey: Grey = GUESSED) -> tuple[bytes, str]:
    """What a picture looks like, in `LOOK` bytes; else b"" and why it cannot be decoded.

    The first 16 bytes are a digest of its size and RGB pixels; the other 8 a perceptual hash:
    which of the 64 lowest frequencies of its brightness, at 32 x 32, lie above their median.
    """
    rgb, why, _ = _decoded(source, grey)
    if rgb is None:
        return b"", why
    exact = hashlib.sha256(repr(rgb.size).encode())
    exact.update(np.asarray(rgb).data)
    small = rgb.convert("L").resize((32, 32), Image.Resampling.BOX)
    # Rounded, so that rounding errors do not decide about a flat picture.
    low = (WAVES @ np.asarray(small, dtype=np.float64) @ WAVES.T).round(3)
    return exact.digest()[:16] + np.packbits(low > np.median(low)).tobytes(), ""


def kind(head: bytes) -> tuple[str, bool]:
    """What the first bytes of a file say that it is ("" where nothing), and if it is read."""
    if head[:1] == b"P" and head[1:2] in b"123456Ff" and head[2:3].isspace():
        return "PPM", True
    for where, mark, name, known in KINDS:
        if head[where:].startswith(mark):
            return name, known
    return "", False


def levels(source: bytes | str | Path) -> Levels | None:
    """The grey values of a picture of more than 8 bits; None of all others, damaged ones too."""
    try:
        content = source if isinstance(source, bytes) else regular.read(str(source))
        with _opened(content) as picture:
            mode = picture.mode
            if not mode.startswith("I") and mode != "F":
                return None
            values = np.asarray(picture, dtype=np.float64)
        low, high = (
            float(np.quantile(values, share, method="nearest"))
            for share in (OVERSHOOT, 1 - OVERSHOOT)
        )
        return Levels(mode, low, high, float(values.max())) if np.isfinite(values).all() else None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - as in _decoded, anything can come; `look` says what
        return None


def _decoded(
    source: bytes | str | Path, grey: Grey
) -> tuple[Image.Image | None, str, Exception | None]:
    """(an RGB picture, "", None), or (None, why there is none, what was raised)."""
    content = b""
    try:
        content = source if isinstance(source, bytes) else regular.read(str(source))
        with _opened(content) as picture:
            if picture.width * picture.height == 0:
                raise BadData("it has no pixels")
            return _rgb(_upright(picture), grey), "", None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001
        # A damaged file can raise anything inside a decoder: OSError, SyntaxError,
        # struct.error, zlib.error, DecompressionBombError, ...
        return None, _why(error, content), error


def _opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=formats())


@cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow was built with: it knows no others by name."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _why(error: Exception, content: bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        name, known = kind(content[:HEAD])
        return (
            f"it is {name}, which is not read"
            if name and not known
            else ("unknown or damaged format")
        )
    if isinstance(error, BadData):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"cannot be read: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def _upright(picture: Image.Image) -> Image.Image:
    """With EXIF orientation applied; an odd EXIF block does not cost the picture.

    Pillow's own `exif_transpose` writes the whole block anew, which fails for odd ones.
    """
    picture.load()
    try:
        turn = TURNS.get(picture.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001 - parsers of damaged blocks raise anything
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: Image.Image, grey: Grey) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _eight_bits(picture, grey)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bits(picture: Image.Image, grey: Grey) -> Image.Image:
    """A grey picture of more than 8 bits, scaled by `grey`; what lies beyond it is clipped.

    Where that does not say what is white, "I" (32 bits) takes 255 or 65535, whichever its values
    fit, and "F" 1, 255 or 65535 likewise. Raises ValueError for values beyond.
    """
    values = np.asarray(picture, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    white = grey.white(picture.mode)
    if not np.isfinite([low, high]).all() or (not white and (low < 0 or high > WORD)):
        raise ValueError(f"grey values from {low:g} to {high:g}: no range that is known")
    if not white:
        white = WORD if high > BYTE else UNIT if picture.mode == "F" and high <= 1 else BYTE
    scaled = (values - grey.low) * (255 / (white - grey.low))
    return Image.fromarray(np.rint(scaled.clip(0, 255)).astype(np.uint8))
