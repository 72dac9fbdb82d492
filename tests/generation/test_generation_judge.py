"""Folders of generated pictures beside real ones: real digits, noise, copies, pairs, mistakes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from skimage.metrics import structural_similarity

from hostile import Said
from zoobench import datasets, models
from zoobench.errors import UserError
from zoobench.generation import folders
from zoobench.generation.judge import Judgement, judge, model_of
from zoobench.generation.perceptual import lpips_distance
from zoobench.interfaces import Split
from zoobench.schema import Measurement
from zoobench.workers.loaded import feature_source

Zoobench = Callable[..., Said]

QUICK = "synthetic/gabor"


def save(split: Split, rows: Sequence[int], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for place, row in enumerate(rows):
        split.read(row).save(folder / f"{place:03}.png")
    return folder


def noise(folder: Path, many: int = 10, seed: int = 0, side: int = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for place in range(many):
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{place:03}.png")
    return folder


@pytest.fixture(scope="module")
def digits() -> Split:
    """MNIST's."""
    return datasets.load(datasets.resolve("packaged/mnist-5k")).train


@pytest.fixture(scope="module")
def real(digits: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(digits, range(100), tmp_path_factory.mktemp("digits") / "real")


def judged(
    samples: Path, reference: Path, train: Path | None = None, paired: bool = False
) -> Judgement:
    given = {folders.SAMPLES: samples, folders.REFERENCE: reference}
    if train is not None:
        given[folders.TRAIN] = train
    model = model_of("packaged/efficientnet-lite0?input_size=64")
    return judge(folders.read(given), model, feature_source, paired, "cpu")


def number(found: Sequence[Measurement], name: str) -> Measurement:
    return next(one for one in found if one.metric == name)


def test_real_digits_are_at_the_floor_and_copies_are_named(
    digits: Split, real: Path, tmp_path: Path
) -> None:
    samples = save(digits, range(100, 196), tmp_path / "samples")
    digits.read(7).save(samples / "same.bmp")
    digits.read(8).resize((45, 45), Image.Resampling.BICUBIC).save(samples / "larger.png")
    digits.read(9).save(samples / "lossy.jpg", quality=70)
    found = judged(samples, real)
    kid, floor = number(found.measurements, "kid"), number(found.floor, "kid")
    for one in (kid, floor):
        assert one.low is not None
        assert one.high is not None
        assert one.low < 0 < one.high
    assert number(found.measurements, "sample_precision").value > 0.6
    assert number(found.measurements, "sample_recall").value > 0.6
    assert found.neighbours is not None
    assert {(one.sample, one.picture, one.copy) for one in found.neighbours.copies} == {
        ("same.bmp", "007.png", "pixels"),
        ("larger.png", "008.png", "thumbnail"),
        ("lossy.jpg", "009.png", "thumbnail"),
    }
    assert found.missing["fid"] == (
        "FID needs 12,800 pictures of each set (10 for each of 1,280 features), got 99 and 100"
    )


def test_noise_and_a_collapsed_generator_are_far_above_the_floor(
    digits: Split, real: Path, tmp_path: Path
) -> None:
    far = judged(noise(tmp_path / "noise", 30, side=28), real)
    kid, floor = number(far.measurements, "kid"), number(far.floor, "kid")
    assert kid.low is not None
    assert floor.high is not None
    assert kid.low > 10 * floor.high
    assert number(far.measurements, "sample_precision").value == 0
    assert far.neighbours is not None
    assert not far.neighbours.copies
    same = judged(save(digits, [200] * 20 + [201] * 20, tmp_path / "same"), real)
    assert same.folders["samples"].repeated == 38
    assert number(same.measurements, "sample_recall").value < 0.5
    low = number(same.measurements, "sample_precision").low
    assert low is not None
    assert low < 0.4, "twenty of one picture are one unit"


def test_copies_are_looked_for_in_train_where_it_is_given(real: Path, tmp_path: Path) -> None:
    samples = noise(tmp_path / "samples", 9)
    train = noise(tmp_path / "train", 12, seed=1)
    Image.open(train / "004.png").save(samples / "deep.png")
    Image.open(real / "003.png").save(samples / "other.png")
    (train / "in").mkdir()
    (train / "004.png").rename(train / "in" / "it.png")
    (train / "005.png").write_bytes((train / "in" / "it.png").read_bytes())  # a twin hides nothing
    found = judged(samples, real, train).neighbours
    assert found is not None
    assert [(one.sample, one.copy) for one in found.copies] == [("deep.png", "pixels")]
    assert found.copies[0].picture in ("005.png", "in/it.png")


def test_pairs_are_scored_as_scikit_image_scores_them(tmp_path: Path) -> None:
    reference = noise(tmp_path / "reference", 5, side=16)
    samples = tmp_path / "samples"
    samples.mkdir()
    expected: list[float] = []
    for path in sorted(reference.iterdir()):
        true = np.asarray(Image.open(path))
        made = np.clip(true.astype(int) + 20 * (len(expected) % 2), 0, 255).astype(np.uint8)
        Image.fromarray(made).save(samples / f"{path.stem}.bmp")
        expected.append(
            structural_similarity(
                true / 255, made / 255, gaussian_weights=True, sigma=1.5, channel_axis=2,
                use_sample_covariance=False, data_range=1,
            )
        )  # fmt: skip
    found = judged(samples, reference, paired=True)
    assert [one.ssim for one in found.pairs] == pytest.approx(expected, abs=1e-6)
    assert [one.psnr is None for one in found.pairs] == [True, False, True, False, True]
    assert [one.metric for one in found.measurements] == ["psnr", "ssim"]
    assert number(found.measurements, "ssim").value == pytest.approx(np.mean(expected), abs=1e-6)
    psnr = number(found.measurements, "psnr")
    assert (psnr.n, psnr.detail) == (2, {"equal_pairs": 3})
    assert found.model is None, "five pictures are too few for features, and no model was loaded"
    assert "8 are needed at least" in found.missing["kid"]
    again = judged(reference, samples, paired=True)
    assert number(again.measurements, "psnr").value == pytest.approx(psnr.value)


def test_fid_stands_beside_its_floor_where_there_are_pictures_enough(tmp_path: Path) -> None:
    """Gabor's 32 features: 320 pictures, and 640 for the halves."""
    given = {
        folders.SAMPLES: noise(tmp_path / "s", 320, side=6),
        folders.REFERENCE: noise(tmp_path / "r", 640, seed=1, side=6),
    }
    read = folders.read(given)
    found = judge(read, model_of(QUICK), feature_source, device="cpu")
    source = feature_source(model_of(QUICK), "cpu")
    x, y = (source.features(read[name].split).double().numpy() for name in given)
    a, b, gap = np.cov(x.T), np.cov(y.T), x.mean(0) - y.mean(0)
    expected = gap @ gap + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert number(found.measurements, "fid").value == pytest.approx(expected, rel=1e-3)
    assert number(found.floor, "fid").value > 0
    assert not found.missing


def test_lpips_is_the_papers_formula(tmp_path: Path) -> None:
    library = pytest.importorskip("lpips")
    trunk = "torchvision/alexnet?weights=random"
    layers = models.load(models.resolve(trunk)).module.get_submodule("features")
    file = Path(library.__file__).parent / "weights" / "v0.1" / "alex.pth"
    heads = torch.load(file, map_location="cpu", weights_only=True)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 3, 48, 40, generator=generator) for _ in range(2))
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    a, b, expected = (x - mean) / std, (y - mean) / std, 0.0
    taps = [1, 4, 7, 9, 11]
    with torch.no_grad():
        for place, layer in enumerate(list(layers.children())[:12]):
            a, b = layer(a), layer(b)
            if place in taps:
                apart = (a / a.norm(dim=1) - b / b.norm(dim=1)).square()
                expected += float(
                    (apart * heads[f"lin{taps.index(place)}.model.1.weight"]).sum(1).mean()
                )
    assert lpips_distance("cpu", trunk)(x, y) == pytest.approx(expected, rel=1e-3)


