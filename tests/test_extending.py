"""Someone adds a method, and plants a fault, by following CONTRIBUTING.md and nothing else."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import forked
from cells import write_suite
from zoobench import store
from zoobench.ranking.rank import rank
from zoobench.runs import session, suite
from zoobench.runs.session import RunOptions

ROOT = Path(__file__).parents[1]


def run(file: Path, out: Path) -> store.Run:
    session.execute(suite.read(str(file)), RunOptions(out, "cpu"), lambda plan, event: None)
    return store.load(out)


def test_the_method_of_contributing_works_as_a_plug_in(tmp_path: Path) -> None:
    """The page's own code, in a package of its own, through an entry point."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    package = tmp_path / "site"
    (package / "mypackage").mkdir(parents=True)
    (package / "mypackage" / "__init__.py").write_text("")
    (package / "mypackage" / "centroid.py").write_text(code[1])
    info = package / "mypackage-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[zoobench.methods]\ncentroid = mypackage.centroid:Centroid\n"
    )
    file = write_suite(tmp_path / "s.toml", methods=["centroid"])
    done = forked.run(
        "-m", "zoobench", "run", str(file), "--out", str(tmp_path / "run"),
        env={**os.environ, "PYTHONPATH": str(package)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = store.load(tmp_path / "run").records
    assert record.cell.method == "centroid"
    assert record.cell.params == {"temperature": 1.0}
    accuracy = record.get("accuracy")
    assert accuracy is not None
    assert accuracy.low is not None
    assert accuracy.low > 0.25


@pytest.mark.timeout(280)
def test_a_planted_preprocessing_fault_shows(tmp_path: Path) -> None:
    """Real weights, fed as if pixels ran to 255 when they run to 1: a clear drop, and `suspect`."""
    lite0 = "packaged/efficientnet-lite0?input_size=64"
    file = write_suite(
        tmp_path / "s.toml",
        models=[lite0, f"{lite0}&mean=[0.5,0.5,0.5]&std=[128,128,128]"],
        datasets=["packaged/mnist-5k?max_train=300&max_valid=100&max_test=300"],
        methods=["linear-probe"],
        controls='["raw-input"]',
        rest="[limits]\ncost_seconds = 0",
    )
    found = run(file, tmp_path / "run")
    scores = {r.cell.model: r for r in found.records if r.cell.method == "linear-probe"}
    faulty = next(r for model, r in scores.items() if "mean" in model.text)
    sound = next(r for model, r in scores.items() if "mean" not in model.text)
    drop, good = faulty.get("accuracy"), sound.get("accuracy")
    assert drop is not None
    assert good is not None
    assert drop.high is not None
    assert good.low is not None
    assert drop.high < good.low, "the intervals must be apart"
    (section,) = rank([found]).sections
    flags = {row.model: {flag.name for flag in row.flags} for row in section.rows}
    assert any("mean" in model.text and "suspect" in names for model, names in flags.items()), flags
