"""hf/...: columns, splits and labels in memory, and the real download from a loopback hub."""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import forked
from hubstub import HubStub
from zoobench import datasets
from zoobench.datasets.ids import bytes_id
from zoobench.errors import BadData, MissingExtra, UserError
from zoobench.tasks.classification import labels_of
from zoobench.tasks.detection import boxes_of
from zoobench.tasks.multiple_choice import right_options_of
from zoobench.tasks.segmentation import masks_of

library = pytest.importorskip("datasets")

Picture = Callable[..., Image.Image]


def texts(start: str, many: int, names: tuple[str, ...] | None = None) -> Any:
    label = library.ClassLabel(names=list(names)) if names else library.Value("int64")
    features = library.Features({"text": library.Value("string"), "label": label})
    rows = {"text": [f"{start} {i}" for i in range(many)], "label": [i % 4 for i in range(many)]}
    return library.Dataset.from_dict(rows, features=features)


NAMES = ("World", "Sports", "Business", "Sci/Tech")


def test_a_catalogued_set_knows_its_columns(serve: Callable[..., list[Any]]) -> None:
    asked = serve({"train": texts("a", 80, NAMES), "test": texts("b", 20, NAMES)})
    ref = datasets.resolve("hf/ag_news")
    made = datasets.load(ref)
    assert asked == [(("fancyzhx/ag_news", None), {"revision": "main"})]
    assert made.classes == NAMES
    assert made.flags == ("derived-valid",)
    assert [len(s) for s in (made.train, made.valid, made.test)] == [72, 8, 20]
    assert made.test.read(5) == "b 5"
    assert labels_of(made.test).tolist() == [i % 4 for i in range(20)]
    assert pickle.loads(pickle.dumps(made)).train.read(3) == made.train.read(3)


def test_any_other_set_needs_its_columns(serve: Callable[..., list[Any]]) -> None:
    with pytest.raises(
        UserError, match=r"s: hf/me/mine is not in the catalogue.*hf/me/mine\?text="
    ):
        datasets.resolve("hf/me/mine", "s")
    asked = serve({"learn": texts("a", 80), "dev": texts("v", 8), "held": texts("b", 20)})
    name = "hf/me/mine@abc?text=text&label=label&config=en&train_split=learn&test_split=held"
    ref = datasets.resolve(name)
    assert ref.revision == "abc"
    made = datasets.load(ref)
    assert asked == [(("me/mine", "en"), {"revision": "abc"})]
    assert made.classes == ("0", "1", "2", "3")
    assert (len(made.valid), len(made.test)) == (20 - 12, 20)
    assert datasets.card(ref).modality == "text"


def test_pictures_are_named_by_their_own_bytes(
    serve: Callable[..., list[Any]], picture: Picture
) -> None:
    def encoded(seed: int) -> bytes:
        out = io.BytesIO()
        picture(seed).save(out, "PNG")
        return out.getvalue()

    def table(start: int) -> Any:
        rows = {
            "image": [{"bytes": encoded(start + i), "path": None} for i in range(12)],
            "labels": ["ab"[i % 2] for i in range(12)],
        }
        features = library.Features({"image": library.Image(), "labels": library.Value("string")})
        return library.Dataset.from_dict(rows, features=features)

    serve({"train": table(0), "validation": table(50), "test": table(100)})
    made = datasets.load("hf/beans")
    assert made.modality == "image"
    assert made.classes == ("a", "b")
    assert made.test.read(3).tobytes() == picture(103).tobytes()
    assert made.test.ids[3] == bytes_id(encoded(103))
    again = pickle.loads(pickle.dumps(made))
    assert again.valid.read(1).tobytes() == picture(51).tobytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf/ag_news?label=labl", "unknown column 'labl'. Did you mean 'label'?"),
        ("hf/ag_news?text=tekst", "unknown column 'tekst'. Did you mean 'text'?"),
        ("hf/ag_news?test_split=tests", "'tests'. Did you mean 'test'?"),
    ],
)
def test_what_is_not_there_is_named(
    serve: Callable[..., list[Any]], name: str, message: str
) -> None:
    serve({"train": texts("a", 80), "test": texts("b", 20)})
    with pytest.raises(BadData) as caught:
        datasets.load(datasets.resolve(name))
    assert message in str(caught.value)


def test_hidden_labels_and_absent_train_are_refused(serve: Callable[..., list[Any]]) -> None:
    hidden = library.Dataset.from_dict({"text": ["x", "y"], "label": [-1, -1]})
    serve({"train": texts("a", 80), "test": hidden})
    with pytest.raises(BadData, match="the labels of test are hidden"):
        datasets.load("hf/ag_news")
    serve({"test": texts("b", 20)})
    with pytest.raises(BadData, match="no train split among test"):
        datasets.load("hf/ag_news")


