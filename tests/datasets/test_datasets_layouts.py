"""How people lay out folders of pictures: each row of the matrix in docs/datasets.md, and its kin.

Whatever a folder is called, its pictures are read as asked, counted, or refused with the way out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zoobench import datasets
from zoobench.datasets import layouts
from zoobench.datasets.faults import about
from zoobench.errors import UserError
from zoobench.interfaces import Splits
from zoobench.schema import Ref, Value

MakeFolder = Callable[[Mapping[str, int]], Path]
Picture = Callable[..., Image.Image]
DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"


def read(root: Path, **options: Value) -> Splits:
    ref = Ref("folder", "pets").with_options(path=str(root), **options)
    return datasets.load(datasets.resolve(ref))


def refused(root: Path, **options: Value) -> str:
    with pytest.raises(UserError) as caught:
        read(root, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def sizes(made: Splits) -> list[int]:
    return [len(split) for split in (made.train, made.valid, made.test)]


def both(*folders: str, many: int = 5) -> dict[str, int]:
    """`many` pictures of cats and dogs in each of `folders`."""
    return {f"{folder}/{name}": many for folder in folders for name in ("cats", "dogs")}


def by_class(make: MakeFolder) -> None:
    assert read(make({"cats": 10, "dogs": 10})).classes == ("cats", "dogs")


def deeper(make: MakeFolder) -> None:
    made = read(make({"cats/persian/2024": 5, "cats/siamese": 5, "dogs/rex": 5, "dogs": 5}))
    assert (made.classes, sum(sizes(made))) == (("cats", "dogs"), 20)


def official(make: MakeFolder) -> None:
    made = read(make(both("train", "val", "test")))
    assert (made.classes, sizes(made), made.flags) == (("cats", "dogs"), [10, 10, 10], ())
    assert not made.notes


def other_names(make: MakeFolder) -> None:
    made = read(make(both("training_set", "Test-Images", "validation2017")))
    assert (made.classes, sizes(made), made.flags) == (("cats", "dogs"), [10, 10, 10], ())
    assert made.notes["split_folders"] == {
        "training_set": "train", "Test-Images": "test", "validation2017": "valid",
    }  # fmt: skip


def no_train(make: MakeFolder) -> None:
    root = make(both("val", "test"))
    assert 'splits = "train=val,test=test"; each as a class: classes = "all"' in refused(root)
    assert sizes(read(root, splits="train=val,test=test"))[2] == 10
    assert read(root, classes="all").classes == ("test", "val")


def unclear(make: MakeFolder) -> None:
    root = make(both("train", "eval"))
    assert 'splits = "train=train,test=eval"' in refused(root)
    assert read(root, splits="train=train,valid=eval").flags == ("derived-test",)


def beside(make: MakeFolder) -> None:
    root = make(both("train", "test") | {"unsorted": 3})
    message = refused(root)
    assert "(without 'unsorted')" in message
    assert 'splits = "train=train,test=test"' in message
    made = read(root, splits="train=train,test=test")
    assert made.notes["unused"] == {"picture of a folder that is no split": 3}


def twice(make: MakeFolder) -> None:
    root = make(both("train1", "train2", "test"))
    assert 'splits = "train=train1,train=train2,test=test"' in refused(root)
    assert read(root, splits="train=train1,train=train2,test=test").classes == ("cats", "dogs")


def flat(make: MakeFolder) -> None:
    root = make({"train": 8, "test": 8})
    assert "no class folders in 'test', 'train'" in refused(root)
    assert read(root, classes="all").classes == ("test", "train")


def splits_below(make: MakeFolder) -> None:
    root = make({f"{name}/{split}": 5 for name in ("cats", "dogs") for split in ("train", "test")})
    assert "put them above the classes" in refused(root)
    assert sum(sizes(read(root, classes="all"))) == 20


def parts(make: MakeFolder) -> None:
    root = make({"images": 8, "masks": 8})
    assert "'images', 'masks' look like parts of the same examples" in refused(root)
    assert 'their masks are task = "segmentation"' in refused(root)
    assert read(root, classes="all").classes == ("images", "masks")
    assert "parts" in refused(make({"train/images": 8, "train/masks": 8}).parent / "pets/train")


def wrapped(make: MakeFolder) -> None:
    root = make(both("pets"))
    assert "only one class ('pets')" in refused(root)
    assert refused(root).endswith("are meant: path = " + repr(str(root / "pets")))
    assert read(root / "pets").classes == ("cats", "dogs")


def system(make: MakeFolder) -> None:
    root = make(
        {"cats": 10, "dogs": 10, "@eaDir/cats": 9, "__MACOSX/cats": 9, "cats/@eaDir": 9, ".x": 9}
    )
    for name in (".DS_Store", "Thumbs.db", "cats/._0001.png", "dogs/desktop.ini"):
        (root / name).write_bytes(b"left behind")
    made = read(root)
    assert (made.classes, sum(sizes(made)), made.notes) == (("cats", "dogs"), 20, {})


def no_suffix(make: MakeFolder) -> None:
    root = make({"cats": 10, "St. Bernard 12": 10})
    for path in list(root.rglob("*.png")):
        path.rename(path.with_name(f"n02.{path.stem}"))
    assert sum(sizes(read(root))) == 20


def not_read(make: MakeFolder) -> None:
    root = make({"cats": 40, "dogs": 40})
    for i in range(9):
        (root / "cats" / f"IMG_{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    message = refused(root)
    assert "9 of 89 files that may be examples are not used, and 10% is the bound" in message
    assert ".heic file (9, such as 'cats/IMG_0.HEIC')" in message
    assert read(root, allow_unused=True).notes["unused"] == {".heic file": 9}


def lost_class(make: MakeFolder) -> None:
    root = make({"cats": 90, "dogs": 90, "fish": 0, "emu": 0})
    assert read(root).notes["empty_classes"] == ["emu", "fish"]
    (root / "emu" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    assert "nothing is read of class 'emu': .heic file (1" in refused(root)
    assert read(root, allow_unused=True).classes == ("cats", "dogs")


def linked(make: MakeFolder) -> None:
    root = make({"cats": 10, "dogs": 10})
    outside = root.parent / "else"
    (root / "dogs").rename(outside)
    (root / "dogs").symlink_to(outside)  # a linked class is a class
    (root / "cats" / "more").symlink_to(outside)  # deeper ones could lead round in a ring
    (root / "ring").symlink_to(root)
    made = read(root)
    assert (made.classes, sum(sizes(made))) == (("cats", "dogs"), 20)
    assert made.notes["unused"] == {"linked folder": 2}


MATRIX: dict[str, Callable[[MakeFolder], None]] = {
    "`CLASS/1.jpg`": by_class,
    "`CLASS/any/depth/1.jpg`": deeper,
    "`train/CLASS/1.jpg`, `val/...`, `test/...`": official,
    "`training_set/`, `Test-Images/`, `validation2017/`": other_names,
    "`val/`, `test/`, no train": no_train,
    "`train/`, `eval/` (holdout, fold1, ...)": unclear,
    "`train/`, `test/` and other folders": beside,
    "`train1/`, `train2/`, `test/`": twice,
    "`train/cat.0.jpg`, `test/1.jpg`, no class folders": flat,
    "`CLASS/train/1.jpg`, `CLASS/test/1.jpg`": splits_below,
    "`images/`, `masks/`": parts,
    "one folder around all others": wrapped,
    "`@eaDir`, `__MACOSX`, `.DS_Store`, `Thumbs.db`": system,
    "files without a suffix": no_suffix,
    "HEIC, raw and other files that are not read": not_read,
    "class folders that are empty, or of such files alone": lost_class,
    "linked folders": linked,
}


@pytest.mark.parametrize("layout", MATRIX)
def test_each_row_of_the_matrix(layout: str, make_folder: MakeFolder) -> None:
    MATRIX[layout](make_folder)


def test_the_matrix_is_that_of_the_docs() -> None:
    text = DOCS.read_text(encoding="utf-8").partition("| a folder with | is read |")[2]
    lines = text.partition("\n\n")[0].splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == list(MATRIX)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", "train"), ("TRAIN", "train"), ("training_set", "train"), ("trainset", "train"),
        ("train-data", "train"), ("train_images", "train"), ("train2017", "train"),
        ("trainval", "train"), ("train_01", "train"), ("dataset_train", "train"),
        ("val", "valid"), ("validation_data", "valid"), ("valset", "valid"), ("dev", "valid"),
        ("test1", "test"), ("testing", "test"), ("test set", "test"), ("testdata", "test"),
        ("eval", "?"), ("eval_set", "?"), ("Holdout", "?"), ("held_out", "?"), ("fold3", "?"),
        ("evaluation2", "?"), ("unlabeled", "?"),
        ("cats", ""), ("train_station", ""), ("test tube", ""), ("trains", ""), ("images", ""),
        ("valley", ""), ("develop", ""), ("7", ""), ("", ""), ("データ", ""), ("contest", ""),
    ],
)  # fmt: skip
def test_what_a_name_means(name: str, expected: str) -> None:
    assert layouts.role(name) == expected


@given(st.text())
def test_any_name_has_a_meaning_or_none(name: str) -> None:
    assert layouts.role(name) in ("train", "valid", "test", "?", "")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ("train=trian", "unknown folder 'trian'. Did you mean 'train'?"),
        ("trian=train", "unknown split 'trian'. Did you mean 'train'?"),
        ("train", "expected train=FOLDER"),
        ("train=train,", "expected train=FOLDER"),
        ("test=test", "names no train folder"),
        ("train=train,test=train", "the folder 'train' is named twice"),
        ("train=../else", "unknown folder '../else'"),
        ("train=/etc", "unknown folder '/etc'"),
        ("train=.", "unknown folder '.'"),
    ],
)
def test_mistakes_in_the_option_splits(splits: str, message: str, make_folder: MakeFolder) -> None:
    assert message in refused(make_folder(both("train", "test")), splits=splits)


@pytest.mark.parametrize(
    "options",
    [
        {"classes": "every"}, {"classes": True}, {"classes": 0}, {"allow_unused": "yes"},
        {"allow_unused": 1}, {"split": "train=train"},
        {"task": "regression", "splits": "train=train"}, {"task": "regression", "classes": "all"},
    ],
)  # fmt: skip
def test_options_that_say_nothing(options: dict[str, Any], make_folder: MakeFolder) -> None:
    refused(make_folder({"cats": 5, "dogs": 5}), **options)


@pytest.mark.parametrize("source", ["folder", "table", "conll", "squad"])
def test_an_empty_path_is_not_the_folder_one_stands_in(source: str) -> None:
    with pytest.raises(UserError, match=rf"^x: path of {source}/pets is empty$"):
        datasets.resolve(Ref(source, "pets").with_options(path=""), "x")


def test_all_classes_is_an_option_of_folders_alone() -> None:
    with pytest.raises(UserError, match="must be a whole number"):
        datasets.resolve("packaged/digits?classes=all")


def test_what_is_left_out_is_said_where_a_run_is_planned(
    make_folder: MakeFolder, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder({"cats": 100, "dogs": 100})
    ref = Ref("folder", "pets").with_options(path=str(root))
    (root / "cats" / "notes.txt").write_text("beside")
    (root / "cats" / "a.heic").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        datasets.resolve(ref)
    assert not caplog.messages  # 1 of 201 is under 1%
    for i in range(3):
        (root / "cats" / f"{i}.heic").write_bytes(b"")
    (root / "fish").mkdir()
    with caplog.at_level(logging.WARNING):
        datasets.resolve(ref)
    assert caplog.messages == [
        "folder/pets: not used: .heic file (4), .txt file (1); empty classes: 'fish'"
    ]


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ({}, ""),
        ({"duplicates": 3}, ""),
        ({"conflicting_labels": 2}, "the same example under several labels: 2"),
        (
            {"duplicates_across_splits": 3},
            "of train or valid not used, for they stand in a later split too: 3",
        ),
        ({"corrupt": 2, "corrupt_files": ["a", "b"]}, "damaged: 2"),
        ({"unused": {".heic file": 12}}, "not used: .heic file (12)"),
        ({"empty_classes": ["a", "b"]}, "empty classes: 'a', 'b'"),
        ({"unused": "x", "empty_classes": 3, "corrupt": "y"}, ""),
        (None, ""),
        ("notes", ""),
        ([1], ""),
    ],
)
def test_what_notes_say(notes: object, expected: str) -> None:
    assert about(notes) == expected


def test_class_names_are_compared_by_what_they_mean(make_folder: MakeFolder) -> None:
    root = make_folder({"train/caf\u00e9": 6, "train/dog": 6, "test/cafe\u0301": 3, "test/dog": 3})
    made = read(root)
    assert made.classes == ("caf\u00e9", "dog")


def test_bytes_that_are_no_text_are_shown_as_such(make_folder: MakeFolder) -> None:
    root = make_folder({"cats": 10, "dogs": 10})
    os.rename(root / "dogs", os.fsencode(root) + b"/b\xe9b\xe9")
    os.rename(root / "cats" / "0001.png", os.fsencode(root) + b"/cats/\xff.png")
    made = read(root)
    assert made.classes == ("b\\xe9b\\xe9", "cats")
    assert sum(sizes(made)) == 20
