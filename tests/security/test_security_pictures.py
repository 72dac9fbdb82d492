"""What calls itself a picture: only the decoders of docs/datasets.md meet it, whatever its name;
only regular files are opened; and what is wrong with one example costs that example."""

from __future__ import annotations

import ast
import io
import os
import re
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoobench
from hostile import Canary
from zoobench import datasets
from zoobench.datasets import images, regular, twins
from zoobench.errors import BadData
from zoobench.schema import Ref

Image.init()
ALLOWED = set(images.FORMATS)
OTHERS = sorted(set(Image.SAVE) - ALLOWED)
SCRIPTS = Path(zoobench.__file__).parent / "export" / "scripts"
SUFFIXES = (".jpg", ".png", ".tif", ".gif", ".eps", "")


def picture(seed: int = 0, size: int = 16) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(values)


def saved(kind: str) -> bytes:
    """A small picture in any format that Pillow can write, in a mode which that has."""
    for mode in ("RGB", "L", "P", "1", "F"):
        out = io.BytesIO()
        try:
            picture().convert(mode).save(out, kind)
        except (OSError, ValueError, KeyError):
            continue
        return out.getvalue()
    pytest.skip(f"this Pillow writes no {kind} without a helper")


def postscript(canary: Canary) -> bytes:
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n"
        + f"(%pipe%{canary.shell}) (w) file closefile\nshowpage\n%%EOF\n".encode()
    )


def dressed(canary: Canary) -> dict[str, bytes]:
    """Content that starts a program or a rarely used parser, where a decoder is found for it."""
    page = postscript(canary)
    return {
        "postscript": page,
        "postscript with a DOS header": b"\xc5\xd0\xd3\xc6"
        + struct.pack("<LLLLLLH", 32, len(page), 0, 0, 0, 0, 0xFFFF) + b"\0\0" + page,
        "pdf": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<<>>\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "html": b"<!DOCTYPE html><title>404</title>",
        "windows metafile": b"\xd7\xcd\xc6\x9a\0\0"
        + struct.pack("<4hH", 0, 0, 9, 9, 96) + bytes(40),
        "xpm": b'/* XPM */\nstatic char *x[] = {\n"1 1 1 1",\n"a c red",\n"a"};\n',
        "pickle": b"\x80\x04cos\nsystem\n(S'" + canary.shell.encode() + b"'\ntR.",
        "python": canary.python.encode(),
        "shell": b"#!/bin/sh\n" + canary.shell.encode() + b"\n",
        "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        "zip": b"PK\x03\x04" + bytes(60),
    }  # fmt: skip


DRESSED = sorted(dressed(Canary(Path("/nowhere"))))


@pytest.fixture
def programs(tmp_path: Path, canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ghostscript, and what else a decoder may start, that betrays that it was started."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c", "convert", "rsvg-convert", "hdfdump"):
        (folder / name).write_text(f"#!/bin/sh\n{canary.shell}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # to be looked for anew


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", DRESSED)
def test_no_disguise_meets_another_decoder(
    what: str, suffix: str, canary: Canary, tmp_path: Path
) -> None:
    path = tmp_path / f"cat{suffix}"
    path.write_bytes(dressed(canary)[what])
    for source in (path, path.read_bytes()):
        with pytest.raises(BadData, match="not a picture that can be decoded"):
            images.decode(source)
        assert images.look(source)[0] == b""


@pytest.mark.usefixtures("programs")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Pillow's, on writing
@pytest.mark.parametrize("kind", OTHERS)
def test_no_format_beyond_the_list_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(saved(kind))
    with pytest.raises(BadData):
        images.decode(path)


@pytest.mark.parametrize("kind", sorted(ALLOWED & set(Image.SAVE)))
def test_every_format_of_the_list_is_read_under_any_name(kind: str, tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"cat{suffix}"
        path.write_bytes(saved(kind))
        assert images.decode(path).size == (16, 16)
    if kind not in ("TGA", "DIB"):  # nothing tells these two but their suffix
        assert images.kind(saved(kind)[: images.HEAD])[1]


def test_no_picture_is_opened_without_a_list_of_formats() -> None:
    for path in Path(zoobench.__file__).parent.rglob("*.py"):
        for call in re.findall(r"Image\.open\(.*", path.read_text(encoding="utf-8")):
            assert "formats=" in call, f"{path.name}: {call}"


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("predict_t*.py")), ids=lambda p: p.stem)
def test_a_saved_script_reads_formats_of_the_list_alone(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    if "PIL" in text:
        found = re.search(r"^FORMATS = (\(.*\))$", text, re.MULTILINE)
        assert found
        assert ALLOWED.intersection(Image.OPEN).issuperset(ast.literal_eval(found[1]))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + name + content + struct.pack(
        ">L", zlib.crc32(name + content)
    )  # fmt: skip


def png(width: int, height: int, *more: bytes, pixels: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", pixels or zlib.compress(bytes((3 * width + 1) * min(height, 16))))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + data + chunk(b"IEND", b"")


BOMBS = {
    "png of 60,000 x 60,000": png(60_000, 60_000, pixels=zlib.compress(bytes(1000))),
    "png that ends early": png(64, 64)[:50],
    "png with a text of 100 MB": png(
        4, 4, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000_000), 1))
    ),
    "gif of 65,535 x 65,535": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\0;",
    "bmp of 60,000 x 60,000": b"BM" + struct.pack("<LLL", 54, 0, 54)
    + struct.pack("<LllHHLLllLL", 40, 60_000, 60_000, 1, 24, 0, 0, 1, 1, 0, 0),
    "ppm of 10^9 x 10^9": b"P6\n1000000000 1000000000\n255\n" + bytes(10),
    "ppm without pixels": b"P6\n0 0\n255\n",
    "tga of 65,535 x 65,535": struct.pack(
        "<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65535, 65535, 24, 0
    ),
    "only a signature": b"\x89PNG\r\n\x1a\n",
    "half a jpeg": saved("JPEG")[:200],
    "zeros": bytes(1000),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(BOMBS))
