"""Comparing stays linear and lean: benchmarks/bench_compare.py at a fiftieth of its size."""

from __future__ import annotations

import importlib.util
import json
import time
import tracemalloc
from pathlib import Path
from types import ModuleType

import pytest

from zoobench.compare import lines as record_lines
from zoobench.compare.compare import compare, load, load_both
from zoobench.errors import StoreError


def benchmark() -> ModuleType:
    file = Path(__file__).parents[2] / "benchmarks" / "bench_compare.py"
    spec = importlib.util.spec_from_file_location("bench_compare", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_thousand_records_a_side(tmp_path: Path) -> None:
    """100,000 in 10 s and 1 GiB is 0.2 s and 20 MiB; time has room for a busy machine."""
    bench = benchmark()
    for seed, side in enumerate("ab"):
        bench.write(tmp_path / side, 2000, 20, seed)
    clock = time.process_time()
    baseline, candidate = load_both(tmp_path / "a", tmp_path / "b")
    found = compare(baseline, candidate)
    assert time.process_time() - clock < 4
    assert found.exit_code == 0
    assert sum(found.counts.values()) > 400
    tracemalloc.start()
    try:
        load(tmp_path / "a")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2**20


def test_lines_are_the_same_in_whatever_blocks_and_spacing_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benchmark()
    bench.write(tmp_path / "a", 40, 4, 0)
    file = tmp_path / "a" / "records.jsonl"
    whole = load(tmp_path / "a").records
    lines = file.read_bytes().splitlines()
    compact = json.dumps(json.loads(lines[7]), sort_keys=True, separators=(",", ":")).encode()
    escaped = lines[9].replace(b'"metric": "accuracy"', b'"metric":"\\u0061ccuracy"')
    mixed = [*lines[:7], compact, lines[8], escaped, *lines[10:]]
    file.write_bytes(b"\n".join(mixed) + b"\n" + lines[0][:200])
    for size in (100, 4096, 2**16):
        monkeypatch.setattr(record_lines, "_BLOCK", size)
        assert load(tmp_path / "a").records == whole
    file.write_bytes(b"\n".join([*lines[:20], b"{]", *lines[20:]]) + b"\n")
    with pytest.raises(StoreError, match=r"records\.jsonl:21: not a record"):
        load(tmp_path / "a")
