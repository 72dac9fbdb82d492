"""Shifted test splits: the formulas, what is kept, and what is refused."""

from __future__ import annotations

import colorsys
import pickle

import numpy as np
import pytest
from PIL import Image

from zoobench import datasets
from zoobench.datasets import shift
from zoobench.errors import BadData, UserError
from zoobench.runs import planning, suite
from zoobench.schema import Ref
from zoobench.tasks.classification import labels_of

MNIST = "packaged/mnist-5k?max_train=100&max_valid=50&max_test=40"


def picture(side: int = 28, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def spoilt(one: Image.Image, kind: str, severity: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(shift.corrupt(one, kind, severity, rng), dtype=float)


@pytest.mark.parametrize("kind", sorted(shift.CORRUPTIONS))
@pytest.mark.parametrize("side", [28, 160])
def test_a_higher_severity_changes_more(kind: str, side: int) -> None:
    smooth = np.linspace(40, 200, side)[:, None] * np.ones(side)
    one = Image.fromarray(np.stack([smooth, smooth.T, smooth / 2], 2).astype(np.uint8))
    one.paste((250, 20, 20), (side // 4, side // 4, side // 2, side // 2))
    changes = [np.abs(spoilt(one, kind, s) - np.asarray(one)).mean() for s in range(1, 6)]
    assert changes == sorted(changes)
    assert changes[0] > 0


def test_the_formulas() -> None:
    one = picture()
    x = np.asarray(one, dtype=float)
    mean = x.mean(axis=(0, 1))
    assert spoilt(one, "contrast", 3) == pytest.approx((x - mean) * 0.4 + mean, abs=0.51)
    grey = Image.new("RGB", (28, 28), (128, 128, 128))
    noise = spoilt(grey, "gaussian_noise", 2) - 128
    assert noise.std() == pytest.approx(0.06 * 255, rel=0.05)
    photons = spoilt(grey, "shot_noise", 5) - 128
    assert photons.std() == pytest.approx(255 * np.sqrt(128 / 255 / 50), rel=0.05)
    assert spoilt(grey, "gaussian_blur", 5) == pytest.approx(128.0)
    for red, green, blue in ((200, 30, 90), (0, 0, 0), (10, 250, 10)):
        dot = Image.new("RGB", (4, 4), (red, green, blue))
        h, s, v = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        expected = 255 * np.array(colorsys.hsv_to_rgb(h, s, min(v + 0.3, 1)))
        assert spoilt(dot, "brightness", 5)[0, 0] == pytest.approx(expected, abs=0.51)


def test_only_the_test_split_is_corrupted_and_always_in_the_same_way() -> None:
    clean = datasets.load(datasets.resolve(MNIST))
    ref = datasets.resolve(f"{MNIST}&corrupt=gaussian_noise&severity=4")
    spoilt = datasets.load(ref)
    assert spoilt.train.fingerprint == clean.train.fingerprint
    assert spoilt.valid.fingerprint == clean.valid.fingerprint
    assert spoilt.test.fingerprint != clean.test.fingerprint
    assert (labels_of(spoilt.test) == labels_of(clean.test)).all()
    first, again = spoilt.test.read(3), pickle.loads(pickle.dumps(spoilt.test)).read(3)
    assert first.tobytes() == again.tobytes() != clean.test.read(3).tobytes()
    assert Ref.parse(str(ref)) == ref


def test_another_dataset_gives_its_test_split() -> None:
    ref = datasets.resolve(Ref.parse(MNIST).with_options(test_from="packaged/digits"))
    assert str(ref.option("test_from")).startswith("packaged/digits@")
    splits = datasets.load(ref)
    digits = datasets.load("packaged/digits")
    assert splits.test.fingerprint == digits.test.fingerprint
    assert splits.test.read(0).size == (8, 8)
    assert Ref.parse(str(ref)) == ref
    other = datasets.resolve(Ref.parse("packaged/digits?classes=5").with_options(test_from=MNIST))
    with pytest.raises(BadData, match="cannot be judged on the other"):
        datasets.load(other)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"corrupt": "gausian_noise"}, "Did you mean 'gaussian_noise'"),
        ({"corrupt": "jpeg", "severity": 6}, "must be 1 to 5, not 6"),
        ({"severity": 2}, "says nothing without corrupt"),
        ({"test_from": "packaged/digits", "corrupt": "jpeg"}, "two shifts"),
        ({"test_from": "packaged/digts"}, "Did you mean 'packaged/digits'"),
    ],
)
def test_what_makes_no_sense_is_refused_early(options: dict[str, str | int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        datasets.resolve(Ref.parse("packaged/mnist-5k").with_options(**options), "suite")
    with pytest.raises(UserError, match="corrupt is for pictures"):
        datasets.resolve("packaged/word-polarity?corrupt=jpeg")


def test_the_shift_suite_has_both_ways_and_five_severities() -> None:
    cells = planning.plan(suite.read("shift"))
    shifted = [c for c in cells if shift.is_shifted(c.dataset)]
    kinds = {shift.named(c.dataset) for c in shifted}
    assert len([k for k in kinds if k[1]]) == 25
    assert len([k for k in kinds if k[1] is None]) == 2
    assert not [
        c for c in shifted if c.model.source == "control" or "weights=random" in c.model.text
    ]
    assert {shift.clean(c.dataset) for c in shifted} <= {c.dataset for c in cells}
