"""Many architectures with random weights: what of usability needs none, as a CSV.

A model's rows are written together when all of its probes have answered, so that a sweep that was
stopped goes on with the next model. Its probes share one process, not the model; a crash or a hang
costs that process, and the answer to that probe alone.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from zoobench import escape, models
from zoobench.costs import known
from zoobench.errors import UserError, one_line, unknown
from zoobench.files import write_atomic
from zoobench.schema import Ref
from zoobench.usability import PROBES, ProbeResult, Said, encoders
from zoobench.usability.answers import versions
from zoobench.usability.check import UNLOADED, Prober, outcome
from zoobench.usability.families import SWEPT
from zoobench.workers.request_worker import RequestWorker
from zoobench.workers.settings import Settings

COLUMNS = ("model", "probe", "answer", "value", "why", "versions")
SWEPT_PROBES = (
    "loads", "deterministic", "stateless", "thread-invariant", "batch-invariant",
    "order-invariant", "other-sizes", "differentiable", "exports-torch", "exports-onnx",
    "exports-torchscript", "trains-batch-8", "quantises",
)  # fmt: skip
"""Those whose answers hardly depend on the weights. Compiling and the audit of preprocessing are
left out: the one takes minutes a model, the other means nothing without training."""
SECONDS = 200.0
"""A probe of a sweep is stopped after this long."""

PRELOAD = ("timm", "torchvision", "torch.export", "torch.onnx._internal.exporter._core",
           "onnxscript", "onnxruntime", "transformers.modeling_utils",
           "transformers.image_processing_utils_fast")  # fmt: skip
"""What the probes import, loaded once for all processes of a sweep where it is installed."""
TIMES = "s"
"""A unit whose values are left out: a sweep runs beside other work, and loads its libraries
before."""

Row = dict[str, str]
Progress = Callable[[int, int, str], None]


def names(source: str, pattern: str = "*") -> list[str]:
    """Of the literal list of `source`, what matches one of the globs (commas between), small ones
    first as far as sizes are known.

    Raises UnknownName for another source, and where nothing matches.
    """
    if source not in SWEPT:
        raise unknown("check", "source to sweep", source, SWEPT)
    globs = [glob.strip() for glob in pattern.split(",")]
    found = [n for n in SWEPT[source] if any(fnmatch.fnmatchcase(n, glob) for glob in globs)]
    if not found:
        raise unknown("check", f"swept {source} architecture", pattern, SWEPT[source])
    return sorted(found, key=lambda name: _macs(source, name))


def _macs(source: str, name: str) -> int:
    row = known.network(source, name)
    return row.macs if row else 0


def sweep(
    source: str,
    pattern: str,
    out: Path,
    progress: Progress = lambda done, total, name: None,
    probes: Sequence[str] = SWEPT_PROBES,
) -> Iterator[list[Row]]:
    """The rows of each model in turn, which are also written to the CSV `out`.

    Models that `out` has are yielded as they stand. `progress(done, total, model)` is called after
    each. Raises UserError for an unknown source, a pattern that matches nothing, or a foreign
    `out`.
    """
    wanted = names(source, pattern)
    held = read(out)
    for done, name in enumerate(wanted, 1):
        model = f"{source}/{name}"
        if model not in held:
            held[model] = _asked(source, name, probes)
            _write(out, held)
        progress(done, len(wanted), model)
        yield held[model]


def _asked(source: str, name: str, probes: Sequence[str]) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="zoobench-") as folder:
        try:
            ref = _ref(source, name, Path(folder) / name)
        except Exception as error:  # noqa: BLE001 - a configuration raises whatever it likes
            found = [ProbeResult("unknown", UNLOADED + one_line(error)) for _ in probes]
            return _rows(f"{source}/{name}", Ref(source, name), probes, found)
        with RequestWorker(Prober, Settings(threads=1), PRELOAD) as worker:
            found = list(_answers(worker, ref, probes))
    return _rows(f"{source}/{name}", ref, probes, found)


def _answers(worker: RequestWorker, ref: Ref, probes: Sequence[str]) -> Iterator[ProbeResult]:
    """In the order of `probes`; a model that cannot be loaded is not tried again."""
    unloaded: ProbeResult | None = None
    for probe in probes:
        found = unloaded or outcome(worker, probe, ref, min(PROBES[probe].seconds, SECONDS))
        if found.why.startswith(UNLOADED):
            unloaded = found
        yield found


def _ref(source: str, name: str, folder: Path) -> Ref:
    if source == "transformers":
        folder.mkdir()
        return models.resolve(encoders.built(name, folder))
    return models.resolve(Ref(source, name).with_options(weights="random"))


def _rows(model: str, ref: Ref, probes: Sequence[str], found: Sequence[ProbeResult]) -> list[Row]:
    return [
        {
            "model": model,
            "probe": probe,
            "answer": one.answer,
            "value": _written(probe, one.value),
            "why": escape.private(one.why.replace("\n", " ")),
            "versions": ", ".join(f"{k} {v}" for k, v in versions(ref, probe).items()),
        }
        for probe, one in zip(probes, found, strict=True)
    ]


def _written(probe: str, value: float | None) -> str:
    return "" if value is None or PROBES[probe].unit == TIMES else f"{value:.6g}"


def read(path: Path) -> dict[str, list[Row]]:
    """model -> its rows, as a sweep wrote them; empty where there is no file.

    Raises UserError, which names the line, where the file is no such table.
    """
    if not path.exists():
        return {}
    if not path.is_file():
        raise UserError(f"{path}: not a regular file")
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        if tuple(reader.fieldnames or ()) != COLUMNS:
            held = str(reader.fieldnames)[:200]
            raise UserError(f"{path}: not a table of usability: its columns are {held}")
        found: dict[str, list[Row]] = {}
        for line in reader:
            if None in line or None in line.values() or line["answer"] not in get_args(Said):
                raise UserError(f"{path}:{reader.line_num}: not a row of usability")
            found.setdefault(line["model"], []).append(line)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a table of usability: {error}") from error
    return found


def path_of(source: str) -> Path:
    """Where the table of a source lies: in the installed package, or in results of a checkout."""
    packed = Path(__file__).parent / f"{source}.csv"
    return (
        packed if packed.exists() else Path(__file__).parents[3] / f"results/usability/{source}.csv"
    )


def swept(pattern: str = "*") -> dict[str, list[Row]]:
    """model -> its rows in the tables that come with the package, of those whose source/name, or
    name alone, matches the glob `pattern`; case is ignored."""
    glob = pattern.casefold()
    return {
        model: rows
        for source in SWEPT
        for model, rows in read(path_of(source)).items()
        if fnmatch.fnmatchcase(model.casefold(), glob)
        or fnmatch.fnmatchcase(model.partition("/")[2].casefold(), glob)
    }


def _write(path: Path, held: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for rows in held.values():
        writer.writerows({k: escape.csv(v) for k, v in row.items()} for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue().encode())
