"""A cell on the control's part of a dataset, in a worker's own process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tinyonnx
from cells import cell
from zoobench import datasets, models
from zoobench.datasets.control import part_of
from zoobench.schema import Ref
from zoobench.tasks.classification import labels_of
from zoobench.workers.runner import Bench
from zoobench.workers.settings import Settings

WHOLE = "synthetic/stripes@1?noise=90&test=70&train=90"
PART = "synthetic/stripes@1?control_units=40&noise=90&test=70&train=90"


def settings(cache: Path | str) -> Settings:
    return Settings("cpu", 1, str(cache), measure_costs=False)


def test_the_pretrained_probe_takes_the_features_that_it_has(tmp_path: Path) -> None:
    bench = Bench(settings(tmp_path))
    full = bench.run(cell(dataset=WHOLE, method="ridge"))
    (loaded,) = bench.held
    extracted = list(loaded.features.computed)
    part = bench.run(cell(dataset=PART, method="ridge"))
    assert loaded.features.computed == extracted, "nothing is extracted again"
    assert part.record.provenance["sizes"] == {"train": 40, "valid": 8, "test": 40}
    assert full.record.provenance["sizes"]["test"] == 70
    # Alone, with no features at hand: the same answers, from the part's own extraction.
    alone = Bench(settings("")).run(cell(dataset=PART, method="ridge"))
    assert part.outcomes is not None
    assert alone.outcomes is not None
    for name, values in part.outcomes.arrays.items():
        np.testing.assert_allclose(values, alone.outcomes.arrays[name], atol=1e-5)
    assert part.record.value("accuracy") == alone.record.value("accuracy")


def test_its_accuracy_is_that_of_a_neighbour_searched_by_hand(tmp_path: Path) -> None:
    bench = Bench(settings(tmp_path))
    record = bench.run(cell(dataset=PART, method="knn", k=[1])).record
    (loaded,) = bench.held
    splits = part_of(datasets.load(WHOLE), Ref.parse(PART))
    train, test = (
        loaded.features.features(split).double().numpy() for split in (splits.train, splits.test)
    )
    train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    nearest = labels_of(splits.train)[(test @ train.T).argmax(axis=1)]
    assert record.value("accuracy") == np.mean(nearest == labels_of(splits.test))


def test_random_weights_see_the_part_alone(tmp_path: Path) -> None:
    bench = Bench(settings(tmp_path))
    record = bench.run(cell("synthetic/gabor@1?weights=random", PART, "ridge")).record
    assert record.status == "ok"
    (loaded,) = bench.held
    assert len(loaded.features.computed) == 3
    rows = [int(tensor.shape[0]) for tensor in loaded.features._memory.values()]
    assert sorted(rows) == [8, 40, 40]


def test_a_file_of_onnx_is_probed_and_not_trained(tmp_path: Path) -> None:
    """Its cells are probed in a worker as any other's; what was guessed is said."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    ref = models.resolve(f"onnx/{tinyonnx.file(tmp_path / 'm.onnx')}")
    bench = Bench(settings(tmp_path / "cache"))
    probed, tuned = (bench.run(cell(ref.text, method=name)).record for name in ("knn", "fine-tune"))
    assert probed.status == "ok"
    assert "guessed-input" in probed.flags
    assert probed.value("macs") == 14 * 14 * 6 * 27
    assert probed.provenance["model"]["guessed"] == ["mean", "std", "interpolation", "crop_pct"]
    assert probed.provenance["model"]["state"]
    assert (tuned.status, tuned.error) == (
        "unsupported", {"message": "onnx/m is a graph of ONNX, which nothing trains"}
    )  # fmt: skip
