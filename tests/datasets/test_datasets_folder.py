"""A folder of pictures: layouts, damage, and every mistake with its message."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from zoobench import datasets
from zoobench.errors import BadData, UserError
from zoobench.schema import Ref, Value

MakeFolder = Callable[[Mapping[str, int]], Path]
Picture = Callable[..., Image.Image]


def ref_to(root: Path, **options: Value) -> Ref:
    return Ref("folder", "pets").with_options(path=str(root), **options)


def refused(root: Path, **options: Value) -> str:
    with pytest.raises(UserError) as caught:
        datasets.resolve(ref_to(root, **options), "suite.toml: datasets[0]")
    message = str(caught.value)
    assert message.startswith("suite.toml: datasets[0]: ")
    return message


def test_classes_without_splits(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 20, "dog": 10, "emu": 5})
    ref = datasets.resolve(ref_to(root))
    made = datasets.load(ref)
    assert made.classes == ("cat", "dog", "emu")
    assert made.flags == ("derived-test", "derived-valid")
    assert (len(made.test), len(made.valid), len(made.train)) == (4 + 2 + 1, 2 + 1 + 1, 24)
    assert made.train.read(0).mode == "RGB"
    assert datasets.card(ref).modality == "image"
    assert datasets.available(ref) == (True, f"the folder {root}")


def test_official_splits_in_all_their_spellings(make_folder: MakeFolder) -> None:
    root = make_folder({f"{s}/{c}": 3 for s in ("Train", "val", "test") for c in ("a", "b")})
    made = datasets.load(datasets.resolve(ref_to(root)))
    assert made.flags == ()
    assert [len(s) for s in (made.train, made.valid, made.test)] == [6, 6, 6]


def test_a_class_that_is_called_test_is_a_class_where_that_is_said(make_folder: MakeFolder) -> None:
    root = make_folder({"test": 4, "valid": 4})
    assert 'classes = "all"' in refused(root)
    made = datasets.load(datasets.resolve(ref_to(root, classes="all")))
    assert made.classes == ("test", "valid")


def test_the_revision_is_the_content_and_loading_checks_it(
    make_folder: MakeFolder, picture: Picture
) -> None:
    root = make_folder({"a": 5, "b": 5})
    ref = datasets.resolve(ref_to(root))
    assert datasets.resolve(ref_to(root)) == ref
    picture(777).save(root / "a" / "0000.png")
    assert datasets.resolve(ref_to(root)).revision != ref.revision
    with pytest.raises(BadData, match=r"not those that .* was pinned to"):
        datasets.load(ref)
    with pytest.raises(UserError, match="is pinned to"):
        datasets.resolve(ref)


def test_the_name_alone_may_be_the_path(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"a": 5, "b": 5})
    monkeypatch.chdir(root.parent)
    ref = datasets.resolve("folder/./pets")
    assert (ref.id, ref.option("path")) == ("folder/pets", "./pets")
    assert len(datasets.load(ref).train) == 6


def test_splits_and_their_readers_cross_processes(make_folder: MakeFolder) -> None:
    made = datasets.load(datasets.resolve(ref_to(make_folder({"a": 5, "b": 5}))))
    again = pickle.loads(pickle.dumps(made))
    assert again.train.read(1).tobytes() == made.train.read(1).tobytes()
    assert again.fingerprints == made.fingerprints


def test_renaming_files_changes_no_split(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 12, "b": 12})
    before = datasets.load(datasets.resolve(ref_to(root)))
    for nth, path in enumerate(sorted(root.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"renamed-{nth}.png"))
    after = datasets.load(datasets.resolve(ref_to(root)))
    assert after.fingerprints == before.fingerprints


def test_damage_is_named_and_left_out(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 101, "b": 101})
    bad = root / "a" / "0007.png"
    bad.write_bytes(bad.read_bytes()[:60])
    made = datasets.load(datasets.resolve(ref_to(root)))
    assert made.notes["corrupt"] == 1
    assert made.notes["corrupt_files"][0].startswith("a/0007.png: ")
    assert len(made.train) + len(made.valid) + len(made.test) == 201


def test_more_than_a_tenth_of_damage_is_an_error_unless_allowed(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 20, "b": 20})
    bad = [root / "b" / f"000{i}.png" for i in range(5)]
    for path in bad:
        path.write_bytes(path.read_bytes()[:60])
    ref = datasets.resolve(ref_to(root))  # only loading decodes every picture
    with pytest.raises(BadData, match=r"5 of 40 pictures cannot be used.*b/0000.png.*allow_unused"):
        datasets.load(ref)
    allowed = datasets.resolve(ref_to(root, allow_unused=True))
    assert datasets.load(allowed).notes["corrupt"] == 5
    for path in bad:
        path.write_bytes(b"")  # an empty file is seen at once
    assert "b/0000.png: the file is empty" in refused(root)


def test_other_and_hidden_files_are_ignored_and_nested_ones_found(
    make_folder: MakeFolder,
) -> None:
    root = make_folder({"a": 4, "b": 4, "b/more": 2, ".hidden": 3})
    (root / "a" / "notes.txt").write_text("x")
    (root / "a" / ".DS_Store").write_text("x")
    made = datasets.load(datasets.resolve(ref_to(root)))
    assert made.classes == ("a", "b")
    assert len(made.train) + len(made.valid) + len(made.test) == 10
    assert made.notes["unused"] == {".txt file": 1}


def test_mistakes_are_found_before_any_work(
    make_folder: MakeFolder, tmp_path: Path, picture: Picture
) -> None:
    assert "there is no such folder" in refused(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    assert "is a file, not a folder" in refused(tmp_path / "file")
    empty = tmp_path / "empty"
    (empty / "cat").mkdir(parents=True)
    assert "no pictures found. Expected" in refused(empty)
    root = make_folder({"cat": 9})
    assert "only one class ('cat')" in refused(root)
    make_folder({"dog": 2})
    assert "class 'dog' has 2 pictures, fewer than the 3" in refused(root)
    for i in range(3):
        picture(99).save(root / "dog" / f"{i:04}.png")  # three files, one picture
    assert "class 'dog' has fewer than 3 different examples" in refused(root)
    make_folder({"cat": 9, "dog": 5})
    assert "max_train = 1" in refused(root, max_train=1)
    assert "has 2 classes, not 3" in refused(root, classes=3)


def test_a_label_in_test_that_train_never_saw(make_folder: MakeFolder) -> None:
    root = make_folder({"train/a": 4, "train/b": 4, "test/a": 1, "test/emu": 1})
    message = refused(root)
    assert "class 'emu' has pictures in test but none in train" in message
    assert "Classes in train: a, b" in message


def test_an_unknown_option_says_which_is_meant(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 4, "b": 4})
    with pytest.raises(UserError, match="Did you mean 'path'"):
        datasets.resolve(Ref("folder", "pets").with_options(paht=str(root)))
