"""Complete classifiers judged as they are: labels that mean classes, and what nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cells import cell, settings, write_suite
from tinyclassifiers import plant, tiny_classifier
from zoobench import datasets, methods, models
from zoobench.methods.as_is import UNKNOWN
from zoobench.methods.class_as_is import class_log_probs, meanings
from zoobench.runs import planning, suite
from zoobench.schema import Record
from zoobench.tasks.classification import labels_of
from zoobench.workers.runner import Bench

DATA = {
    "text": "synthetic/phrases?train=8&test=40", "image": "synthetic/stripes?train=8&test=40",
    "ast": "synthetic/tones?train=8&test=40",
}  # fmt: skip


def test_a_label_has_several_names_and_the_first_comes_first() -> None:
    theirs = ("Chicken, rooster", "Fowl", "Dog", "hound; Dog", "Cattle, bovinae", "Horn, siren")
    classes = ("dog", "rooster", "cow", "siren", "horn")
    assert meanings(theirs, classes) == [1, UNKNOWN, 0, UNKNOWN, UNKNOWN, 4]
    assert meanings(("NEGATIVE", "Positive"), ("pos", "neg")) == [1, 0]
    corgi = ("cardigan", "Cardigan, Cardigan Welsh corgi")
    assert meanings(corgi, ("cardigan", "Cardigan Welsh corgi")) == [0, 1]
    assert meanings(corgi, corgi) == [0, 1]
    assert meanings(corgi, ("cardigan", "wool")) == [0, UNKNOWN]
    said = meanings(theirs, classes, ["Cattle, bovinae=cow", "hound; Dog=dog"])
    assert said == [1, UNKNOWN, 0, 0, 2, 4]


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_probabilities_of_one_classs_labels_are_summed(multilabel: bool) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, (5, 4))
    numbers = [2, UNKNOWN, 0, 2]
    found = class_log_probs(torch.from_numpy(scores).float(), numbers, 3, multilabel).numpy()
    each = 1 / (1 + np.exp(-scores)) if multilabel else np.exp(scores)
    known = np.stack([each[:, 2], each[:, 0] + each[:, 3]], axis=1)
    want = known / known.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(found[:, [0, 2]]), want, rtol=1e-5)
    assert np.isneginf(found[:, 1]).all()
    huge = class_log_probs(torch.tensor([[900.0, -900.0]]), [0, 1], 2, multilabel)
    assert huge.isfinite().all()


def judged(folder: Path, data: str, **params: Any) -> Record:
    ref = models.resolve(f"classifier/mine?weights={folder}")
    name = datasets.resolve(data).text
    return Bench(settings()).run(cell(ref.text, name, "as-is", **params)).record


@pytest.mark.parametrize("kind", sorted(DATA))
def test_what_is_said_is_judged_over_all_classes_and_over_the_known(
    kind: str, tmp_path: Path
) -> None:
    splits = datasets.load(datasets.resolve(DATA[kind]))
    truth = labels_of(splits.test)
    known = splits.classes[1:]
    module = tiny_classifier(kind, tmp_path, ["something else", *known])
    plant(tmp_path, module, [9.0, 0.0, 3.0, *[1.0] * (len(known) - 2)])
    record = judged(tmp_path, DATA[kind])
    assert record.status == "ok", record.error
    # Its best label is none of the data's: the next best is the answer.
    assert record.value("accuracy") == pytest.approx(np.mean(truth == 2))
    assert record.value("accuracy_known") == pytest.approx(np.mean(truth[truth > 0] == 2))
    part, whole = record.get("accuracy_known"), record.get("accuracy")
    assert part is not None
    assert whole is not None
    assert (part.n, whole.n) == (int((truth > 0).sum()), len(truth))
    assert part.low is not None
    assert part.high is not None
    assert part.low <= part.value <= part.high
    assert record.value("classes_known") == len(known)
    assert record.chosen["unknown_classes"] == [splits.classes[0]]
    assert "classes-unknown" in record.flags
    assert record.value("logme") is None, "its scores are no features"
    assert record.value("params")
    assert record.value("extract_seconds") is not None
    assert record.value("total_seconds") is not None


def test_a_head_that_knows_all_is_right_where_its_labels_say_so(tmp_path: Path) -> None:
    splits = datasets.load(datasets.resolve(DATA["text"]))
    module = tiny_classifier("text", tmp_path, [f"LABEL_{k}" for k in range(6)])
    plant(tmp_path, module, [0.0, 1.0, 1.0, 0.0, 1.5, 0.0])
    pairs = [f"LABEL_{k}={name}" for k, name in enumerate(splits.classes)]
    several = [*pairs, f"LABEL_4={splits.classes[0]}", f"LABEL_5={splits.classes[0]}"]
    truth = labels_of(splits.test)
    four = judged(tmp_path, DATA["text"], labels=several)
    assert four.status == "ok", four.error
    assert four.value("accuracy") == pytest.approx(np.mean(truth == 0)), "three labels together"
    assert four.value("accuracy_known") is None
    assert "classes-unknown" not in four.flags
    plain = judged(tmp_path, DATA["text"], labels=pairs)
    assert plain.value("accuracy") == pytest.approx(np.mean(truth == 1)), "of equals the first"
    assert plain.key != four.key


def test_none_known_and_wrong_pairs_are_said(tmp_path: Path) -> None:
    tiny_classifier("image", tmp_path, ["cat", "dog"])
    record = judged(tmp_path, DATA["image"])
    assert record.status == "unsupported"
    assert "it knows none of the classes class0" in str(record.error)
    assert "its own labels are cat, dog" in str(record.error)
    wrong = judged(tmp_path, DATA["image"], labels=["cow=class0"])
    assert wrong.status == "error"
    assert "labels: 'cow' is none of 'cat', 'dog'" in str((wrong.error or {})["message"])


def test_a_suite_has_it_judged_by_as_is_alone(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny_classifier("image", folder, ["class0", "class1"])
    model = f"classifier/mine?weights={folder}"
    path = write_suite(tmp_path / "s.toml", models=(model,), methods=("as-is", "knn"))
    spec = suite.read(str(path))
    assert [one.method for one in planning.plan(spec)] == ["as-is"]
    assert "is a complete model: as-is judges it" in planning.left_out(spec)[0]
    few = write_suite(
        tmp_path / "f.toml", models=(model,), methods=("as-is",), rest="shots = [1, 2]"
    )
    (alone,) = planning.plan(suite.read(str(few)))
    assert alone.shots is None, "nothing is learned, from few examples or many"
    path = write_suite(tmp_path / "b.toml", methods=("as-is",))
    assert "synthetic/gabor is a backbone" in planning.left_out(suite.read(str(path)))[0]
    assert "classification" in methods.served("as-is")


def test_a_network_of_imagenet_knows_a_cat_a_cup_and_a_rocket(tmp_path: Path) -> None:
    """Whole photographs of scikit-image's, mirrored and cut; random weights do not know them."""
    skimage = pytest.importorskip("skimage")
    from PIL import Image, ImageOps

    photos = {"cat": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg"}
    for name, file in photos.items():
        whole = Image.open(Path(skimage.__file__).parent / "data" / file).convert("RGB")
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for number in range(2):
            cut = ImageOps.crop(whole, 20 * number).resize((256, 224))
            cut.save(folder / f"{number}.png")
            ImageOps.mirror(cut).save(folder / f"{number}m.png")
    labels = [
        "Egyptian cat=cat", "tabby, tabby cat=cat", "tiger cat=cat", "espresso=coffee",
        "cup=coffee", "missile=rocket", "projectile, missile=rocket", "space shuttle=rocket",
    ]  # fmt: skip
    data = datasets.resolve(f"folder/photos?path={tmp_path / 'data'}").text
    found = {}
    for weights in ("", "?weights=random"):
        ref = models.resolve(f"classifier/packaged/efficientnet-lite0{weights}")
        record = Bench(settings()).run(cell(ref.text, data, "as-is", labels=labels)).record
        assert record.status == "ok", record.error
        found[weights] = record.value("accuracy") or 0.0
    assert found[""] == 1.0
    assert found["?weights=random"] < 0.8