def test_rows_that_cannot_be_used_are_counted_and_over_a_tenth_refused(
    serve: Callable[..., list[Any]],
) -> None:
    def holed(start: int, many: int, holes: int) -> Any:
        words = [None if i < holes else f"{start} {i}" for i in range(many)]
        return library.Dataset.from_dict({"text": words, "label": [i % 4 for i in range(many)]})

    name = "hf/me/mine?text=text&label=label"
    serve({"train": holed(0, 80, 8), "test": holed(1, 20, 2)})
    assert datasets.load(datasets.resolve(name)).notes["corrupt"] == 10
    serve({"train": holed(0, 80, 9), "test": holed(1, 20, 2)})
    told = r"11 of 100 rows cannot be used.*train, row 1: the text is empty.*allow_unused = true"
    with pytest.raises(BadData, match=told):
        datasets.load(datasets.resolve(name))
    allowed = datasets.resolve(f"{name}&allow_unused=true")
    assert datasets.load(allowed).notes["corrupt"] == 11


def test_bad_options_and_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="Did you mean 'config'"):
        datasets.resolve("hf/ag_news?konfig=x")
    with pytest.raises(UserError, match="give text or image, not both"):
        datasets.resolve("hf/ag_news?text=a&image=b")
    with pytest.raises(UserError, match="max_train = 3 of hf/ag_news is fewer than its 4"):
        datasets.resolve("hf/ag_news?max_train=3")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"s: hf/imdb needs datasets.*zoobench\[hub\]"):
        datasets.resolve("hf/imdb", "s")


def test_available_looks_into_the_librarys_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    assert datasets.available("hf/ag_news")[0] is False
    (tmp_path / "datasets" / "fancyzhx___ag_news").mkdir(parents=True)
    assert datasets.available("hf/ag_news") == (True, f"in {tmp_path / 'datasets'}")


CHILD = """
import sys
from zoobench import datasets
from zoobench.errors import BadData
name = "hf/me/toy?text=text&label=label"
ref = datasets.pin(datasets.resolve(name))
try:
    made = datasets.load(ref)
except BadData as error:
    print("BadData", error)
else:
    print(datasets.available(name)[0], len(made.train), len(made.valid), len(made.test),
          made.test.fingerprint, ref.revision)
"""


def child(env: Mapping[str, str]) -> str:
    inherited = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    done = forked.run("-c", CHILD, env={**inherited, **env})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def csv_of(start: str, many: int) -> bytes:
    rows = "".join(f"{start} {i},{'ab'[i % 2]}\n" for i in range(many))
    return f"text,label\n{rows}".encode()


def test_the_real_library_downloads_caches_and_then_works_offline(tmp_path: Path) -> None:
    files = {"train.csv": csv_of("a", 40), "test.csv": csv_of("b", 10)}
    with HubStub({"me/toy": files}, kind="datasets") as hub:
        env = hub.env(tmp_path)
        first = child(env)
        assert first.startswith("True 36 4 10 ")
        assert first.endswith(f" {hub.commit('me/toy')}"), "not pinned to its commit"
        asked = len(hub.requests)
        assert child({**env, "HF_HUB_OFFLINE": "1"}) == first
        assert len(hub.requests) == asked
        absent = child({**hub.env(tmp_path / "other"), "HF_HUB_OFFLINE": "1"})
        assert absent.startswith("BadData hf/me/toy: could not be fetched from the hub (me/toy): ")