def test_without_alexnets_weights_lpips_says_so(
    zoobench: Zoobench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lpips")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    asked = ["judge-images", noise(tmp_path / "s", 3, side=32), "--paired", "--lpips"]
    said = zoobench(*asked, "--reference", noise(tmp_path / "r", 3, side=32))
    assert "alexnet" in said.error


def test_from_python_it_is_what_the_command_prints(
    digits: Split, zoobench: Zoobench, tmp_path: Path
) -> None:
    import zoobench as zb

    samples = save(digits, range(16), tmp_path / "s")
    real = save(digits, range(8, 30), tmp_path / "r")
    found = zb.judge_images(samples, str(real), QUICK, device="cpu")
    asked = ["--reference", real, "--model", QUICK, "--device", "cpu"]
    assert repr(found) == zoobench("judge-images", samples, *asked).out.rstrip("\n")
    assert found.neighbours is not None
    assert len(found.neighbours.copies) == 8
    frame = found.frame().set_index(["scope", "metric"])
    assert frame.value[("samples", "kid")] == number(found.measurements, "kid").value
    assert frame.low[("floor", "sample_recall")] == number(found.floor, "sample_recall").low
    html = dataclasses.replace(found, missing={"fid": "<b>"})._repr_html_()
    assert "&lt;b&gt;" in html
    none = tmp_path / "--train"  # a name of the user's is as it was given
    with pytest.raises(UserError, match=f"^samples {none}: there is no such folder"):
        zb.judge_images(none, real)
    with pytest.raises(UserError, match=f"^reference {none}: there is no such folder"):
        zb.judge_images(samples, none)
    with pytest.raises(UserError, match=r"^lpips: .* give paired too"):
        zb.judge_images(samples, real, lpips=True)


def test_equal_pairs_have_no_psnr(tmp_path: Path) -> None:
    one, other = noise(tmp_path / "one", 3), noise(tmp_path / "other", 3)
    found = judged(one, other, paired=True)
    assert [m.metric for m in found.measurements] == ["ssim"]
    assert found.missing["psnr"] == "PSNR is infinite: all pairs are equal"


def test_the_command_prints_and_writes(
    zoobench: Zoobench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    samples, reference = noise(Path("s")), noise(Path("r"), seed=1)
    (samples / "009.png").write_bytes((reference / "002.png").read_bytes())
    (samples / "notes.txt").write_text("seed 3")
    asked = ["judge-images", samples, "--reference", reference, "--model", QUICK, "--device", "cpu"]
    said = zoobench(*asked, "--paired", "--train", reference, "--out", "out")
    assert said.code == 0, said.err
    assert max(map(len, said.out.splitlines())) <= 80
    assert "\x1b" not in said.out
    for text in (
        "PSNR (dB)", "SSIM", "KID", "precision (%)", "recall (%)", "real half against half",
        "10 pairs. The least alike by SSIM:",
        "1 of 10 samples is a copy of pictures",
        "  009.png = 002.png (the same pixels)",
        "not read: .txt file (1)",
    ):  # fmt: skip
        assert text in said.out, text
    body = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert str(tmp_path) not in json.dumps(body)
    assert [one["name"] for one in body["pairs"]] == [f"{i:03}.png" for i in range(10)]
    assert body["neighbours"]["copies"][0]["picture"] == "002.png"
    with Image.open(tmp_path / "out" / "neighbours.png") as sheet:
        assert sheet.getpixel((0, 0)) == (214, 39, 40), "the copy comes first, framed"
    shown = zoobench(*asked, "--paired", "--train", reference, "--json")
    assert json.loads(shown.out) == body


def test_a_damaged_picture_is_named_and_its_pair_left_out(
    zoobench: Zoobench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    samples, reference = noise(Path("s"), 20), noise(Path("r"), 20, seed=1)
    (samples / "004.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    asked = ["judge-images", samples, "--reference", reference, "--paired", "--model", QUICK]
    said = zoobench(*asked)
    assert said.code == 0, said.err
    assert "19 pairs" in said.out
    assert "s: damaged and left out: 1 (004.png: unknown or damaged format)" in said.out
    for name in ("007.png", "008.png"):
        (samples / name).write_bytes(b"no")
    assert zoobench(*asked).error.startswith(
        f"Error: SAMPLES {samples}: 3 of 20 pictures cannot be used, and 10% is the bound: 004.png:"
    )


Mistake = tuple[Callable[[Path], object], list[str], str]
MISTAKES: dict[str, Mistake] = {
    "no folder": (lambda f: (f / "s").rename(f / "t"), [], "SAMPLES s: there is no such folder"),
    "a file": (
        lambda f: (f / "file").write_bytes(b"x"), ["--train", "file"],
        "--train file: is a file, not a folder",
    ),
    "empty": (
        lambda f: (f / "none").mkdir(), ["--train", "none"], "--train none: no pictures found",
    ),
    "no pictures": (
        lambda f: noise(f / "w", 1).joinpath("000.png").rename(f / "w" / "a.wav"),
        ["--train", "w"], "--train w: no pictures found but .wav file (1)",
    ),
    "itself": (lambda f: None, ["--train", "s"], "SAMPLES s and --train s: one lies in the other"),
    "too few": (
        lambda f: [(f / "s" / f"{i:03}.png").rename(f / f"{i}") for i in range(4)], [],
        "SAMPLES s: 6 pictures are too few to compare features, 8 are needed at least",
    ),
    "sizes": (
        lambda f: Image.new("RGB", (9, 12)).save(f / "s" / "003.png"), ["--paired"],
        "--paired: 003.png is 9x12 pixels in s, and 12x12 in r",
    ),
    "no partner": (
        lambda f: (f / "r" / "003.png").rename(f / "r" / "3.png"), ["--paired"],
        "--paired: r has no picture called '003', which s has (1 such)",
    ),
    "a name too many": (
        lambda f: noise(f / "s", 11) and (f / "s" / "010.png").rename(f / "s" / "003.bmp"),
        ["--paired"], "--paired: SAMPLES s has several pictures called '003' but for their",
    ),
    "a model of texts": (
        lambda f: None, ["--model", "packaged/minilm-l6-v2"],
        "--model: packaged/minilm-l6-v2 reads text, and samples are pictures",
    ),
    "a detector": (
        lambda f: None, ["--model", "detector/fasterrcnn_resnet50_fpn"],
        "--model: detector/fasterrcnn_resnet50_fpn answers detection itself and gives no features",
    ),
    "a name": (lambda f: None, ["--model", "synthetic/gabo"], "Did you mean"),
    "lpips alone": (lambda f: None, ["--lpips"], "--lpips: compares pictures of the same name"),
    "too small": (
        lambda f: None, ["--lpips", "--paired"],
        "--lpips: 000.png is 12x12 pixels, and 32 a side are needed at least",
    ),
    "results": (lambda f: None, ["--out", "r"], "r: is not empty; nothing was written"),
    "inside": (lambda f: None, ["--out", "r/new"], "--out r/new: lies in r, whose pictures"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_said_early_and_in_words(
    case: str, zoobench: Zoobench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, options, expected = MISTAKES[case]
    noise(tmp_path / "s")
    noise(tmp_path / "r", seed=1)
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "zoobench.workers.loaded.feature_source", lambda *_: pytest.fail("a model was loaded")
    )
    said = zoobench("judge-images", "s", "--reference", "r", *options)
    assert said.code == 2
    assert expected in said.error


def test_real_pictures_that_are_all_twins_have_no_floor(digits: Split, tmp_path: Path) -> None:
    found = judged(noise(tmp_path / "s"), save(digits, [3] * 9, tmp_path / "r"))
    assert found.floor == ()
    assert found.neighbours is None
    assert found.folders["reference"].repeated == 8


def test_a_copy_cannot_be_hidden_by_the_other_half(digits: Split, tmp_path: Path) -> None:
    """Twins among the real pictures stand in one half: the floor is not below what it is."""
    from zoobench.generation.judge import _halves

    twice = [*range(20), *range(20)]
    real = folders.read(
        {"samples": noise(tmp_path / "s"), "reference": save(digits, twice, tmp_path / "r")}
    )["reference"]
    one, other = ({real.contents[i] for i in half} for half in _halves(real))
    assert not one & other
    assert len(one) == len(other) == 10


def test_a_folder_in_the_other_is_refused_through_links(tmp_path: Path) -> None:
    noise(tmp_path / "real" / "made")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    given = {folders.SAMPLES: tmp_path / "real" / "made", folders.REFERENCE: tmp_path / "link"}
    with pytest.raises(UserError, match="one lies in the other"):
        folders.read(given)
