"""Pictures of every kind become the right RGB, and damaged ones are found."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoobench.datasets import images, twins
from zoobench.errors import BadData

Picture = Callable[..., Image.Image]


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def pixel(content: bytes, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    picture = images.decode(content)
    assert picture.mode == "RGB"
    value = picture.getpixel(at)
    assert isinstance(value, tuple)
    return tuple(int(v) for v in value)


def test_cmyk_is_converted() -> None:
    cyan = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF")
    assert pixel(cyan) == (0, 255, 255)
    near = pixel(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=95))
    assert np.abs(np.subtract(near, (0, 255, 255))).max() < 4


def test_palette_with_and_without_transparency() -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([200, 10, 30, 0, 0, 0])
    assert pixel(encoded(picture, "PNG")) == (200, 10, 30)
    assert pixel(encoded(picture, "PNG", transparency=0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("LA", (100, 255), (100, 100, 100)),
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
    ],
)
def test_grey_bilevel_and_alpha_over_white(
    mode: str, colour: Any, expected: tuple[int, ...]
) -> None:
    assert pixel(encoded(Image.new(mode, (3, 3), colour), "PNG")) == expected


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    decoded = images.decode(encoded(Image.fromarray(values), kind))
    assert np.asarray(decoded)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    values = np.full((2, 2), 200, dtype=np.uint16)  # would be bright if clipped to 8 bits
    assert pixel(encoded(Image.fromarray(values), "PNG")) == (1, 1, 1)


def test_floats_are_scaled_by_their_range_and_odd_ones_refused() -> None:
    unit = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    decoded = images.decode(encoded(Image.fromarray(unit), "TIFF"))
    assert np.asarray(decoded)[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(BadData, match="no range that is known"):
        images.decode(encoded(Image.fromarray(unit - 3), "TIFF"))
    assert "no range" in images.look(encoded(Image.fromarray(unit - 3), "TIFF"))[1]


def test_the_first_frame_of_an_animation() -> None:
    red, blue = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    for kind in ("GIF", "PNG", "WEBP"):
        content = encoded(red, kind, save_all=True, append_images=[blue])
        assert np.abs(np.subtract(pixel(content), (255, 0, 0))).max() < 8, kind


def test_exif_orientation_is_applied() -> None:
    picture = Image.new("RGB", (6, 3), (0, 0, 0))
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    decoded = images.decode(encoded(picture, "PNG", exif=exif))
    assert decoded.size == (3, 6)
    assert decoded.getpixel((2, 0)) == (255, 255, 255)


def test_a_damaged_exif_block_does_not_cost_the_picture() -> None:
    content = encoded(Image.new("RGB", (6, 3), (9, 9, 9)), "PNG", exif=b"Exif\x00\x00rubbish")
    assert images.decode(content).size == (6, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_a_truncated_file_is_found(kind: str, picture: Picture) -> None:
    whole = encoded(picture(1, 64), kind)
    assert images.look(whole)[1] == ""
    half = whole[: len(whole) // 2]
    assert images.look(half)[1] != ""
    with pytest.raises(BadData, match="not a picture that can be decoded"):
        images.decode(half)


@pytest.mark.parametrize("content", [b"", b"\x00", b"not a picture at all", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_found(content: bytes) -> None:
    assert images.look(content)[1] != ""
    with pytest.raises(BadData):
        images.decode(content)


def test_a_flipped_bit_in_a_png_is_found(picture: Picture) -> None:
    content = bytearray(encoded(picture(2, 32), "PNG"))
    content[len(content) // 2] ^= 0xFF
    assert images.look(bytes(content))[1] != ""


def test_scan_names_what_cannot_be_read(tmp_path: Path, picture: Picture) -> None:
    good = tmp_path / "a.png"
    picture(1).save(good)
    empty = tmp_path / "b.png"
    empty.touch()
    ids, faults, _ = twins.scan([str(good), str(empty), str(tmp_path / "absent.png")], verify=False)
    assert faults[0] == ""
    assert "empty" in faults[1]
    assert "No such file" in faults[2]
    assert len(ids) == 3


def test_a_picture_without_pixels_is_found() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    png += chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    for content in (png, b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b";", b"P6 0 0 255\n"):
        assert images.look(content)[1] != ""
        with pytest.raises(BadData):
            images.decode(content)
