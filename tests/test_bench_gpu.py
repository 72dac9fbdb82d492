"""benchmarks/bench_gpu.py with `--quick` on the CPU, and the JSON that it writes."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from imitated_card import DEVICE, imitated

FOLDER = Path(__file__).parent.parent / "benchmarks"
NETWORK = {
    "name": str, "ref": str, "precision": str, "flops": float, "bare": float, "train_steps": float,
    "plain_steps": float, "stages": dict, "recorded": type(None),  # on the CPU there are none
}  # fmt: skip


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file of the benchmarks, as a script finds what lies beside it."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module(name)


def test_every_part_runs_and_its_json_has_its_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, out = module("bench_gpu", monkeypatch), tmp_path / "bench.json"
    asked = ["bench_gpu.py", "--quick", "--device", "cpu", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", asked)
    assert bench.main() == 0
    body = json.loads(out.read_text("ascii"))
    assert body.keys() == {
        "schema", "device", "torch", "driver", "cores", "quick", "ceilings", "networks", "probes",
        "products", "suite", "seconds",
    }  # fmt: skip
    assert body["schema"] == bench.SCHEMA
    assert body["ceilings"].keys() == {"matmul_float32", "matmul_bfloat16", "copy_bytes"}
    assert [one["name"] for one in body["networks"]] == list(bench.TINY)
    for one in body["networks"]:
        kinds = {"texts"} if one["name"] == bench.TEXTS else {"pixels", "jpeg"}
        first = {"idle_share"} if one is body["networks"][0] else set()
        assert one.keys() == NETWORK.keys() | kinds | first
        assert all(0 < one[name] < 1 for name in first)
        assert all(isinstance(one[name], kind) for name, kind in NETWORK.items())
        assert all(one[kind] > 0 for kind in (*kinds, "bare", "train_steps", "plain_steps"))
        assert one["stages"].keys() == kinds
        assert {told["bound"] for told in one["stages"].values()} <= {"decode", "copy", "compute"}
        assert all(told["computed"] > 0 for told in one["stages"].values())
    assert body["probes"]["relative_gap"] < 1e-4
    assert min(body["probes"].values()) > 0
    assert body["products"].keys() == {
        "lambdas", "scores_seconds", "scores_ratio", "gradients_seconds", "gradients_ratio",
    }  # fmt: skip
    assert min(body["products"].values()) > 0
    whole = body["suite"]
    assert [row["ref"] for row in whole["models"]] == list(bench.TINY_SUITE)
    rates = [row["bare"] for row in whole["models"]]
    assert rates[0] == body["networks"][0]["bare"], "what is known is not measured again"
    assert rates[1] > 0
    parts = ("decode_seconds", "features_seconds", "probe_seconds", "knn_seconds")
    assert whole["seconds"] == pytest.approx(sum(whole[name] for name in parts))
    pictures = sum(10_000 / (rate * whole["share"]) for rate in rates)
    assert whole["features_seconds"] == pytest.approx(pictures)
    said = capsys.readouterr().out
    assert all(name in said for name in bench.TINY)
    assert max(map(len, said.splitlines())) <= 100


def test_a_part_that_fails_costs_its_own_numbers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, out = module("bench_gpu", monkeypatch), tmp_path / "bench.json"
    second = list(bench.TINY)[1]
    whole = bench.network

    def network(timed: Any, name: str, *rest: Any) -> Any:
        if name == second:
            raise RuntimeError("CUDA error: device-side assert triggered\nand more")
        return whole(timed, name, *rest)

    def fails(*_: Any) -> Any:
        raise ValueError("no such product")

    monkeypatch.setattr(bench, "network", network)
    monkeypatch.setattr(bench, "products", fails)
    monkeypatch.setattr(
        sys, "argv", ["bench_gpu.py", "--quick", "--device", "cpu", "--out", str(out)]
    )
    assert bench.main() == 3
    body = json.loads(out.read_text("ascii"))
    good, bad = body["networks"]
    assert "error" not in good
    assert bad["error"] == "RuntimeError: CUDA error: device-side assert triggered"
    assert body["products"] == {"error": "ValueError: no such product"}
    assert body["probes"]["relative_gap"] < 1e-4
    assert body["suite"]["seconds"] > 0
    said = capsys.readouterr().out
    assert "several penalties in one product: ValueError: no such product" in said
    assert "device-side assert" in said


@pytest.mark.parametrize(
    ("intervals", "wall", "share"),
    [
        ([], 4.0, 1.0),
        ([(0, 4)], 4.0, 0.0),
        ([(1, 2), (3, 4)], 4.0, 0.5),
        ([(3, 4), (1, 2)], 4.0, 0.5),
        ([(1, 3), (2, 4), (2, 3)], 4.0, 0.25),  # side by side, and one inside another
        ([(0, 4), (1, 2), (3, 5)], 10.0, 0.5),
        ([(7, 7), (5, 6)], 2.0, 0.5),
        ([(0, 5)], 4.0, 0.0),  # clocks differ a little
    ],
)
def test_a_device_idles_while_no_kernel_runs(
    intervals: list[tuple[float, float]], wall: float, share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert module("gpu_parts", monkeypatch).idle_share(intervals, wall) == pytest.approx(share)


def test_the_profiler_tells_what_ran_from_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, clock = module("gpu_parts", monkeypatch), module("gpu_clock", monkeypatch)
    bench = clock.Bench(torch.device("cpu"), clock.QUICK)
    a = torch.randn(256, 256)

    def works() -> None:
        for _ in range(60):
            torch.mm(a, a)

    def waits() -> None:
        works()
        time.sleep(0.3)

    assert parts.idle(bench, works) < parts.idle(bench, waits)
    assert parts.idle(bench, waits) > 0.5


def test_the_suite_s_models_have_an_architecture_to_measure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = module("gpu_parts", monkeypatch)
    refs = parts.suite_models()
    assert len(refs) == 13
    names = {parts.architecture(ref).partition("?")[0] for ref in refs}
    assert len(names) == 11
    for name in names:
        source, _, bare = name.partition("/")
        with (FOLDER.parent / f"results/costs/{source}.csv").open(encoding="ascii") as file:
            assert bare in {line.partition(",")[0] for line in file}, name
    sized = "timm/vit_small_patch14_dinov2?input_size=224"
    assert parts.architecture("timm/vit_small_patch14_dinov2.lvd142m?input_size=224") == sized


def test_each_part_runs_where_the_network_lies_on_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an imitated one, which refuses what a GPU refuses: tensors of two devices."""
    bench, clock = module("bench_gpu", monkeypatch), module("gpu_clock", monkeypatch)
    parts = module("gpu_parts", monkeypatch)
    name, ref = next(iter(bench.TINY.items()))
    timed = clock.Bench(DEVICE, clock.QUICK)
    with imitated(monkeypatch) as card:
        row = bench.network(timed, name, ref, bench.jpegs(tmp_path, 4), False, True)
        found = parts.probes(timed), parts.products(timed), parts.methods(timed)
    assert card.operations > 1000
    assert min(row["bare"], row["pixels"], row["jpeg"], row["train_steps"]) > 0
    assert found[0]["relative_gap"] < 1e-4
