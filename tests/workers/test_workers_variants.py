"""Cells of variants: the head that was carried over, and the one that is fitted anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cells import cell, settings
from zoobench import datasets, methods, models
from zoobench.interfaces import Split
from zoobench.schema import Cell, Ref
from zoobench.tasks.classification import labels_of
from zoobench.workers.runner import Bench

NAME, VARIANT = "timm/test_vit?weights=random", "timm/test_vit?variant=bf16&weights=random"
DATA = "synthetic/stripes@1?classes=4&noise=120&test=90&train=60"


def of_variant(method: str, head: str, shots: int | None = None, **params: Any) -> Cell:
    plain = cell(NAME, DATA, method, shots=shots, **params)
    given = {**plain.params, "head": head}
    return Cell(Ref.parse(VARIANT), plain.dataset, method, given, 0, shots, plain.versions)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(settings(tmp_path_factory.mktemp("features")))


def features(name: str, split: Split) -> torch.Tensor:
    """By the loaded model alone, one picture at a time."""
    backbone = models.load(models.resolve(name))
    with torch.inference_mode():
        rows = [backbone.embed(backbone.collate([backbone.prepare(split.read(i))]))
                for i in range(len(split))]  # fmt: skip
    return torch.cat(rows)


def test_a_carried_head_is_the_original_s_and_reads_the_variant_s_features(bench: Bench) -> None:
    test = datasets.load(datasets.resolve(DATA)).test
    original = bench.fit(cell(NAME, DATA, "linear-probe"))
    carried = bench.fit(of_variant("linear-probe", "carried"))
    head = original.adapted.head()  # type: ignore[attr-defined]
    scores = features(VARIANT, test).double() @ head.weight.T + head.bias
    said = scores.softmax(dim=1).amax(dim=1).numpy()
    np.testing.assert_allclose(carried.outcomes.arrays["confidence"], said, atol=2e-3)
    np.testing.assert_array_equal(
        carried.outcomes.arrays["predicted"], scores.argmax(dim=1).numpy()
    )
    assert not np.array_equal(
        carried.outcomes.arrays["confidence"], original.outcomes.arrays["confidence"]
    ), "bf16 moves them a little"
    assert carried.adapted.chosen == original.adapted.chosen


def test_a_head_fitted_anew_reads_the_variant_s_features_alone(bench: Bench) -> None:
    splits = datasets.load(datasets.resolve(DATA))
    anew = bench.run(of_variant("knn", "anew", k=[1])).record
    train, test = (features(VARIANT, s).double().numpy() for s in (splits.train, splits.test))
    train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    nearest = labels_of(splits.train)[(test @ train.T).argmax(axis=1)]
    assert anew.value("accuracy") == np.mean(nearest == labels_of(splits.test))


def test_the_record_is_of_one_artefact(tmp_path: Path) -> None:
    costs = settings(tmp_path)
    bench = Bench(costs)
    original = bench.run(cell(NAME, DATA, "ridge")).record
    carried = bench.run(of_variant("ridge", "carried")).record
    anew = bench.run(of_variant("ridge", "anew")).record
    assert {original.status, carried.status, anew.status} == {"ok"}
    assert len({original.key, carried.key, anew.key}) == 3
    for one in (carried, anew):
        assert one.value("weights_bytes") == original.value("weights_bytes") / 2  # type: ignore[operator]
        assert [one.value(m) for m in ("params", "macs")] == [
            original.value(m) for m in ("params", "macs")
        ]
        assert one.value("coverage") == 1.0
        assert one.provenance["model"]["variant"]["name"] == "bf16"
        assert one.provenance["model"]["precision"] == {"taken": "fp32"}
        assert one.environment["precision"] == "fp32"
    assert original.get("coverage") is None


@pytest.mark.parametrize("head", methods.HEADS)
def test_few_shot_cells_take_variants(bench: Bench, head: str) -> None:
    record = bench.run(of_variant("linear-probe", head, shots=2, refit=False)).record
    assert record.status == "ok", record.error
    assert record.provenance["sizes"]["train"] == 8


def test_what_was_fine_tuned_is_made_smaller_after(bench: Bench) -> None:
    """bf16 weights of the trained network, and its head in float32: by hand from the original."""
    params: dict[str, Any] = {"steps": 3, "batch_size": 16, "rates": [1e-3]}
    original = bench.fit(cell(NAME, DATA, "fine-tune", **params))
    carried = bench.fit(of_variant("fine-tune", "carried", **params))
    tuned: Any = original.adapted
    module = tuned.backbone.module.to(torch.bfloat16)
    test, prepare = original.splits.test, tuned.backbone.prepare
    with torch.inference_mode():
        batch = torch.stack([prepare(test.read(i)) for i in range(len(test))]).bfloat16()
        pooled = module.forward_head(module.forward_features(batch), pre_logits=True).float()
        scores = tuned.network.head(pooled)
    said = scores.softmax(dim=1).amax(dim=1).numpy()
    np.testing.assert_allclose(carried.outcomes.arrays["confidence"], said, atol=2e-3)


@pytest.mark.parametrize("method", ["linear-probe", "knn"])
def test_dense_cells_take_variants(bench: Bench, method: str) -> None:
    data = "synthetic/stripes@1?task=segmentation&classes=3&test=4&train=8"
    task = "segmentation"
    data = datasets.resolve(data).text
    built = methods.params_of(methods.build(method, {"size": 64}, task=task))
    for head in methods.HEADS:
        params = {**built, "head": head}
        versions = {"protocol": 1, "precision": "fp32", "task": "segmentation@1"}
        one = Cell(Ref.parse(VARIANT), Ref.parse(data), method, params, versions=versions)
        record = bench.run(one).record
        assert record.status == "ok", record.error
        assert record.value("miou") is not None
