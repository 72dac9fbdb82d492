"""precision = "auto" takes bf16 on a card where nothing is lost, and says what it found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from zoobench import datasets, methods, models
from zoobench.costs import counted as cost
from zoobench.features import precision
from zoobench.features.cache import FeatureCache, sealed
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits
from zoobench.schema import PROTOCOL, Cell, Ref
from zoobench.tasks.classification import labels_of
from zoobench.workers.provenance import precision_of
from zoobench.workers.runner import Bench
from zoobench.workers.settings import Settings


@pytest.fixture(scope="module")
def splits() -> Splits:
    return datasets.load(datasets.resolve("synthetic/stripes?train=200&valid=120&test=20&noise=60"))


@pytest.fixture(autouse=True)
def a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor stands for a card with arithmetic in bf16."""
    monkeypatch.setattr(precision, "computes_bf16", lambda device: True)


def source(cache: Path | None = None) -> Features:
    gabor = models.load(models.resolve("synthetic/gabor"), seed=0)
    view = View("synthetic/gabor", precision="auto")
    return Features(gabor, view, FeatureCache(cache) if cache else None)


def test_bf16_is_taken_where_nothing_is_lost(splits: Splits) -> None:
    auto = source()
    assert auto.precision == "fp32"
    auto.settle()
    assert auto.finding is not None
    facts = auto.finding.facts
    assert auto.precision == facts["taken"] == "bf16", facts
    assert facts["cosine"] > 0.999
    assert facts["nll_rise"] + 1.96 * facts["nll_error"] <= precision.NLL
    assert facts["sample"] == 512
    exact = Features(auto.backbone, View("synthetic/gabor")).features(splits.test)
    found = auto.features(splits.test)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))


def judged(splits: Splits, change: Any) -> precision.Choice:
    exact = [source().features(split) for split in (splits.train, splits.valid)]
    changed = [change(part) for part in exact]
    return precision.judge((splits.train, splits.valid), exact, changed)