def test_a_bomb_is_one_bad_example(what: str, tmp_path: Path) -> None:
    paths = []
    for i, content in enumerate((b"", BOMBS[what])):
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(content)
    picture().save(tmp_path / "sound.png")
    _, faults, looks = twins.scan([*map(str, paths), str(tmp_path / "sound.png")], verify=True)
    assert [bool(why) for why in faults] == [True, True, False]
    assert len(looks.content) == 1


def ways(folder: Path) -> dict[str, Callable[[Path], object]]:
    """How a name may stand for something that is no regular file."""

    def a_socket(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as made:
            # The address is short: a test's folder may be longer than an address can be.
            here = os.getcwd()
            os.chdir(path.parent)
            try:
                made.bind(path.name)
            finally:
                os.chdir(here)

    def linked(target: str) -> Callable[[Path], object]:
        return lambda path: path.symlink_to(target)

    def through_a_link(path: Path) -> None:
        os.mkfifo(folder / "pipe")
        path.symlink_to(folder / "pipe")

    return {
        "a pipe": os.mkfifo,
        "a link to a pipe": through_a_link,
        "a socket": a_socket,
        "a link to /dev/zero": linked("/dev/zero"),
        "a link to /dev/stdin": linked("/dev/stdin"),
        "a link to a terminal": linked("/dev/tty"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to nothing": linked("nothing"),
        "a link to a folder": linked("."),
        "a link into /proc": linked("/proc/self/maps"),
        "a folder": Path.mkdir,
    }


WAYS = sorted(ways(Path()))


@pytest.mark.parametrize("what", WAYS)
def test_only_regular_files_are_opened(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "else"
    folder.mkdir()
    path = tmp_path / "cat.png"
    ways(folder)[what](path)
    with pytest.raises(OSError, match=r"it is|No such|size is not"):
        regular.read(str(path))
    with pytest.raises(BadData, match=r"cat\.png"):
        images.decode(path)
    _, (why,), _ = twins.scan([str(path)], verify=True)
    assert why


def test_a_file_has_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "vast.png"
    with path.open("wb") as file:
        file.truncate(regular.LARGEST + 1)  # a sparse file: no disk is filled
    with pytest.raises(OSError, match="are read at most"):
        regular.read(str(path))
    (tmp_path / "small.png").write_bytes(bytes(10))
    assert regular.read(str(tmp_path / "small.png"), 10) == bytes(10)
    with pytest.raises(OSError, match="it has 10 bytes, 9 are read at most"):
        regular.read(str(tmp_path / "small.png"), 9)


def odd_exif() -> dict[str, bytes]:
    """Blocks that parsers stumble over: wrong types, loops of offsets, lengths of 4 GB."""

    def block(*tags: tuple[int, int, int, bytes], order: str = "<") -> bytes:
        mark = b"II*\0" if order == "<" else b"MM\0*"
        rows = b"".join(
            struct.pack(f"{order}HHL", *tag[:3]) + tag[3].ljust(4, b"\0") for tag in tags
        )
        return b"Exif\0\0" + mark + struct.pack(f"{order}LH", 8, len(tags)) + rows + bytes(4)

    short = struct.pack("<H", 6)
    return {
        "rubbish": b"Exif\0\0rubbish",
        "nothing": b"Exif\0\0",
        "half a header": b"Exif\0\0II*\0",
        "orientation as text": block((0x0112, 2, 4, b"six")),
        "orientation of 4 GB": block((0x0112, 3, 0xFFFFFFFF, short)),
        "orientation 99": block((0x0112, 3, 1, struct.pack("<H", 99))),
        "orientation as fractions": block((0x0112, 5, 1, struct.pack("<L", 8))),
        "unknown type": block((0x0112, 77, 1, short)),
        "a loop of directories": block((0x8769, 4, 1, struct.pack("<L", 8))),
        "an offset behind the end": block((0x010F, 2, 99, struct.pack("<L", 0x7FFFFFFF))),
        "a thousand tags announced": b"Exif\0\0II*\0" + struct.pack("<LH", 8, 1000),
        "a fraction over zero": block((0x011A, 5, 1, struct.pack("<L", 0)), (0x0112, 3, 1, short)),
    }


@pytest.mark.filterwarnings("ignore")  # Pillow says what it thinks of them
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("what", sorted(odd_exif()))
def test_odd_exif_costs_nothing(what: str, kind: str) -> None:
    out = io.BytesIO()
    picture().save(out, kind, exif=odd_exif()[what])
    assert images.decode(out.getvalue()).size == (16, 16)
    assert images.look(out.getvalue())[1] == ""


@pytest.mark.filterwarnings("ignore")
def test_what_the_scan_takes_the_reader_reads(tmp_path: Path) -> None:
    """One path for both: no picture passes the one and fails the other."""
    root = tmp_path / "pets"
    for nth, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(60):
            picture(100 * nth + i).save(root / name / f"{i}.jpg")
    odd = root / "cat" / "0.jpg"
    picture(999).save(odd, exif=odd_exif()["orientation of 4 GB"])
    made = datasets.load(datasets.resolve(Ref("folder", "pets").with_options(path=str(root))))
    read = [
        split.read(i) for split in (made.train, made.valid, made.test) for i in range(len(split))
    ]
    assert len(read) == 120
