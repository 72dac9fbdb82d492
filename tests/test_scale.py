"""10,000 cells: what is looked at, how often, and in how much memory. Times: bench_engine.py."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zoobench import store
from zoobench.metrics import METRICS, measured
from zoobench.runs import planning, session, suite
from zoobench.runs.session import RunOptions
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import Record

CELLS = 10_000
MANY = f"""
name = "many"
models = ["synthetic/gabor"]
datasets = ["synthetic/stripes"]
methods = ["knn"]
controls = false
shots = {list(range(1, 11))}
draws = {CELLS // 10}
"""

RESUME = """
import json, sys
from pathlib import Path
from zoobench.runs import session, suite
folder = Path(sys.argv[1])
plan = session.execute(
    suite.read(str(folder / "s.toml")), session.RunOptions(folder / "run", device="cpu"),
    lambda plan, event: None,
)
status = Path("/proc/self/status").read_text()  # ru_maxrss would start at the test's own size
mib = int(status.partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps([len(plan.cells), len(plan.todo), len(plan.records), mib, "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of CELLS cells and a finished run of it, with records as large as real ones."""
    path = tmp_path_factory.mktemp("many")
    (path / "s.toml").write_text(MANY)
    spec = suite.read(str(path / "s.toml"))
    cells = planning.plan(spec)
    numbers = tuple(
        measured(name, 0.5, low=0.4, high=0.6, n=100, detail={"resamples": 1000})
        for name in list(METRICS)[:28]
    )
    # One record is written by the store, the others are its line under their own names.
    with store.Store(path / "run", to_toml(spec), spec.identity) as writer:
        writer.append(Record(cells[0], "ok", numbers))
    line = (path / "run" / store.RECORDS).read_text()
    head = json.dumps(cells[0].key), f'"seed":{cells[0].seed},"shots":{cells[0].shots}'
    assert all(part in line for part in head)
    with (path / "run" / store.RECORDS).open("w") as file:
        for cell in cells:
            seed = f'"seed":{cell.seed},"shots":{cell.shots}'
            file.write(line.replace(head[0], json.dumps(cell.key)).replace(head[1], seed))
    return path


def test_planning_asks_for_plug_ins_a_few_times_not_for_every_cell(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = importlib.metadata.entry_points

    def counted(**given: Any) -> Any:
        asked.append(given["group"])
        return real(**given)

    monkeypatch.setattr(importlib.metadata, "entry_points", counted, raising=True)
    plan = session.make_plan(suite.read(str(folder / "s.toml")), RunOptions(tmp_path, device="cpu"))
    assert len(plan.todo) == CELLS
    assert len(asked) < 20


def test_the_parent_stays_small_and_never_loads_torch(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RESUME, str(folder)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    cells, todo, records, mib, torch = json.loads(done.stdout)
    assert (cells, todo, records, torch) == (CELLS, 0, CELLS, False)
    assert mib < 500, "with every record decoded and in memory"