def test_what_is_lost_is_seen(splits: Splits) -> None:
    generator = torch.Generator().manual_seed(0)

    def noisy(x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * x.abs().mean() * torch.randn(x.shape, generator=generator)

    kept = judged(splits, lambda x: x)
    assert (kept.taken, kept.nll_rise) == ("bf16", 0.0)
    lost = judged(splits, noisy)
    assert lost.taken == "fp32"
    assert "NLL" in lost.why
    assert lost.nll_rise is not None
    assert lost.nll_rise > 0
    turned = judged(splits, lambda x: x.flip(1))
    assert "cosine" in turned.why
    broken = judged(splits, lambda x: x / 0)
    assert "finite" in broken.why


@pytest.mark.parametrize("modality", ["image", "text"])
def test_the_probe_set_is_always_the_same_and_can_be_learned(modality: str) -> None:
    name = {"image": "synthetic/gabor", "text": "synthetic/bag"}[modality]
    train, valid = precision.probe_set(modality)
    again = precision.probe_set(modality)
    assert [s.fingerprint for s in (train, valid)] == [s.fingerprint for s in again]
    assert [train.read(i) for i in range(9)] == [again[0].read(i) for i in range(9)]
    model = Features(models.load(models.resolve(name), seed=0), View(name))
    losses = precision.probe_losses(train, valid, model.features(train), model.features(valid))
    classes = len(set(labels_of(train).tolist()))
    assert len(losses) == 512
    assert float(losses.mean()) < 0.9 * math.log(classes)


def test_no_dataset_has_a_say() -> None:
    """Two datasets, in either order: the same precision of each cell, of the same key."""
    data = ("synthetic/stripes@1?noise=60&train=40&valid=20", "synthetic/stripes@1?train=200")
    cells = [
        Cell(Ref.parse("synthetic/gabor@1"), Ref.parse(one), "ridge",
             versions={"protocol": PROTOCOL, "precision": "auto"})
        for one in data
    ]  # fmt: skip
    found: list[dict[str, tuple[str, float | None]]] = []
    for order in (cells, cells[::-1]):
        bench = Bench(Settings(measure_costs=False))
        records = [bench.run(cell).record for cell in order]
        found.append({r.cell.key: (precision_of(r), r.value("accuracy")) for r in records})
    assert found[0] == found[1]
    assert {taken for taken, _ in found[0].values()} == {"bf16"}


def test_what_does_not_run_in_bf16_is_computed_in_float32_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = '"some_operator" not implemented for BFloat16'

    def fails(*given: Any) -> precision.Choice:
        raise RuntimeError(said)

    for _ in range(2):
        with monkeypatch.context() as broken:
            broken.setattr(precision, "choose", fails)
            auto = source(tmp_path)
            auto.settle()
        assert auto.precision == "fp32"
        assert auto.finding is not None
        assert said in str(auto.finding.facts)
    again = source(tmp_path)
    again.settle()
    assert again.precision == "bf16"
    said = "CUDA error: out of memory"
    monkeypatch.setattr(precision, "choose", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        source().settle()


def test_a_finding_is_kept_for_the_model_and_the_kind_of_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = source(tmp_path)
    first.settle()
    asked: list[str] = []

    def measured(*given: Any) -> precision.Choice:
        asked.append("again")
        return precision.Choice("fp32", "measured again")

    monkeypatch.setattr(precision, "choose", measured)
    changed = source(tmp_path)
    next(iter(changed.backbone.module.state_dict().values())).mul_(0.5)
    changed.settle()
    assert len(asked) == 1, "another network"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(torch, "get_num_threads", lambda: 99)
        source(tmp_path).settle()
    assert len(asked) == 2, "another machine"
    again = source(tmp_path)
    again.settle()
    assert len(asked) == 2
    assert again.finding is not None
    assert first.finding is not None
    assert again.finding.facts == first.finding.facts


def test_a_processor_computes_in_fp32_whatever_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(precision, "choose", lambda *_: pytest.fail("it was tried"))
    auto = source()
    auto.settle()
    assert auto.precision == "fp32"
    assert auto.finding is not None
    assert auto.finding.facts["why"] == "taken wherever there is no card with bf16"


@pytest.mark.parametrize("policy", ["auto", "fp32", "bf16"])
def test_the_record_says_what_was_computed_in_what(policy: str) -> None:
    cell = Cell(
        Ref.parse("synthetic/gabor@1"),
        Ref.parse("synthetic/stripes@1?train=200&valid=120&test=20&noise=60"),
        "ridge",
        versions={"protocol": PROTOCOL, "precision": policy},
    )
    record = Bench(Settings(measure_costs=False)).run(cell).record
    assert record.status == "ok", record.error
    taken = "bf16" if policy == "auto" else policy
    said = record.provenance["model"]["precision"]
    assert said["taken"] == precision_of(record) == record.environment["precision"] == taken
    assert ("nll_rise" in said) == (policy == "auto")


def test_a_model_is_counted_once_and_timed_in_each_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[Any] = []
    real = cost.static_costs

    def counted(backbone: Any) -> Any:
        counts.append(backbone)
        return real(backbone)

    monkeypatch.setattr(cost, "static_costs", counted)
    settings = Settings(cost_seconds=0.0)
    cell = Cell(
        Ref.parse("synthetic/gabor@1"), Ref.parse("synthetic/stripes@1"), "knn",
        versions={"precision": "auto"},
    )  # fmt: skip
    loaded = Bench(settings).load(cell, methods.build("knn", {}))
    loaded.features.finding = precision.Choice("bf16", "as if it had been found")
    dtypes, macs = [], []
    for trained in (False, True, False):
        found = {m.metric: m for m in loaded.costs(settings, trained)}
        dtypes.append(found["latency_ms_p50"].detail["dtype"])
        macs.append(found["macs"].value)
    assert dtypes == ["bfloat16", "float32", "bfloat16"]
    assert len(set(macs)) == len(counts) == 1


FINDINGS: dict[str, dict[str, Any]] = {
    "another precision": {"taken": "int8", "why": "x"},
    "no reason": {"taken": "bf16"},
    "a number for words": {"taken": 3, "why": "x"},
    "another version": {"taken": "bf16", "why": "x", "version": 1},
    "a cosine in words": {"taken": "bf16", "why": "x", "cosine": "near"},
}


@pytest.mark.parametrize("case", [*FINDINGS, "unsealed", "flipped", "deep", "cut"])
def test_a_damaged_finding_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    source(tmp_path).settle()
    (file,) = (tmp_path / "precision").iterdir()
    sound = file.read_bytes()
    others = {
        "unsealed": b'{"taken": "bf16", "why": "x"}',
        "flipped": sound.replace(b"fp32", b"bf16") if b'"taken": "fp32"' in sound
        else sound.replace(b'"taken": "bf16"', b'"taken": "fp32"'),
        "deep": b"[" * 20_000 + b"]" * 20_000,
        "cut": sound[: len(sound) // 2],
    }  # fmt: skip
    file.write_bytes(others[case] if case in others else sealed(FINDINGS[case]))
    fresh = precision.Choice("fp32", "measured again")
    monkeypatch.setattr(precision, "choose", lambda *_: fresh)
    again = source(tmp_path)
    again.settle()
    assert again.finding == fresh
    kept = source(tmp_path)
    monkeypatch.setattr(precision, "choose", lambda *_: pytest.fail("it was kept"))
    kept.settle()
    assert kept.finding == fresh


def test_features_in_bf16_are_those_of_the_bf16_variant(splits: Splits) -> None:
    """One concept: the policy takes, run-wide, what `MODEL?variant=bf16` is."""
    name = "timm/test_vit?weights=random"
    taken = Features(models.load(models.resolve(name)), View("taken", precision="bf16"))
    variant = Features(models.load(models.resolve(f"{name}&variant=bf16")), View("named"))
    assert torch.equal(taken.features(splits.test), variant.features(splits.test))
    assert not torch.equal(
        taken.features(splits.test),
        Features(models.load(models.resolve(name)), View("plain")).features(splits.test),
    )


def test_what_another_arithmetic_in_bf16_left_behind_is_not_taken(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features, cells and findings alike; those in fp32 stay."""

    def keys() -> dict[str, str]:
        plain, half = (
            Features(source().backbone, View("synthetic/gabor", precision=taken))
            for taken in ("fp32", "bf16")
        )
        source(tmp_path).settle()
        cells = half.cell_source((64, 64)).key(splits.test)
        return {"fp32": plain.key(splits.test), "bf16": half.key(splits.test), "cells": cells}

    now = keys()
    monkeypatch.setattr(precision, "BF16", "autocast")
    then = keys()
    assert [name for name in now if now[name] != then[name]] == ["bf16", "cells"]
    assert len(list((tmp_path / "precision").iterdir())) == 2
