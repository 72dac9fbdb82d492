"""Folders of masks by a stranger: no other decoder, no device, no bomb, and one line for each."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile import Canary, Said

N = 9


@pytest.fixture
def scenes(inside: Path) -> Path:
    root = inside / "scenes"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(N):
        rng = np.random.default_rng(i)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
            root / "images" / f"{i}.png"
        )
        Image.fromarray(rng.integers(0, 2, (8, 8), dtype=np.uint8)).save(
            root / "masks" / f"{i}.png"
        )
    (root / "classes.txt").write_text("a\nb\n")
    (inside / "s.toml").write_text(
        'name = "s"\nmodels = ["synthetic/gabor"]\n'
        'methods = [{ name = "linear-probe", size = 32 }]\n'
        'datasets = [{ id = "folder/scenes", path = "scenes", task = "segmentation" }]\n'
    )
    return root


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(side: int) -> bytes:
    """A PNG that says it has side x side pixels, and holds none of them."""
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def replaced(name: str, content: bytes) -> Callable[[Path, Canary], None]:
    def change(root: Path, canary: Canary) -> None:
        (root / name).write_bytes(content.replace(b"SHELL", canary.shell.encode()))

    return change


def linked(name: str, to: str) -> Callable[[Path, Canary], None]:
    def change(root: Path, canary: Canary) -> None:
        (root / name).unlink()
        (root / name).symlink_to(to)

    return change


def piped(name: str) -> Callable[[Path, Canary], None]:
    def change(root: Path, canary: Canary) -> None:
        (root / name).unlink()
        os.mkfifo(root / name)

    return change


SCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(%pipe%SHELL) (w) file closefile\n"
CASES: dict[str, tuple[Callable[[Path, Canary], None], str]] = {
    "a script for Ghostscript": (replaced("masks/4.png", SCRIPT), "masks/4.png"),
    "a bomb of 10^10 pixels": (replaced("masks/4.png", bomb(100_000)), "masks/4.png"),
    "a bomb that is half as large": (replaced("masks/4.png", bomb(12_000)), "masks/4.png"),
    "a page": (replaced("masks/4.png", b"<svg><script>alert(1)</script></svg>"), "masks/4.png"),
    "nothing": (replaced("masks/4.png", b""), "masks/4.png"),
    "a pickle": (replaced("masks/4.png", b"\x80\x04cos\nsystem\n(X\x05\0\0\0SHELLtR."), "4.png"),
    "an endless device": (linked("masks/4.png", "/dev/zero"), "images/4.png"),
    "a named pipe": (piped("masks/4.png"), "images/4.png"),
    "names from a device": (linked("classes.txt", "/dev/zero"), "classes.txt"),
    "names from a pipe": (piped("classes.txt"), "classes.txt"),
    "endless names": (replaced("classes.txt", b"a\n" * 2**20), "classes.txt"),
    "names that are no text": (replaced("classes.txt", b"\xff\xfe\0\xd8"), "classes.txt"),
    "a name twice, with escapes": (replaced("classes.txt", b"\x1b]0;x\x07\n" * 2), "classes.txt"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_strangers_masks_are_refused_in_one_line(
    case: str, scenes: Path, canary: Canary, zoobench: Callable[..., Said]
) -> None:
    change, says = CASES[case]
    change(scenes, canary)
    said = zoobench("plan", "s.toml")
    assert said.code == 2
    assert says in said.error
    assert not set("\x1b\x07\0") & set(said.out + said.err)


def test_names_of_classes_are_text_in_the_plan(scenes: Path, zoobench: Callable[..., Said]) -> None:
    (scenes / "classes.txt").write_text("<script>alert(1)</script>\n\x1b[31m=cmd()\n")
    said = zoobench("plan", "s.toml")
    assert said.code == 0
    assert "\x1b" not in said.out + said.err


def test_a_linked_mask_is_read_nowhere_else(
    scenes: Path, outside: Path, zoobench: Callable[..., Said]
) -> None:
    (scenes / "masks" / "4.png").unlink()
    (scenes / "masks" / "4.png").symlink_to(outside / "secret.txt")
    said = zoobench("plan", "s.toml")
    assert said.code == 2
    assert "secret of somebody" not in said.out + said.err
