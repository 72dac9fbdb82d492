"""benchmarks/bench_gpu.py with `--quick` on the CPU, and the JSON that it writes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parent.parent / "benchmarks/bench_gpu.py"
NETWORK = {
    "name": str, "ref": str, "precision": str, "flops": float, "bare": float, "train_steps": float,
    "plain_steps": float, "stages": dict,
}  # fmt: skip


def module() -> Any:
    spec = importlib.util.spec_from_file_location("bench_gpu", FILE)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["bench_gpu"] = found  # where dataclasses look
    spec.loader.exec_module(found)
    return found


def test_every_part_runs_and_its_json_has_its_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(FILE.parent)  # where a script finds what lies beside it
    bench, out = module(), tmp_path / "bench.json"
    asked = ["bench_gpu.py", "--quick", "--device", "cpu", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", asked)
    bench.main()
    body = json.loads(out.read_text("ascii"))
    assert body.keys() == {
        "schema", "device", "torch", "driver", "cores", "quick", "ceilings", "networks", "probes",
        "seconds",
    }  # fmt: skip
    assert body["schema"] == bench.SCHEMA
    assert body["ceilings"].keys() == {"matmul_float32", "matmul_bfloat16", "copy_bytes"}
    assert [one["name"] for one in body["networks"]] == list(bench.TINY)
    for one in body["networks"]:
        kinds = {"texts"} if one["name"] == bench.TEXTS else {"pixels", "jpeg"}
        assert one.keys() == NETWORK.keys() | kinds
        assert all(isinstance(one[name], kind) for name, kind in NETWORK.items())
        assert all(one[kind] > 0 for kind in (*kinds, "bare", "train_steps", "plain_steps"))
        assert one["stages"].keys() == kinds
        assert {told["bound"] for told in one["stages"].values()} <= {"decode", "copy", "compute"}
        assert all(told["computed"] > 0 for told in one["stages"].values())
    assert body["probes"]["relative_gap"] < 1e-4
    assert min(body["probes"].values()) > 0
    said = capsys.readouterr().out
    assert all(name in said for name in bench.TINY)
    assert max(map(len, said.splitlines())) <= 100
