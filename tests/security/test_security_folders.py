"""A folder of pictures from strangers: what hangs, what leads out, what cannot be read, and what
its names would do to a terminal or a log. Nothing is lost without a word."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hostile import Said
from zoobench import datasets
from zoobench.datasets import regular
from zoobench.errors import BadData, UserError
from zoobench.interfaces import Splits
from zoobench.schema import Ref

Zoobench = Callable[..., Said]

SUITE = """
name = "hostile"
models = ["synthetic/gabor"]
datasets = [{ id = "folder/pets", path = "pets" }]
methods = ["knn"]
controls = false
"""


def picture(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(values)


def fill(folder: Path, many: int = 20, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(many):
        picture(1000 * seed + i).save(folder / f"{i:03}.png")


@pytest.fixture
def pets(inside: Path) -> Path:
    """Cats and dogs, 20 pictures each, and a suite that reads them."""
    for nth, name in enumerate(("cats", "dogs")):
        fill(inside / "pets" / name, seed=nth)
    (inside / "suite.toml").write_text(SUITE, encoding="utf-8")
    return inside / "pets"


def bind(path: Path) -> None:
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)  # an address is at most 108 bytes long
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


SPECIAL: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pipe": (os.mkfifo, "named pipe"),
    "a socket": (bind, "socket"),
    "a link to /dev/zero": (lambda path: path.symlink_to("/dev/zero"), "device"),
    "a link to /dev/random": (lambda path: path.symlink_to("/dev/random"), "device"),
    "a link to /dev/tty": (lambda path: path.symlink_to("/dev/tty"), "device"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "broken link"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "broken link"),
    "a linked folder": (lambda path: path.symlink_to("/proc"), "linked folder"),
    "a link to the root": (lambda path: path.symlink_to("/"), "linked folder"),
    "a link upwards": (lambda path: path.symlink_to(".."), "linked folder"),
}


@pytest.mark.parametrize("name", ["x.png", "x"])
@pytest.mark.parametrize("what", SPECIAL)
def test_what_is_no_file_is_counted_and_never_opened(
    what: str, name: str, pets: Path, zoobench: Zoobench, caplog: pytest.LogCaptureFixture
) -> None:
    make, kind = SPECIAL[what]
    make(pets / "cats" / name)
    assert zoobench("plan", "suite.toml").code == 0
    assert caplog.messages == [f"folder/pets: not used: {kind} (1)"]
    made = datasets.load(datasets.resolve("folder/pets?path=pets"))
    assert made.notes["unused"] == {kind: 1}


@pytest.mark.parametrize("what", SPECIAL)
def test_the_same_in_place_of_a_class_or_of_the_folder(
    what: str, pets: Path, zoobench: Zoobench
) -> None:
    SPECIAL[what][0](pets / "fish.png")
    if SPECIAL[what][1] != "linked folder":  # a linked class is read, /proc as well
        assert zoobench("plan", "suite.toml").code == 0
    SPECIAL[what][0](pets.parent / "else")
    (pets.parent / "suite.toml").write_text(SUITE.replace('"pets"', '"else"'), encoding="utf-8")
    if SPECIAL[what][1] != "linked folder":
        assert zoobench("plan", "suite.toml").code == 2


NAMES = [
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "bell\x07", "line\nbreak", "back\rto", "tab\tstop",
    "<script>alert(1)<script>", "[bold]x", "[INST]", "::error::x", "##[error]x", "=1+1",
    "$(touch x)", "`touch x`", "; touch x", "| touch x", "%s%n", "{0}", "{{x}}", "@everyone", "#1",
    "a?b=c", "a@b", "a%2Fb", "a&b", "a=b,c", "-rf", "--help", "CON", "nul.", "\u202egnp", "\u200b",
    "\ufeff", "\U0001f408", "\u732b", "x" * 200, " ", "'", '"', "\\", "~", "*", "None", "nan",
    "true", "1e400", "\udce9\udcff",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_class_a_picture_and_a_fault(
    name: str, pets: Path, zoobench: Zoobench, caplog: pytest.LogCaptureFixture
) -> None:
    """As a class, as the name of a picture, and as that of what is not read."""
    fill(pets / name, seed=7)
    (pets / "dogs" / "019.png").rename(pets / "dogs" / f"{name}.png")
    (pets / "cats" / f"{name}.heic").write_bytes(b"")
    for i in range(2):
        (pets / "cats" / f"{name}{i}.heic").write_bytes(b"")
    said = zoobench("plan", "suite.toml")
    assert said.code == 0
    assert "Traceback" not in said.err
    assert len(caplog.messages) == 1
    assert not set(said.err + said.out + caplog.messages[0]) & set("\x1b\x07\r")
    for i in range(20):
        (pets / "cats" / f"{name}{i}.heic").write_bytes(b"")
    said = zoobench("plan", "suite.toml")
    assert said.code == 2
    assert "allow_unused" in said.error
    assert not set(said.err + said.out) & set("\x1b\x07\r")
    for path in (pets / "cats").glob("*.heic"):
        path.unlink()
    (pets / "cats" / f"{name}.png").write_bytes(b"")
    caplog.clear()
    said = zoobench("plan", "suite.toml")
    assert said.code == 0
    assert "damaged: 1" in caplog.messages[0]
    assert not set(said.err + said.out + caplog.messages[0]) & set("\x1b\x07\r")
    for i in range(6):
        (pets / "cats" / f"{name}{i}.png").write_bytes(b"")
    said = zoobench("plan", "suite.toml")
    assert said.code == 2
    assert "7 of 67 pictures cannot be used" in said.error
    assert not set(said.err + said.out) & set("\x1b\x07\r")


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Makes a folder answer with an error, for the system's administrator too."""
    scandir = os.scandir

    def lock(folder: Path, number: int) -> None:
        def guarded(path: Any = ".") -> Any:
            if os.fspath(path) == str(folder):
                raise OSError(number, os.strerror(number), str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", guarded)

    return lock


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG])
@pytest.mark.parametrize("below", ["", "cats", "cats/persian", "train", "train/cats"])
def test_a_folder_that_cannot_be_read_is_an_error_not_a_class_less(
    below: str, number: int, inside: Path, locked: Callable[[Path, int], None]
) -> None:
    root = inside / "pets"
    start = root / "train" if below.startswith("train") else root
    for nth, name in enumerate(("cats", "dogs", "emus", "cats/persian")):
        fill(start / name, seed=nth)
    ref = datasets.resolve(Ref("folder", "pets").with_options(path=str(root)))
    locked(root / below if below else root, number)
    with pytest.raises(UserError, match="the folder cannot be read"):
        datasets.resolve(ref.at(""))
    with pytest.raises(BadData, match="the folder cannot be read"):
        datasets.load(ref)


