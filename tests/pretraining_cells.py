"""Suites and cells that pretrain, over the synthetic world."""

from __future__ import annotations

from pathlib import Path

from zoobench.runs import planning, suite
from zoobench.schema import PRETRAIN, Cell

STRIPES = "synthetic/stripes?train=48&test=24&valid=24"


def pretrain_suite(
    *objectives: str, rest: str = "", methods: str = '["knn"]', **row: object
) -> str:
    """The text of a suite of one encoder an objective, each named as its objective."""
    how = {"steps": 8, "batch": 8, "rates": [1e-3, 3e-3], **row}
    rows = "".join(
        f'\n[[pretrain]]\nname = "{name}"\nobjective = "{name}"\ndataset = "{STRIPES}"\n'
        + "".join(f"{key} = {value!r}\n" for key, value in how.items())
        for name in objectives
    )
    return (
        f'name = "pretrained"\ndatasets = ["{STRIPES}"]\nmethods = {methods}\n'
        f'precision = "fp32"\nseeds = [0, 1]\n{rest}\n{rows}\n[limits]\ncost_seconds = 0\n'
    )


def read(text: str, folder: Path) -> suite.Suite:
    file = folder / "pretrained.toml"
    file.write_text(text)
    return suite.read(str(file))


def pretrain_cell(objective: str, seed: int = 0) -> Cell:
    """The cell that makes the encoder of an objective on stripes."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        cells = planning.plan(read(pretrain_suite(objective), Path(folder)))
    return next(c for c in cells if c.method == PRETRAIN and c.seed == seed)
