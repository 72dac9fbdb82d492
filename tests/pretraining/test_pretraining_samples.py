"""What an encoder generated beside real pictures: drawn by seed, compared as folders are, shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pretraining_cells import pretrain_cell
from zoobench import datasets
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits
from zoobench.models import resolve, small
from zoobench.pretraining import SAMPLES_MODEL, objective, samples
from zoobench.pretraining import cell as cells
from zoobench.pretraining.objective import Learner
from zoobench.schema import Ref
from zoobench.solvers.generated import fid, inside, kid
from zoobench.workers.loaded import feature_source

STRIPES = "synthetic/stripes?train={n}&test={n}&valid=24"


def learner() -> Learner:
    backbone = small.backbone("small-conv", 0, {})
    return Learner(Features(backbone, View("x", "cpu", "fp32"), None), 4)


def splits(n: int) -> Splits:
    return datasets.load(datasets.resolve(STRIPES.format(n=n)))


def gabor(ref: Ref | None = None) -> Features:
    return feature_source(ref or resolve("synthetic/gabor"), "cpu")


def numbers(pictures: torch.Tensor, of: Splits) -> dict[str, Any]:
    return {m.metric: m for m in samples.compared(pictures, learner(), of, gabor())}


def test_samples_follow_from_the_weights_and_the_seed() -> None:
    one, member = learner(), objective("vae")()
    torch.manual_seed(0)
    heads = member.heads(one)
    before = torch.get_rng_state()
    first = samples.generated(member, one, heads, 150, 3)
    assert first.shape == (150, 3, 28, 28)
    assert torch.equal(first, samples.generated(member, one, heads, 150, 3))
    assert torch.equal(first[:20], samples.generated(member, one, heads, 20, 3))
    assert not torch.equal(first, samples.generated(member, one, heads, 150, 4))
    assert not torch.equal(first[:20], first[128:148]), "each batch has draws of its own"
    assert torch.equal(before, torch.get_rng_state())


def test_numbers_are_those_of_pictures_of_eight_bits_read_one_by_one() -> None:
    """FID too: 32 features and 320 pictures."""
    of = splits(320)
    rng = torch.Generator().manual_seed(0)
    drawn = torch.rand(320, 3, 28, 28, generator=rng)
    found = numbers(drawn, of)
    source = gabor()

    def features(pictures: list[Image.Image]) -> torch.Tensor:
        prepared = [source.backbone.prepare(one) for one in pictures]
        with torch.inference_mode():
            return torch.cat([source.backbone.embed(source.collate([one])) for one in prepared])

    pixels = (drawn * 255).round().byte().permute(0, 2, 3, 1).numpy()
    sides = {"": features([Image.fromarray(one) for one in pixels])}
    for name, split in (("_floor", of.train), ("test", of.test)):
        order = np.argsort(np.array(split.ids), kind="stable")[:320]
        read = [split.read(int(i)).convert("RGB") for i in np.sort(order)]
        sides[name] = features([one.resize((28, 28), Image.Resampling.BILINEAR) for one in read])
    for end in ("", "_floor"):
        x, y = sides[end], sides["test"]
        assert found["kid" + end].value == pytest.approx(kid(x, y).value, rel=1e-3, abs=1e-6)
        assert found["fid" + end].value == pytest.approx(fid(x, y), rel=1e-3, abs=1e-5)
        for name, share in (("precision", inside(x, y)), ("recall", inside(y, x))):
            value = found[f"sample_{name}{end}"].value
            assert value == pytest.approx(float(share.double().mean()), abs=1 / 320)
    assert found["kid"].low > 0
    assert found["kid_floor"].low < 0 < found["kid_floor"].high
    assert found["kid"].detail["model"] == "synthetic/gabor"
    assert found["kid"].detail["state"] == source.weights
    assert found["kid"].n == 320


def test_real_pictures_in_the_place_of_samples_are_at_the_floor() -> None:
    of = splits(120)
    found = numbers(samples.real(learner(), of.train), of)
    for name in ("kid", "sample_precision", "sample_recall"):
        assert found[name].value == found[f"{name}_floor"].value
    assert "fid" not in found
    assert "FID needs 320 pictures" in found["kid"].detail["missing"]["fid"]


def test_very_few_pictures_are_not_compared() -> None:
    assert samples.compared(torch.rand(7, 3, 28, 28), learner(), splits(24), gabor()) == ()


def test_a_sheet_has_samples_left_and_real_pictures_right() -> None:
    rows = samples.beside(torch.zeros(17, 3, 4, 4), torch.full((20, 3, 4, 4), 0.5), 8)
    assert len(rows) == 2
    for row in rows:
        assert row.mean(dim=(1, 2, 3)).tolist() == [0.0] * 8 + [1.0] + [0.5] * 8


def test_a_cell_that_names_a_model_has_the_numbers_of_its_samples(tmp_path: Path) -> None:
    cell, of = pretrain_cell("vae"), datasets.load(pretrain_cell("vae").dataset)
    asked: list[Ref] = []

    def features_of(ref: Ref) -> Features:
        asked.append(ref)
        return gabor(ref)

    bare, without = cells.pretrained(cell, of, "cpu", None, features_of)
    assert asked == []
    assert not any(m.metric.startswith("kid") for m in without)
    judge = resolve("synthetic/gabor")
    named = dataclasses.replace(cell, params={**cell.params, SAMPLES_MODEL: str(judge)})
    made, found = cells.pretrained(named, of, "cpu", None, features_of)
    assert asked == [judge]
    assert made.card == bare.card, "the same encoder, found in the cache"
    told = {m.metric: m for m in found}
    assert {"kid", "kid_floor", "sample_recall", "bits_per_dim"} <= set(told)
    assert told["kid"].low is not None
    assert told["kid"].low < told["kid"].value
    with Image.open(made.folder / cells.SAMPLES) as sheet:
        assert sheet.size[0] > 2 * sheet.size[1]
    _, other = cells.pretrained(dataclasses.replace(named, seed=1), of, "cpu", None, features_of)
    assert next(m.value for m in other if m.metric == "kid") != told["kid"].value
