from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from devices import DEVICES
from zoobench import models
from zoobench.costs import fresh_process
from zoobench.costs.counted import static_costs
from zoobench.costs.device_costs import device_costs, load_seconds
from zoobench.costs.measured import LARGEST_BATCH, measured_costs, stepping, training_costs
from zoobench.costs.stopwatch import Timing, energy_meter, peak_memory, timed, warm
from zoobench.errors import UserError
from zoobench.interfaces import Backbone, InputSpec
from zoobench.machine import Place
from zoobench.metrics import METRICS
from zoobench.report.profile import render_measured
from zoobench.schema import Measurement, Ref


def convnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


@dataclass
class Pictures:
    module: nn.Module = field(default_factory=convnet)
    input_spec: InputSpec = field(default_factory=lambda: InputSpec("image", size=(3, 16, 12)))
    feature_dim: int = 8
    pooling: str = "avg"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    fail_from: int = 10**9

    def prepare(self, raw: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(raw, dtype=np.float32)).permute(2, 0, 1)

    def collate(self, prepared: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack(list(prepared))

    def embed(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) >= self.fail_from:
            raise torch.OutOfMemoryError("no more")
        out: torch.Tensor = self.module(batch)
        return out


@dataclass
class Words:
    """Token embeddings, averaged: text of at most `input_spec.length` words."""

    module: nn.Module = field(default_factory=lambda: nn.Embedding(10, 4))
    input_spec: InputSpec = field(default_factory=lambda: InputSpec("text", length=24))
    feature_dim: int = 4
    pooling: str = "mean"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, raw: str) -> list[int]:
        return [len(word) for word in raw.split()][: self.input_spec.length]

    def collate(self, prepared: Sequence[list[int]]) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor(list(prepared))}

    def embed(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = self.module(batch["input_ids"]).mean(dim=1)
        return out


def by_name(found: tuple[Measurement, ...]) -> dict[str, Measurement]:
    return {m.metric: m for m in found}


def test_static_costs_of_a_convnet() -> None:
    backbone = Pictures()
    assert isinstance(backbone, Backbone)
    found = by_name(static_costs(backbone))
    assert found["params"].value == 8 * 27 + 8
    assert found["weights_bytes"].value == 4 * (8 * 27 + 8)
    assert found["weights_bytes"].detail == {"float32": 4 * (8 * 27 + 8)}
    assert found["feature_dim"].value == 8
    assert found["macs"].value == 8 * 27 * 16 * 12
    assert found["flops"].value == 2 * found["macs"].value
    assert found["macs"].detail["input_shape"] == [1, 3, 16, 12]
    assert found["macs"].detail["lower_bound"] is False
    assert all(m.unit == METRICS[name].unit for name, m in found.items())


def test_static_costs_of_text_say_the_length() -> None:
    found = by_name(static_costs(Words()))
    assert found["macs"].value == 0
    assert found["macs"].detail["sequence_length"] == 24


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.head(self.table(ids)))


def test_shared_weights_count_once() -> None:
    found = by_name(static_costs(Words(Tied())))
    assert found["params"].value == 40
    assert found["weights_bytes"].value == 160
    assert found["macs"].value == 24 * 40


@pytest.mark.parametrize("device", DEVICES)
def test_measured_costs(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LARGEST_BATCH, device, 4)
    found = by_name(measured_costs(Pictures(), Place(device), seconds_budget=2.0))
    latency, throughput = found["latency_ms_p50"], found["throughput"]
    assert latency.n is not None
    assert latency.n >= 40
    assert len(latency.detail["samples_ms"]) == latency.n
    assert latency.detail["warmups"] >= 10
    assert latency.low is not None
    assert latency.high is not None
    assert 0 < latency.low <= latency.value <= latency.high
    assert latency.value <= found["latency_ms_p95"].value
    assert latency.detail["threads"] == torch.get_num_threads()
    assert throughput.detail["batch"] in (1, 2, 4)
    assert throughput.n is not None
    assert throughput.n >= 40
    assert throughput.value == pytest.approx(
        1e3 * throughput.detail["batch"] / np.median(throughput.detail["samples_ms"]), rel=0.01
    )
    memory = found["peak_memory_bytes"]
    assert memory.value >= memory.detail["weights_bytes"]
    assert memory.detail["how"]


def test_no_budget_keeps_the_minimum_and_says_what_was_cut() -> None:
    found = by_name(measured_costs(Pictures(), Place(), seconds_budget=0.0))
    assert found["latency_ms_p50"].n == 40
    assert found["throughput"].detail["sweep_ended"] == "budget"
    assert found["throughput"].detail["batch"] == 1