def test_a_picture_that_cannot_be_read_is_one_example(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nth, name in enumerate(("cats", "dogs")):
        fill(inside / "pets" / name, 70, seed=nth)
    read = regular.read

    def guarded(path: str, most: int = regular.LARGEST) -> bytes:
        if path.endswith("cats/003.png"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return read(path, most)

    monkeypatch.setattr(regular, "read", guarded)
    made = datasets.load(datasets.resolve("folder/pets?path=pets"))
    assert len(made.train) + len(made.valid) + len(made.test) == 139
    assert made.notes["corrupt_files"] == ["cats/003.png: cannot be read: Permission denied"]


@pytest.mark.parametrize("target", ["fish", "nothing", "/mnt/of a disk/that is gone", "../else"])
@pytest.mark.parametrize("below", ["", "train"])
def test_a_linked_class_that_is_gone_is_an_error(
    target: str, below: str, inside: Path, zoobench: Zoobench
) -> None:
    for nth, name in enumerate(("cats", "dogs")):
        fill(inside / "pets" / below / name, seed=nth)
    (inside / "pets" / below / "fish").symlink_to(target)
    (inside / "suite.toml").write_text(SUITE, encoding="utf-8")
    said = zoobench("plan", "suite.toml")
    assert said.code == 2
    assert "'fish' is a link that leads nowhere" in said.error


def test_a_ring_of_links_ends(pets: Path) -> None:
    (pets / "cats" / "ring").symlink_to(pets)
    (pets / "all").symlink_to(pets)
    (pets / "again").symlink_to(pets / "cats")
    (pets / "up").symlink_to(pets.parent)
    made = datasets.load(datasets.resolve("folder/pets?path=pets"))
    assert made.classes == ("cats", "dogs")
    assert made.notes["unused"] == {"linked folder": 4}


def test_deep_folders_end_in_a_sentence(pets: Path, zoobench: Zoobench) -> None:
    here = os.getcwd()
    os.chdir(pets / "cats")
    try:
        for _ in range(40):  # 40 x 120 characters are more than a path may have
            os.mkdir("d" * 120)
            os.chdir("d" * 120)
        picture(1).save("x.png")
    finally:
        os.chdir(here)
    said = zoobench("plan", "suite.toml")
    assert said.code == 2
    assert "cannot be read" in said.error


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1,
                max_size=20).filter(lambda name: name not in (".", "..")),
        st.integers(0, 3),
        max_size=5,
    )
)  # fmt: skip
def test_any_folder_of_folders_is_read_or_refused_in_a_line(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, int]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for nth, (name, many) in enumerate(tree.items()):
        fill(root / name, many, seed=nth)
    made = read_or_refusal(Ref("folder", "x").with_options(path=str(root)))
    if isinstance(made, str):
        assert "\n" not in made
    else:
        total = len(made.train) + len(made.valid) + len(made.test)
        assert total + sum(made.notes.get("unused", {}).values()) <= sum(tree.values())


def read_or_refusal(ref: Ref) -> Splits | str:
    try:
        return datasets.load(datasets.resolve(ref))
    except UserError as error:
        return str(error)
