"""The same example in other bytes: one of the pair goes, and nothing can be learnt by heart."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from zoobench import datasets
from zoobench.datasets import images, twins
from zoobench.datasets.ranges import Grey
from zoobench.interfaces import Splits
from zoobench.schema import Ref
from zoobench.tasks.classification import labels_of

Picture = Callable[..., Image.Image]


def folder(root: Path) -> Splits:
    return datasets.load(datasets.resolve(Ref("folder", "pets").with_options(path=str(root))))


def nearest(made: Splits) -> float:
    """Accuracy on test of its nearest training example: learning by heart."""
    known = [np.asarray(made.train.read(i), dtype=float) for i in range(len(made.train))]
    hits = []
    for i, label in enumerate(labels_of(made.test)):
        asked = np.asarray(made.test.read(i), dtype=float)
        at = int(np.argmin([np.abs(one - asked).mean() for one in known]))
        hits.append(labels_of(made.train)[at] == label)
    return float(np.mean(hits))


def saved_again(root: Path, picture: Picture, count: int = 200) -> Path:
    """Pictures of labels by a coin's toss, each saved three times in other bytes."""
    coins = np.random.default_rng(0).integers(0, 2, count)
    said = PngInfo()
    said.add_text("Comment", "exported twice")
    for i, coin in enumerate(coins):
        to = root / "ab"[coin]
        to.mkdir(parents=True, exist_ok=True)
        picture(i).save(to / f"{i}.png", compress_level=1)
        picture(i).save(to / f"{i} again.png", compress_level=9, pnginfo=said)
        picture(i).save(to / f"{i}.bmp")
    return root


def test_pictures_saved_again_count_once_and_random_labels_score_at_chance(
    tmp_path: Path, picture: Picture
) -> None:
    made = folder(saved_again(tmp_path / "pets", picture))
    assert made.notes["duplicates"] == 400
    assert "near_duplicates" not in made.notes
    assert len(made.train) + len(made.valid) + len(made.test) == 200
    assert abs(nearest(made) - 0.5) < 0.25  # 40 coins; before, every one of them was known
    assert made.train.ids == tuple(sorted(made.train.ids))


def test_twins_in_official_splits_leave_train_and_valid_and_never_test(
    tmp_path: Path, picture: Picture
) -> None:
    for nth, name in enumerate(f"{s}/{c}" for s in ("train", "valid", "test") for c in "ab"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(6):
            picture(10 * nth + i).save(tmp_path / name / f"{i}.png")
    picture(40).save(tmp_path / "train/a/test.bmp")
    picture(40).save(tmp_path / "valid/a/test.bmp")
    picture(20).save(tmp_path / "train/b/valid.bmp")  # and it is of class a there
    made = folder(tmp_path)
    assert [len(s) for s in (made.train, made.valid, made.test)] == [12, 12, 12]
    assert made.notes["duplicates_across_splits"] == 3
    assert made.notes["conflicting_labels"] == 1


def test_pictures_that_look_alike_are_counted_and_stay(tmp_path: Path, picture: Picture) -> None:
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
    for i in range(40):
        pixels = np.asarray(picture(i, 32)).copy()
        Image.fromarray(pixels).save(tmp_path / "test" / "ab"[i % 2] / f"{i}.png")
        if i < 10:
            pixels[5, 5, 1] ^= 1
            Image.fromarray(pixels).save(tmp_path / "train" / "ab"[i % 2] / f"one {i}.png")
        elif i < 20:
            near = tmp_path / "train" / "ab"[i % 2] / f"{i}.jpg"
            picture(i, 32).save(near, quality=90)
        picture(1000 + i, 32).save(tmp_path / "train" / "ab"[i % 2] / f"{i}.png")
    made = folder(tmp_path)
    assert made.notes == {"near_duplicates": 20}
    assert len(made.train) + len(made.valid) == 60
    assert len(made.test) == 40


def test_texts_are_twins_whatever_their_blanks_and_unicode_form(tmp_path: Path) -> None:
    coins = np.random.default_rng(1).integers(0, 2, 100)
    rows = [[f"Café\N{NO-BREAK SPACE}number {i}", "ab"[coin]] for i, coin in enumerate(coins)]
    again = [
        [f" Cafe\N{COMBINING ACUTE ACCENT}  number {i}\n", label]
        for i, (_, label) in enumerate(rows)
    ]
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["text", "label"], *rows, *again, ["CAFÉ number 1", "a"], ["café number 2 ", "b"],
             ["x ", "a"], ["x", "b"]]
        )  # fmt: skip
    ref = Ref("table", "t").with_options(path=str(tmp_path / "t.csv"), text="text", label="label")
    made = datasets.load(datasets.resolve(ref))
    assert made.notes == {"duplicates": 100, "conflicting_labels": 1}
    assert sum(map(len, (made.train, made.valid, made.test))) == 102, "case tells texts apart"


def test_a_picture_is_decoded_once(
    tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch, surroundings: Path
) -> None:
    root = saved_again(tmp_path / "pets", picture, 12)
    (root / "a" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    looked: list[Any] = []
    look = images.look

    def watched(source: bytes | str | Path, grey: Grey) -> tuple[bytes, str]:
        looked.append(source)
        return look(source, grey)

    monkeypatch.setattr(images, "look", watched)
    paths = sorted(str(path) for path in root.rglob("*.*"))
    first = twins.scan(paths, verify=True)
    assert len(looked) == len(paths)
    assert twins.scan(paths, verify=True) == first
    assert len(looked) == len(paths) + 1, "and a damaged one again"
    (kept,) = (surroundings / "looks").iterdir()
    kept.write_bytes(b"cut off")
    assert twins.scan(paths, verify=True) == first
    monkeypatch.setattr(twins, "KEPT", 3)
    for name in paths[:5]:
        twins.scan([name], verify=True)
    assert len(list(kept.parent.iterdir())) == 3, "the cache is bounded"


def test_a_picture_under_two_classes_is_said_before_a_run(
    tmp_path: Path, picture: Picture, caplog: pytest.LogCaptureFixture
) -> None:
    """One of 90: it is no damage, and yet nobody would otherwise learn why pictures are missing."""
    for number, name in enumerate(("cats", "dogs", "owls")):
        (tmp_path / name).mkdir()
        for i in range(30):
            picture(100 * number + i).save(tmp_path / name / f"{i}.png")
    (tmp_path / "dogs" / "cat.png").write_bytes((tmp_path / "cats" / "3.png").read_bytes())
    with caplog.at_level("WARNING"):
        made = folder(tmp_path)
    assert caplog.messages == ["folder/pets: the same example under several labels: 1"]
    assert len(made.train) + len(made.valid) + len(made.test) == 89
