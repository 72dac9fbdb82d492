"""Cells, groups and suites over the synthetic world, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoobench import methods
from zoobench.schema import PROTOCOL, Cell, Record, Ref
from zoobench.workers.events import Finished
from zoobench.workers.local import LocalEngine, WorkerLimits
from zoobench.workers.runner import groups
from zoobench.workers.settings import Settings

STRIPES = "synthetic/stripes@1?test=60&train=80"
GABOR = "synthetic/gabor@1"


def cell(
    model: str = GABOR,
    dataset: str = STRIPES,
    method: str = "knn",
    seed: int = 0,
    shots: int | None = None,
    **params: Any,
) -> Cell:
    """A cell with its parameters complete, at today's versions."""
    built = methods.build(method, params)
    versions: Mapping[str, Any] = {"protocol": PROTOCOL, "precision": "fp32"}
    names = Ref.parse(model), Ref.parse(dataset)
    return Cell(*names, method, methods.params_of(built), seed, shots, versions)


def settings(cache: Path | str = "", device: str = "cpu") -> Settings:
    return Settings(device, threads=1, cache=str(cache), measure_costs=False)


def run(
    cells: Sequence[Cell],
    limits: WorkerLimits | None = None,
    workers: int = 1,
    cache: Path | str = "",
    device: str = "cpu",
) -> dict[str, Record]:
    """Every record of `cells` from real worker processes, by key."""
    engine = LocalEngine(settings(cache, device), limits or WorkerLimits(), workers)
    found: dict[str, Record] = {}
    for event in engine.events(groups(cells)):
        if isinstance(event, Finished):
            record = event.result.record
            assert record.key not in found, "a cell ended twice"
            found[record.key] = record
    return found


SUITE = """
name = "{name}"
models = [{models}]
datasets = [{datasets}]
methods = [{methods}]
controls = {controls}
{rest}
"""


def write_suite(
    path: Path,
    name: str = "t",
    models: Sequence[str] = (GABOR.replace("@1", ""),),
    datasets: Sequence[str] = ("synthetic/stripes?test=60&train=80",),
    methods: Sequence[str] = ("knn",),
    controls: str = "false",
    rest: str = "",
) -> Path:
    """A suite file at `path`; names are quoted here, tables are given as TOML text."""

    def listed(items: Sequence[str]) -> str:
        return ", ".join(i if i.startswith("{") else f'"{i}"' for i in items)

    path.write_text(
        SUITE.format(
            name=name,
            models=listed(models),
            datasets=listed(datasets),
            methods=listed(methods),
            controls=controls,
            rest=rest,
        )
    )
    return path