def png(seed: int, mask: bool = False) -> dict[str, Any]:
    rng, buffer = np.random.default_rng([seed, mask]), io.BytesIO()
    pixels = rng.integers(0, 4, (8, 12)) if mask else rng.integers(0, 256, (8, 12, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def scenes(start: int, many: int) -> Any:
    features = library.Features({"image": library.Image(), "annotation": library.Image()})
    rows = {"image": [png(start + i) for i in range(many)],
            "annotation": [png(start + i, True) for i in range(many)]}  # fmt: skip
    return library.Dataset.from_dict(rows, features=features)


def test_masks_in_a_column(serve: Callable[[Mapping[str, Any]], list[Any]]) -> None:
    serve({"train": scenes(0, 20), "test": scenes(50, 10)})
    name = "hf/user/scenes?image=image&label=annotation&task=segmentation"
    made = datasets.load(datasets.resolve(name))
    assert (made.task, len(made.test)) == ("segmentation", 10)
    assert made.classes == ("class 0", "class 1", "class 2", "class 3")
    whole = [np.asarray(Image.open(io.BytesIO(png(50 + i, True)["bytes"]))) for i in range(10)]
    for i in range(10):
        read = masks_of(made.test).read(i)
        assert any(np.array_equal(read, one) for one in whole)
    names = "&names=sky,sea,land&reduce_labels=true"
    reduced = datasets.load(datasets.resolve(name + names))
    assert reduced.classes == ("sky", "sea", "land")
    table = np.array([255, 0, 1, 2], dtype=np.uint8)
    read = masks_of(reduced.test).read(0)
    assert any(np.array_equal(read, table[one]) for one in whole)


def things(start: int, many: int, bad: int = -1) -> Any:
    names = library.ClassLabel(names=["mask", "glove", "boot"])
    features = library.Features({
        "image": library.Image(),
        "objects": {"bbox": library.Sequence(library.Sequence(library.Value("float32"), length=4)),
                    "category": library.Sequence(names)},
    })  # fmt: skip
    objects: list[dict[str, list[Any]]] = [
        {"bbox": [[1, 2, 4, 5], [0, 0, 90 if i == bad else 3, 3]], "category": [i % 2, 1]}
        for i in range(many)
    ]
    objects[1] = {name: column * 2 for name, column in objects[1].items()}  # each box twice
    objects[2] = {"bbox": [], "category": []}
    rows = {"image": [png(start + i) for i in range(many)], "objects": objects}
    return library.Dataset.from_dict(rows, features=features)


def test_boxes_in_a_column(serve: Callable[[Mapping[str, Any]], list[Any]]) -> None:
    serve({"train": things(0, 20, bad=3), "test": things(50, 10)})
    name = "hf/user/things?image=image&label=objects&task=detection"
    made = datasets.load(datasets.resolve(name))
    assert (made.task, made.classes) == ("detection", ("mask", "glove", "boot"))
    assert len(made.train) + len(made.valid) == 19
    told = {"boxes_given_twice": 4, "pictures_without_objects": 2, "classes_not_in_train": ["boot"]}
    assert told.items() <= made.notes.items()  # as a folder's
    (why,) = made.notes["corrupt_files"]
    assert why.startswith("train, row 4: its box (0, 0, 90, 3) of 'glove' lies outside")
    assert boxes_of(made.test).pictures[0].boxes.tolist() == [[1, 2, 5, 7], [0, 0, 3, 3]]
    corners = datasets.load(datasets.resolve(name + "&box_format=xyxy"))
    assert boxes_of(corners.test).pictures[0].boxes.tolist() == [[1, 2, 4, 5], [0, 0, 3, 3]]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            "image=image&label=objects&task=segmentation",
            "column 'objects' holds dict, which are no",
        ),
        ("image=image&label=image2&task=detection", "column 'image2'"),
        ("text=image&label=objects&task=detection", "Known: classification"),
        ("image=image&label=objects&task=detektion", "Did you mean 'detection'"),
        ("image=image&label=objects&task=detection&box_format=yxyx", "Did you mean 'xyxy'"),
        ("image=image&label=objects&task=segmentation&reduce_labels=1", "true or false"),
        ("image=image&label=objects", "which are no labels"),
    ],
)
def test_mistakes_in_dense_hub_sets_are_named(
    options: str, why: str, serve: Callable[[Mapping[str, Any]], list[Any]]
) -> None:
    serve({"train": things(0, 9), "test": things(50, 9)})
    with pytest.raises((BadData, UserError)) as caught:
        datasets.load(datasets.resolve(f"hf/user/things?{options}"))
    assert why in str(caught.value)


@pytest.mark.parametrize("name", ["me/prose", "ag_news"])
def test_texts_of_a_set_are_documents(name: str, serve: Callable[..., list[Any]]) -> None:
    asked = serve({"train": texts("a", 80, NAMES), "test": texts("b", 20, NAMES)})
    ref = datasets.resolve(f"hf/{name}?text=text&task=language-modelling")
    made = datasets.load(ref)
    assert asked[0][0][0] == {"me/prose": "me/prose", "ag_news": "fancyzhx/ag_news"}[name]
    assert datasets.card(ref).task == made.task == "language-modelling"
    assert sorted(made.test.read(i) for i in range(20)) == sorted(f"b {i}" for i in range(20))
    with pytest.raises(UserError, match=r"give the option text.*text=COLUMN"):
        datasets.resolve(f"hf/{name}?task=language-modelling")


def test_options_of_a_set_are_lists_or_lists_with_labels(serve: Callable[..., list[Any]]) -> None:
    plain = {"q": [f"Is it {i}?" for i in range(9)], "c": [["yes", "no"]] * 9, "a": [1] * 9}
    named = plain | {"c": [{"text": ["yes", "no"], "label": ["1", "2"]}] * 9, "a": ["2"] * 9}
    for rows in (plain, named):
        test = {**rows, "q": [f"Was it {i}?" for i in range(9)]}
        serve({"train": library.Dataset.from_dict(rows), "test": library.Dataset.from_dict(test)})
        name = "hf/me/quiz?question=q&choices=c&label=a&task=multiple-choice"
        made = datasets.load(datasets.resolve(name + "&max_test=4"))
        assert made.test.read(0).options == ("yes", "no")
        assert right_options_of(made.test).right.tolist() == [1] * 4
