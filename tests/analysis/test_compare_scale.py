"""Comparing stays linear and lean: benchmarks/bench_compare.py at a twenty-fifth of its size."""

from __future__ import annotations

import importlib.util
import time
import tracemalloc
from pathlib import Path
from types import ModuleType

from zoobench.analysis.compare import compare, load


def benchmark() -> ModuleType:
    file = Path(__file__).parents[2] / "benchmarks" / "bench_compare.py"
    spec = importlib.util.spec_from_file_location("bench_compare", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_four_thousand_records_a_side(tmp_path: Path) -> None:
    """100,000 in 10 s and 1 GiB is 0.4 s and 41 MiB; time has room for a busy machine."""
    bench = benchmark()
    for seed, side in enumerate("ab"):
        bench.write(tmp_path / side, 4000, 40, seed)
    clock = time.process_time()
    baseline, candidate = load(tmp_path / "a"), load(tmp_path / "b")
    found = compare(baseline, candidate)
    assert time.process_time() - clock < 6
    assert found.exit_code == 0
    assert sum(found.counts.values()) > 400
    tracemalloc.start()
    try:
        load(tmp_path / "a")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20