@pytest.mark.parametrize("device", DEVICES)
def test_out_of_memory_batch_is_named(device: str) -> None:
    found = by_name(measured_costs(Pictures(fail_from=4), Place(device), seconds_budget=5.0))
    detail = found["throughput"].detail
    assert detail["sweep_ended"] == "out of memory"
    assert detail["oom_batch"] == 4
    assert detail["batch"] in (1, 2)


@pytest.mark.parametrize("device", DEVICES)
def test_peak_memory_sees_a_large_array(device: str) -> None:
    size = 64 * 2**20
    with peak_memory(torch.device(device)) as peak:
        torch.ones(size, dtype=torch.uint8, device=device)[-1].item()
    assert 0.9 * size <= peak.rise <= 1.5 * size


def test_peak_memory_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoobench.costs.stopwatch._reset_high_water", lambda: False)
    size = 256 * 2**20
    with peak_memory(torch.device("cpu")) as peak:
        for _ in range(3):
            np.ones(size, dtype=np.uint8).sum()
    assert peak.how.startswith("RSS sampled")
    assert peak.rise >= 0.5 * size


def test_noisy_run_is_repeated_and_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = iter(([1.0, 3.0] * 100 + [1.0, 2.0] * 100) * 5)
    monkeypatch.setattr("zoobench.costs.stopwatch.once", lambda step, wait: next(noise))
    timing = timed(lambda: None, lambda: None, seconds=0.0)
    assert timing.repeated
    assert timing.noisy
    assert timing.detail()["noisy"] is True


def test_calm_run_is_not_repeated() -> None:
    timing = Timing(tuple([1.0] * 39 + [9.0]), 10)
    assert not timing.noisy
    assert timing.p50 == 1.0
    assert timing.interval == (1.0, 1.0)


@pytest.mark.parametrize("device", DEVICES)
def test_training_step_leaves_the_backbone_alone(device: str) -> None:
    backbone = Pictures()
    before = {name: value.clone() for name, value in backbone.module.state_dict().items()}
    found = by_name(training_costs(backbone, Place(device), batch=2, seconds=0.0))
    assert found["train_step_ms"].n == 40
    assert found["train_step_ms"].detail["batch"] == 2
    memory = found["train_peak_memory_bytes"]
    assert memory.detail["batch"] == 2
    assert memory.unit == METRICS["train_peak_memory_bytes"].unit
    assert all(torch.equal(v, before[k]) for k, v in backbone.module.state_dict().items())
    assert all(p.grad is None for p in backbone.module.parameters())
    assert not backbone.module.training


def test_loading_is_timed_cold_and_warm() -> None:
    calls: list[int] = []

    def load() -> Pictures:
        calls.append(1)
        if len(calls) == 1:
            time.sleep(0.05)
        return Pictures()

    found = by_name(load_seconds(load))
    assert len(calls) == 4
    assert found["load_seconds_cold"].value >= 0.05 > found["load_seconds"].value
    assert len(found["load_seconds"].detail["samples_s"]) == 3


def test_steps_of_a_batch() -> None:
    asked: list[int] = []

    class Counted(Pictures):
        def embed(self, batch: torch.Tensor) -> torch.Tensor:
            asked.append(len(batch))
            return super().embed(batch)

    with stepping(Counted(), Place(), batch=3) as (second, setting):
        assert torch.is_inference_mode_enabled()
        assert second() > 0
        assert warm(second, 0.0) == 10
    assert asked == [3] * 11
    assert setting["batch"] == 3
    assert setting["device"] == "cpu"
    assert setting["dtype"] == "float32"


def test_precision_and_layout_stand_beside_the_time() -> None:
    def setting(backbone: Any, place: Place) -> dict[str, Any]:
        with stepping(backbone, place) as (_, found):
            return found

    plain = setting(Pictures(), Place())
    half = setting(Pictures(), Place(precision="bf16"))
    assert (plain["dtype"], half["dtype"]) == ("float32", "bfloat16")
    mixed = setting(Pictures(), Place(precision="autocast"))
    assert mixed["dtype"] == "bfloat16 autocast"
    assert plain["layout"] == "channels_last"
    words = setting(Words(), Place())
    assert words["layout"] == "contiguous"


def test_memory_on_a_card_is_the_models_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoobench.costs import measured
    from zoobench.costs.stopwatch import Peak

    peak = Peak(before=5_000_000, peak=5_004_000, how="cuda allocator")
    found = measured._memory(Pictures(), {"device": "a card"}, peak, baseline_rss=100)
    assert found.value == 4_000 + 4 * (8 * 27 + 8)


