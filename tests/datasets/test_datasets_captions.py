"""Pictures with captions in a user's table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoobench import datasets
from zoobench.errors import BadData, UserError
from zoobench.interfaces import Splits
from zoobench.tasks.retrieval import captions_of


def table(folder: Path, rows: Sequence[tuple[str, ...]], header: str = "file,caption") -> str:
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    lines = [header, *(",".join('"' + c.replace('"', '""') + '"' for c in row) for row in rows)]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    split = "&split=part" if "part" in header else ""
    return f"table/t?path={folder / 't.csv'}&image=file&text=caption&task=retrieval{split}"


def loaded(name: str) -> Splits:
    return datasets.load(datasets.resolve(name))


def test_rows_of_one_picture_and_lists_are_its_captions(tmp_path: Path) -> None:
    rows = [("0.png", "a cat"), ("1.png", json.dumps(["a dog", "it runs"])), ("./0.png", "a pet"),
            ("2.png", "[sic] a bird")]  # fmt: skip
    made = loaded(table(tmp_path, rows))
    assert made.task == "retrieval"
    assert (len(made.train), len(made.valid), len(made.test)) == (0, 0, 3)
    assert captions_of(made.test).of_pictures == (
        ("a cat", "a pet"), ("a dog", "it runs"), ("[sic] a bird",),
    )  # fmt: skip
    assert made.test.read(1).size == (8, 8)


def test_splits_are_as_said_and_a_picture_is_in_one(tmp_path: Path) -> None:
    rows = [("0.png", "a", "train"), ("1.png", "b", "test"), ("2.png", "c", "valid")]
    made = loaded(table(tmp_path, rows, "file,caption,part"))
    assert [len(s) for s in (made.train, made.valid, made.test)] == [1, 1, 1]
    with pytest.raises(UserError, match=r"row 3: '0.png' is in the split 'test', and in row 1 in"):
        loaded(table(tmp_path, [*rows[:2], ("0.png", "d", "test")], "file,caption,part"))
    with pytest.raises(UserError, match="nothing is in the test split"):
        loaded(table(tmp_path, rows[:1], "file,caption,part"))


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "out.png")
    for row, why in (
        (("../out.png", "a"), "not in the table's folder"),
        (("0.png", "  "), "the caption is empty"),
        (("9.png", "a"), "cannot be read"),
    ):
        with pytest.raises(UserError, match=why):
            loaded(table(tmp_path / "in", [("1.png", "b"), row]))
    with pytest.raises(UserError, match="give the option text"):
        datasets.resolve(table(tmp_path, [("1.png", "b")]).replace("&text=caption", ""))


def test_another_picture_is_another_revision(tmp_path: Path) -> None:
    name = table(tmp_path, [("0.png", "a"), ("1.png", "b")])
    pinned = datasets.resolve(name)
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(BadData, match="not what"):
        datasets.load(pinned)
    assert datasets.resolve(name).revision != pinned.revision
