"""Join run directories of one suite: shards of a CI matrix, machines of a cluster.

The result is a run directory like any other: it can be reported, compared and gone on
with. A cell that several runs answered must have the same numbers in all of them; times
may differ, since they belong to a machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from zoobench import store
from zoobench.errors import StoreError, UserError
from zoobench.files import new_folder, write_atomic
from zoobench.runs import planning, suite
from zoobench.schema import Cell, Record, Ref
from zoobench.tasks import task_of
from zoobench.usability import answers

TOLERANCE = 1e-4
"""Relative difference of a quality number that another processor's rounding may make."""


@dataclass(frozen=True)
class Conflict:
    """One cell, one metric, two runs, two numbers."""

    cell: Cell
    metric: str
    first: tuple[Path, float | None]
    second: tuple[Path, float | None]

    def __str__(self) -> str:
        (here, a), (there, b) = self.first, self.second
        return f"{self.cell.label}: {self.metric} is {_shown(a)} in {here}, {_shown(b)} in {there}"


def _shown(value: float | None) -> str:
    return "absent" if value is None else f"{value:.6g}"


@dataclass(frozen=True)
class Merged:
    """What was written: the records, the cells nobody answered, the conflicts passed over."""

    records: tuple[Record, ...]
    missing: tuple[Cell, ...]
    conflicts: tuple[Conflict, ...]

    @property
    def failed(self) -> int:
        return sum(record.status != "ok" for record in self.records)


def merge(paths: Sequence[Path], out: Path, keep_first: bool = False) -> Merged:
    """Write the union of the runs at `paths` to the new directory `out`, whole or not at all.

    An ok record goes before a failed one, else the first run's counts; of what `zoobench check`
    found the newest answer does. Raises UserError for runs of different suites or hub commits
    and (without `keep_first`) for conflicts, each of them named; StoreError for a run that cannot
    be read or is damaged.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: exists already; merge writes a new directory")
    runs = [store.load(path) for path in paths]
    _check_same_suite(runs)
    chosen: dict[str, tuple[store.Run, Record]] = {}
    conflicts: list[Conflict] = []
    for run in runs:
        for record in run.records:
            held = chosen.get(record.key)
            if held is None or (held[1].status != "ok" and record.status == "ok"):
                chosen[record.key] = (run, record)
            elif record.status == "ok":
                conflicts += _conflicts(held, (run, record))
    if conflicts and not keep_first:
        shown = "\n".join(f"  {conflict}" for conflict in conflicts[:20])
        raise UserError(
            f"the runs disagree on {len({c.cell.key for c in conflicts})} cells:\n{shown}\n"
            "Nothing was written. --keep-first takes the numbers of the run named first."
        )
    planned = planning.plan(suite.read(str(runs[0].path)))
    order = {cell.key: place for place, cell in enumerate(planned)}
    ordered = sorted(chosen.values(), key=lambda pair: order.get(pair[1].key, len(order)))
    _write(out, runs, ordered)
    missing = tuple(cell for cell in planned if cell.key not in chosen)
    return Merged(tuple(record for _, record in ordered), missing, tuple(conflicts))


def _check_same_suite(runs: Sequence[store.Run]) -> None:
    first = runs[0]
    for run in runs:
        if not run.suite.get("identity"):
            raise UserError(f"{run.path}: has no {store.SUITE}, so nobody knows its suite")
        if run.suite["identity"] != first.suite["identity"]:
            raise UserError(
                f"{run.path}: is of the suite {run.suite.get('name')!r}, and {first.path} of "
                f"{first.suite.get('name')!r} (or one of them was edited): only runs of one "
                "suite can be joined"
            )
        named = [
            [name for part in ("models", "datasets") for name in found.suite.get(part, ())]
            for found in (first, run)
        ]
        for ours, theirs in zip(*named, strict=True):
            a, b = Ref.parse(ours), Ref.parse(theirs)
            if a.revision != b.revision:
                raise UserError(
                    f"{run.path}: {b.id} is at {b.revision or 'no commit'}, but at "
                    f"{a.revision or 'no commit'} in {first.path}: name the revision in the "
                    "suite, so that every machine takes the same one"
                )


def _conflicts(
    held: tuple[store.Run, Record], other: tuple[store.Run, Record]
) -> Iterator[Conflict]:
    """Quality numbers that differ by more than rounding."""
    (run, a), (run_b, b) = held, other
    if a.predictions and a.predictions == b.predictions:
        return
    for name in task_of(a.cell).metrics:
        x, y = a.value(name), b.value(name)
        if x == y:
            continue
        if x is None or y is None or not math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=1e-6):
            yield Conflict(a.cell, name, (run.path, x), (run_b.path, y))


def _write(
    out: Path, runs: Sequence[store.Run], chosen: Sequence[tuple[store.Run, Record]]
) -> None:
    """All files in a folder beside `out`, which then takes its name."""
    with new_folder(out) as folder:
        (folder / store.PREDICTIONS).mkdir()
        for run, record in chosen:
            if record.predictions:
                _copy_predictions(run, record, folder)
        lines = b"".join(store.encode(record) for _, record in chosen)
        write_atomic(folder / store.RECORDS, lines)
        if answered := answers.answers_of([run.path for run in runs]):
            blob = b"".join(map(answers.encode, answered.values()))
            write_atomic(folder / answers.FILE, blob)
        text = (runs[0].path / store.SUITE).read_bytes()
        write_atomic(folder / store.SUITE, text)
        body = json.dumps(_environments(runs), indent=1, sort_keys=True, ensure_ascii=False)
        write_atomic(folder / store.ENVIRONMENT, f"{body}\n".encode())


def _copy_predictions(run: store.Run, record: Record, folder: Path) -> None:
    """Raises StoreError where the file is not the one that the record names."""
    name = f"{record.key}.npz"
    file = run.path / store.PREDICTIONS / name
    if not file.exists():
        raise StoreError(f"{file}: is missing, though a record names it; copy the whole directory")
    blob = file.read_bytes()
    if sha256(blob).hexdigest()[:16] != record.predictions:
        raise StoreError(f"{file}: damaged: its content is not what the record names")
    (folder / store.PREDICTIONS / name).write_bytes(blob)


def _environments(runs: Sequence[store.Run]) -> dict[str, Any]:
    """The runs' environment where they agree; else each under `runs`, by number and name."""
    bodies = [store.read_environment(run.path) for run in runs]
    if all(body == bodies[0] for body in bodies):
        return bodies[0]
    names = [f"{number} {run.path.name}" for number, run in enumerate(runs, 1)]
    return {"runs": dict(zip(names, bodies, strict=True))}