def test_energy_is_read_where_the_machine_gives_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = tmp_path / "energy_uj"
    monkeypatch.setattr("zoobench.costs.stopwatch.RAPL", counter)
    monkeypatch.setitem(LARGEST_BATCH, "cpu", 1)
    assert "energy_joules" not in by_name(measured_costs(Pictures(), Place(), 0.0))
    counter.write_text("7")
    assert "energy_joules" not in by_name(measured_costs(Pictures(), Place(), 0.0))  # it stands

    class Spending(Pictures):
        def embed(self, batch: torch.Tensor) -> torch.Tensor:
            counter.write_text(str(int(counter.read_text()) + 2_000_000))
            return super().embed(batch)

    spent = by_name(measured_costs(Spending(), Place(), 0.0))["energy_joules"]
    assert spent.value == pytest.approx(2.0)
    assert spent.unit == "J"
    assert spent.detail["source"] == "rapl package 0"


def test_a_counter_that_wraps_round_goes_on(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / "energy_uj"
    monkeypatch.setattr("zoobench.costs.stopwatch.RAPL", counter)
    (tmp_path / "max_energy_range_uj").write_text("10000000\n")
    counter.write_text("8000000")
    meter = energy_meter(torch.device("cpu"))
    assert meter is not None
    read, _ = meter
    before = read()
    counter.write_text("1000000")
    assert read() - before == pytest.approx(3.0)
    counter.write_text("500000")
    assert read() - before == pytest.approx(12.5)


def test_a_model_is_measured_in_a_process_of_its_own() -> None:
    body = device_costs(Ref.parse("synthetic/gabor"), Place(), train_batch=2, seconds=0.0)
    found = {one["metric"]: one for one in body["measurements"]}
    assert {"latency_ms_p50", "throughput", "peak_memory_bytes", "train_step_ms"} <= set(found)
    assert found["load_seconds_cold"]["value"] > found["load_seconds"]["value"] > 0
    assert found["peak_memory_bytes"]["detail"]["over"] == "RSS before the model was loaded"
    assert found["train_step_ms"]["detail"]["batch"] == 2
    lines = "\n".join(render_measured(body))
    assert "batch 1" in lines
    assert "cold with imports" in lines


def test_a_failing_training_step_and_a_lost_process_say_why() -> None:
    arguments = {"ref": "synthetc/gabor", **dataclasses.asdict(Place())}
    arguments |= {"train_batch": 1, "seconds": 0.0}
    with pytest.raises(UserError, match="Did you mean"):
        fresh_process.call("zoobench.costs.device_costs:costs", arguments)
    with pytest.raises(UserError, match="no timing within"):
        fresh_process.call("zoobench.costs.device_costs:costs", arguments, timeout=0.05)
    with pytest.raises(UserError, match="failed: exit code 3"):
        fresh_process.call("os:_exit", {"status": 3})
    for absent in ("zoobench.costs.interleaved:gone", "zoobench.metrics.gone:turns"):
        with pytest.raises(UserError, match="its zoobench has no such measurement"):
            fresh_process.call(absent, {})


def test_a_version_from_before_the_room_of_costs_is_asked_by_its_own_names(tmp_path: Path) -> None:
    old = tmp_path / "zoobench" / "metrics"
    old.mkdir(parents=True)
    for folder in (old.parent, old):
        (folder / "__init__.py").touch()
    (old / "fresh.py").write_text(
        "import json\n"
        "def child(target, arguments):\n"
        "    print(json.dumps({'value': [target, json.loads(arguments)]}))\n"
    )
    side = fresh_process.Side("old", path=str(tmp_path))
    for new, former in fresh_process.FORMER.items():
        assert fresh_process.call(new, {"a": 1}, side=side) == [former, {"a": 1}]


def test_an_answer_is_found_beside_what_a_library_prints() -> None:
    assert fresh_process.call("builtins:print", {"end": "half a line", "sep": ""}) is None


def test_a_network_that_hears_says_how_much_longer_it_takes_than_its_sound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LARGEST_BATCH, "cpu", 1)
    ears = models.load(models.resolve("synthetic/chirplet"))
    found = by_name(measured_costs(ears, Place(), seconds_budget=0.5))
    factor, latency = found["real_time_factor"], found["latency_ms_p50"]
    assert factor.detail["seconds"] == 2.0
    assert factor.value == pytest.approx(latency.value / 2000)
    assert factor.low == pytest.approx((latency.low or 0) / 2000)
    assert "samples_ms" not in factor.detail
    counted = by_name(static_costs(ears))
    frames = (2 * 8000 - 512) // 32 + 1
    assert counted["macs"].value == frames * 512 * 32
    assert counted["macs"].detail["seconds"] == 2.0
    assert "real_time_factor" not in by_name(measured_costs(Pictures(), Place(), 0.5))
