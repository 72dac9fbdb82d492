"""Comparing stays linear and lean: benchmarks/bench_compare.py at a fifth of its smaller size."""

from __future__ import annotations

import importlib.util
import time
import tracemalloc
from pathlib import Path
from types import ModuleType

from zoobench.compare.compare import compare, load


def benchmark() -> ModuleType:
    file = Path(__file__).parents[2] / "benchmarks" / "bench_compare.py"
    spec = importlib.util.spec_from_file_location("bench_compare", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_thousand_records_a_side(tmp_path: Path) -> None:
    """10,000 in 5 s and 100,000 in 3 GiB are 1 s and 30 MiB a side; time has room for a busy
    machine."""
    bench = benchmark()
    for seed, side in enumerate("ab"):
        bench.write(tmp_path / side, 2000, 20, seed)
    clock = time.process_time()
    found = compare(load(tmp_path / "a"), load(tmp_path / "b"))
    assert time.process_time() - clock < 4
    assert found.exit_code == 0
    assert sum(found.counts.values()) > 400
    tracemalloc.start()
    try:
        run = load(tmp_path / "a")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(run.records) == 2000
    assert peak < 20 * 2**20
