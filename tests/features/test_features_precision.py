"""precision = "auto" takes bf16 where it is faster and nothing is lost, and says what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zoobench import datasets, methods, models
from zoobench.costs import counted as cost
from zoobench.features import precision
from zoobench.features.cache import FeatureCache
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits
from zoobench.schema import PROTOCOL, Cell, Ref
from zoobench.workers.provenance import precision_of
from zoobench.workers.runner import Bench
from zoobench.workers.settings import Settings


@pytest.fixture(scope="module")
def splits() -> Splits:
    return datasets.load(datasets.resolve("synthetic/stripes?train=200&valid=120&test=20&noise=60"))


@pytest.fixture(autouse=True)
def bf16_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with arithmetic in bf16, twice as fast."""
    monkeypatch.setattr(precision, "native_bf16", lambda device: True)
    monkeypatch.setattr(precision, "time_ratio", lambda runs: 2.0)


def source(cache: Path | None = None) -> Features:
    gabor = models.load(models.resolve("synthetic/gabor"), seed=0)
    view = View("synthetic/gabor", precision="auto")
    return Features(gabor, view, FeatureCache(cache) if cache else None)


def test_bf16_is_taken_where_nothing_is_lost(splits: Splits) -> None:
    auto = source()
    assert auto.precision == "fp32"
    auto.settle(splits.train, splits.valid)
    assert auto.finding is not None
    facts = auto.finding.facts
    assert auto.precision == facts["taken"] == "bf16", facts
    assert facts["cosine"] > 0.999
    assert facts["nll_rise"] + 1.96 * facts["nll_error"] <= precision.NLL
    assert facts["sample"] == 120
    exact = Features(auto.backbone, View("synthetic/gabor")).features(splits.test)
    found = auto.features(splits.test)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))


def test_fp32_stays_where_bf16_is_not_faster(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "time_ratio", lambda runs: 0.2)
    auto = source()
    auto.settle(splits.train, splits.valid)
    assert auto.finding is not None
    assert auto.finding.facts == {
        "taken": "fp32",
        "why": "bf16 is not 1.15 times as fast here",
        "speedup": 0.2,
        "version": 1,
    }


def judged(splits: Splits, change: Any) -> precision.Choice:
    exact = [source().features(split) for split in (splits.train, splits.valid)]
    changed = [change(part) for part in exact]
    return precision.judge(2.0, (splits.train, splits.valid), exact, changed)


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


def test_few_examples_decide_nothing(splits: Splits) -> None:
    import numpy as np

    few = splits.valid.subset(np.arange(20))
    auto = source()
    auto.settle(splits.train, few)
    assert auto.precision == "fp32"
    assert auto.finding is not None
    assert "fewer than 64" in auto.finding.why


def test_a_finding_is_kept_and_read_again(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = source(tmp_path)
    first.settle(splits.train, splits.valid)
    monkeypatch.setattr(precision, "choose", lambda *_: pytest.fail("it was measured again"))
    again = source(tmp_path)
    again.settle(splits.train, splits.valid)
    assert again.finding is not None
    assert first.finding is not None
    assert again.finding.facts == first.finding.facts


def test_without_bf16_arithmetic_nothing_is_tried(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda device: False)
    monkeypatch.setattr(precision, "choose", lambda *_: pytest.fail("it was tried"))
    auto = source()
    auto.settle(splits.train, splits.valid)
    assert auto.precision == "fp32"


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
    assert dtypes == ["bfloat16 autocast", "float32", "bfloat16 autocast"]
    assert len(set(macs)) == len(counts) == 1


def test_the_ratio_is_of_the_best_times() -> None:
    import time

    runs = {"one": lambda: time.sleep(0.02), "other": lambda: time.sleep(0.005)}
    assert REAL_RATIO(runs) > 1.5


REAL_RATIO = precision.time_ratio
