"""timm's published result tables as a run: `zoobench import timm DIR|CSV... --out RUN`.

The tables stand in timm's repository under results/ (Apache-2.0; R. Wightman, PyTorch
Image Models). Each row of `results-*.csv` becomes a record of method "published", with
the flag "imported". It has no per-example predictions, so that only its interval can be
given: Wilson's, from the score and the size of the test set.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoobench.errors import StoreError, UserError, unknown
from zoobench.files import write_atomic
from zoobench.metrics import measured
from zoobench.schema import Cell, Measurement, ModelCard, Record, Ref
from zoobench.statistics.paired import wilson
from zoobench.store import ENVIRONMENT, RECORDS, SUITE, encode

SOURCE = "timm's published result tables (huggingface/pytorch-image-models, results/)"
LICENSE = "Apache-2.0"
METHOD = "published"
FLAG = "imported"


@dataclass(frozen=True)
class TestSet:
    """A test set of the tables: pictures, and the classes that they have."""

    __test__ = False  # not a pytest class, whatever its name begins with

    name: str
    pictures: int
    classes: int


TEST_SETS: Mapping[str, TestSet] = {
    "results-imagenet.csv": TestSet("imagenet", 50_000, 1000),
    "results-imagenet-real.csv": TestSet("imagenet-real", 46_837, 1000),
    "results-imagenetv2-matched-frequency.csv": TestSet("imagenet-v2", 10_000, 1000),
    "results-sketch.csv": TestSet("imagenet-sketch", 50_889, 1000),
    "results-imagenet-a.csv": TestSet("imagenet-a", 7_500, 200),
    "results-imagenet-r.csv": TestSet("imagenet-r", 30_000, 200),
}
"""Russakovsky 2015; Beyer 2020 (pictures with a label); Recht 2019; Wang 2019; Hendrycks 2021
(two). The size of each is what its paper gives."""


@dataclass(frozen=True)
class Results:
    """One CSV file: its rows, and the first digits of its sha256."""

    name: str
    rows: list[dict[str, str]]
    digest: str


@dataclass(frozen=True)
class Imported:
    """What an import wrote: how many models and records, from which files, and which it left."""

    models: int
    records: int
    files: tuple[str, ...]
    ignored: tuple[str, ...]


def run(paths: Sequence[Path], out: Path) -> Imported:
    """Write the tables at `paths` (a folder, or CSV files) as a run directory `out`.

    Raises UserError where a file is no such table, and StoreError where `out` holds
    another run or cannot be written. The same files give the same records.
    """
    files = _files(paths)
    named = [p for p in files if p.name in TEST_SETS or p.name.startswith("benchmark-infer-")]
    tables = [_read(path) for path in named]
    results = [table for table in tables if table.name in TEST_SETS]
    if not results:
        raise unknown(str(paths[0]), "table", files[0].name if files else "", TEST_SETS)
    records = list(_records(results, _costs(t for t in tables if t not in results)))
    used = tuple(table.name for table in tables)
    ignored = tuple(sorted(p.name for p in files if p.name not in used))
    _write(out, records, {table.name: table.digest for table in tables})
    return Imported(len({r.cell.model for r in records}), len(records), used, ignored)


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(path.glob("*.csv"))
        elif path.is_file():
            if path.name not in TEST_SETS and not path.name.startswith("benchmark-"):
                raise unknown("import timm", "table", path.name, TEST_SETS)
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    if not found:
        raise UserError(f"{paths[0]}: holds no CSV file. Known: {', '.join(TEST_SETS)}.")
    return found


NEEDED = {
    "results": ("model", "img_size", "top1", "top5", "param_count"),
    "benchmark": ("model", "infer_img_size", "infer_gmacs", "param_count"),
}
"""Columns that each kind of table must have."""


def _read(path: Path) -> Results:
    try:
        blob = path.read_bytes()
        rows = list(csv.DictReader(blob.decode("utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    needed = NEEDED["results" if path.name in TEST_SETS else "benchmark"]
    have = rows[0] if rows else {}
    lacking = [name for name in needed if name not in have]
    if lacking:
        raise UserError(
            f"{path}: lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}, "
            "so this is no result table of timm"
        )
    for line, row in enumerate(rows, 2):
        for name in needed[1:]:
            if name == "infer_gmacs" and not row[name]:
                continue  # not counted for this model
            _number(row[name], f"{path}:{line}: {name}")
    return Results(path.name, rows, hashlib.sha256(blob).hexdigest()[:16])


def _number(text: str | None, where: str = "") -> float:
    """The tables write thousands with a comma: "1,013.01"."""
    try:
        value = float((text or "").replace(",", ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: expected a number, got {text!r}")
    return value


def _costs(tables: Iterable[Results]) -> dict[tuple[str, int], float]:
    """(architecture, side in pixels) -> MACs; a count holds for one input size only."""
    found: dict[tuple[str, int], float] = {}
    for table in tables:
        for row in table.rows:
            macs = _number(row["infer_gmacs"] or "0") * 1e9
            if macs > 0:  # rounded to 0.01 G: a tiny model's 0.00 is not known
                key = (row["model"].split(".")[0], int(_number(row["infer_img_size"])))
                found.setdefault(key, macs)
    return found


def _records(results: Sequence[Results], macs: Mapping[tuple[str, int], float]) -> Iterable[Record]:
    from zoobench.models.index import by_name

    cards = by_name("timm")
    for table in sorted(results, key=lambda t: list(TEST_SETS).index(t.name)):
        seen: set[Ref] = set()
        for row in table.rows:
            architecture, size = row["model"].split(".")[0], int(_number(row["img_size"]))
            model = Ref("timm", row["model"]).with_options(img_size=size)
            if model in seen:
                raise UserError(f"{table.name}: {model} stands in it twice")
            seen.add(model)
            card = next(iter(cards.get(row["model"], ())), None)
            yield _record(table, row, model, macs.get((architecture, size)), card)


def _record(
    table: Results, row: Mapping[str, str], model: Ref, macs: float | None, card: ModelCard | None
) -> Record:
    """`card` is what the installed timm says of these weights; None where it knows them no more."""
    from zoobench.models.index import family

    test = TEST_SETS[table.name]
    params = _number(row["param_count"]) * 1e6
    costs = [measured("params", params)]
    if macs is not None:
        costs.append(measured("macs", macs))
    size = int(_number(row["img_size"]))
    versions = {"protocol": METHOD, "dataset": table.digest, "precision": METHOD}
    return Record(
        Cell(model, Ref("published", test.name), METHOD, versions=versions),
        "ok",
        (
            _score("accuracy", row["top1"], test.pictures),
            _score("top5_accuracy", row["top5"], test.pictures),
            *costs,
        ),
        flags=(FLAG,),
        provenance={
            FLAG: {"source": SOURCE, "file": table.name, "license": LICENSE},
            "sizes": {"test": test.pictures},
            "classes": test.classes,
            "nature": "real",
            "model": {
                "license": card.license if card else "unknown",
                "family": card.family if card else family(row["model"].split(".")[0]),
                "pretrained_on": card.pretrained_on if card else "unknown",
                "input_size": [3, size, size],
            },
        },
    )


def _score(metric: str, percent: str, n: int) -> Measurement:
    share = _number(percent) / 100
    low, high = wilson(share, n)
    return measured(metric, round(share, 8), low=low, high=high, n=n)


def _write(out: Path, records: Sequence[Record], digests: Mapping[str, str]) -> None:
    """A new run directory, or the same import again: nothing else is ever written over."""
    suite = out / SUITE
    identity = "imported-timm"
    if (out / RECORDS).exists() and not (
        suite.exists() and f'identity = "{identity}"' in suite.read_text(encoding="utf-8")
    ):
        raise StoreError(f"{out}: holds another run; choose another --out")
    about: dict[str, Any] = {
        "imported": {"source": SOURCE, "license": LICENSE, "at": datetime.now(UTC).date()},
        "files": dict(digests),
    }
    text = (
        f'name = "timm results"\nidentity = "{identity}"\n'
        'description = "Published numbers, imported: nothing in this run was measured here"\n'
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(suite, text.encode())
        body = json.dumps(about, indent=1, sort_keys=True, default=str) + "\n"
        write_atomic(out / ENVIRONMENT, body.encode())
        write_atomic(out / RECORDS, b"".join(map(encode, records)))
    except OSError as error:
        raise StoreError(f"{out}: cannot be written: {error.strerror}") from error
