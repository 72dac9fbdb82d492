"""An accepted baseline as files: small, sorted, diffable, and read as a run.

baseline.toml       the suite, and who accepted what, when, why and until when
records.jsonl       a record a line, sorted by cell, without what decides nothing
superseded.jsonl    what a baseline goes back to when an acceptance has run out
predictions.npz     per-example arrays in their smallest types, named by their digest
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.arrays import Archive
from zoobench.compare.match import identity
from zoobench.errors import StoreError
from zoobench.files import parse_json
from zoobench.schema import Outcomes, Record, canonical, digest
from zoobench.store import Run, read_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

BASELINE, SUPERSEDED, PACKED = "baseline.toml", "superseded.jsonl", "predictions.npz"
FORMAT = 2
"""Version of this layout; 1 packed classifications alone."""
INDEX = "index"
"""The member of a packed file that says which of its arrays belong to whom."""


@dataclass(frozen=True)
class Acceptance:
    """One entry of a baseline's log. `until` is an ISO date or ""; `cells` name what changed."""

    date: str
    reason: str
    until: str = ""
    by: str = ""
    cells: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackedRun(Run):
    """A baseline read as a run: `records` are those that hold on the day it is read.

    `log` is oldest first; `expired` those of it whose `until` is past. `accepted` and
    `superseded` are the records of the two files, whatever has run out.
    """

    log: tuple[Acceptance, ...] = ()
    expired: tuple[Acceptance, ...] = ()
    accepted: tuple[Record, ...] = ()
    superseded: tuple[Record, ...] = ()

    @cached_property
    def packed(self) -> Packed:
        """All that was kept. Raises StoreError where the file is damaged."""
        return Packed(self.path / PACKED)

    def outcomes(self, record: Record) -> Outcomes | None:
        """As `Run.outcomes`; what the task allows is rounded to float16."""
        return self.packed.get(record.predictions)


def packed_run(
    folder: Path, records: tuple[Record, ...], older: tuple[Record, ...], today: date
) -> PackedRun:
    """The baseline of `folder` as it holds `today`. Raises StoreError for a bad baseline.toml."""
    body = read_baseline(folder)
    log = read_log(body, folder / BASELINE)
    kept, expired = in_force(log, records, older, today)
    suite = {"name": str(body.get("suite", ""))}
    return PackedRun(folder, kept, suite, log, expired, records, older)


def in_force(
    log: Sequence[Acceptance], records: Sequence[Record], older: Sequence[Record], today: date
) -> tuple[tuple[Record, ...], tuple[Acceptance, ...]]:
    """The records that hold `today`, and the acceptances that have run out.

    A cell whose latest acceptance has run out goes back to its record in `older`, or
    leaves the baseline where it has none there.
    """
    latest: dict[str, Acceptance] = {key: entry for entry in log for key in entry.keys}
    gone = {k for k, e in latest.items() if e.until and date.fromisoformat(e.until) < today}
    kept = tuple(records)
    if gone:
        back, present = keyed(older), keyed(records)
        now = [back.get(key) if key in gone else r for key, r in present.items()]
        now += [r for key, r in back.items() if key in gone and key not in present]
        kept = tuple(r for r in now if r is not None)
    return kept, tuple(e for e in log if any(latest[k] is e and k in gone for k in e.keys))


def keyed(records: Iterable[Record]) -> dict[str, Record]:
    """Records by a short name of what their cells ask, whatever the revisions (see match).
    Of two that ask the same the last counts."""
    return {digest(identity(record.cell), 12): record for record in records}


def read_baseline(folder: Path) -> dict[str, Any]:
    """The parsed baseline.toml. Raises StoreError."""
    file = folder / BASELINE
    body = read_table(file)
    version = body.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise StoreError(f"{file}: format {version!r}, but this zoobench reads up to {FORMAT}")
    return body


def read_log(body: Mapping[str, Any], file: Path) -> tuple[Acceptance, ...]:
    """The acceptances of a baseline.toml, oldest first. Raises StoreError."""
    log = []
    for entry in body.get("accepted", ()):
        try:
            until = str(entry.get("until", ""))
            if until:
                date.fromisoformat(until)
            log.append(
                Acceptance(
                    str(entry["date"]), str(entry["reason"]), until, str(entry.get("by", "")),
                    tuple(entry.get("cells", ())), tuple(entry.get("keys", ())),
                )
            )  # fmt: skip
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise StoreError(f"{file}: accepted[{len(log)}]: {error}") from error
    return tuple(log)


def pack(kept: Iterable[tuple[str, Outcomes, Sequence[str]]]) -> bytes:
    """An .npz of every (digest, outcomes, names of the arrays that its task allows to be rounded);
    equal input, equal bytes.

    Equal arrays are stored once, and "index" (JSON) says whose they are. Integers are in the
    smallest type that holds them; the `rounded` are float16 where that loses at most 0.001 of
    each, which a margin of a point doesn't see. All else is exact.
    """
    arrays: dict[str, NDArray[Any]] = {}
    index: dict[str, Any] = {}
    for name, outcomes, rounded in sorted(kept, key=lambda item: item[0]):
        entry = index[name] = {"n": outcomes.n, "arrays": {}}
        for array_name, array in outcomes.arrays.items():
            small = _small(array, array_name in rounded)
            content = hashlib.sha256(small.tobytes()).hexdigest()[:16]
            where = f"{content}.{small.dtype.str[1:]}." + "x".join(map(str, small.shape))
            arrays[where] = small
            entry["arrays"][array_name] = [where, array.dtype.str]
    arrays[INDEX] = np.frombuffer(canonical(index).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{k: arrays[k] for k in sorted(arrays)})
    return buffer.getvalue()


def _small(array: NDArray[Any], rounded: bool) -> NDArray[Any]:
    if array.dtype.kind in "iu":
        top, low = int(array.max(initial=0)), int(array.min(initial=0))
        return array.astype(np.result_type(np.min_scalar_type(top), np.min_scalar_type(low)))
    if rounded:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if np.allclose(half, array, rtol=1e-3, atol=1e-6):
            return half
    return array


class Packed:
    """The outcomes of a packed file by their digest, each read when it is asked for: a
    comparison needs those of the cells that changed. Raises StoreError where it is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays: Archive | None = None
        self._index: Mapping[str, Any] = {}
        self._read: dict[str, NDArray[Any]] = {}
        self._named = False
        with self._readable():
            if path.exists():
                arrays = self._arrays = Archive(path)
                self._named = INDEX in arrays.names()
                self._index = (
                    parse_json(arrays.read(INDEX).tobytes())
                    if self._named
                    else _index_of_1(arrays.names())
                )
                if not isinstance(self._index, dict):
                    raise ValueError("its index is no table")

    def get(self, name: str) -> Outcomes | None:
        """Those of the digest `name`, or None where none were kept."""
        entry = self._index.get(name)
        if entry is None:
            return None
        with self._readable():
            arrays = {
                array: self._array(where, row).astype(np.dtype(kind))
                for array, (where, kind, *row) in entry["arrays"].items()
            }
        n = entry["n"] if entry["n"] is not None else len(next(iter(arrays.values())))
        return Outcomes(n, arrays)

    def _array(self, where: str, row: Sequence[int]) -> NDArray[Any]:
        """An array of the file, or a row of it; many cells share their truths."""
        if where not in self._read:
            if self._arrays is None:
                raise KeyError(where)
            found = self._arrays.read(where)
            stamp = hashlib.sha256(found.tobytes()).hexdigest()[:16]
            if self._named and stamp != where.partition(".")[0]:
                raise ValueError(f"{where}: its content is another")
            self._read[where] = found
        array = self._read[where]
        return array[row[0]] if row else array

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (
            ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError,
        ) as error:  # fmt: skip
            raise StoreError(f"{self.path}: damaged predictions: {error}") from error


def _index_of_1(names: Iterable[str]) -> dict[str, Any]:
    """The index of a file of format 1, which packed classifications: "label.<labels>",
    "int.<digest>.<labels>" (predicted, rank) and "float.<digest>" (nll, confidence, calibrated)."""
    index: dict[str, Any] = {}
    for kind, name, labels in (n.split(".") for n in names if n.startswith("int.")):
        whole = f"{kind}.{name}.{labels}"
        index[name] = {
            "n": None,
            "arrays": {
                "label": [f"label.{labels}", "<i4"],
                "predicted": [whole, "<i4", 0],
                "rank": [whole, "<i4", 1],
                "nll": [f"float.{name}", "<f4", 0],
                "confidence": [f"float.{name}", "<f4", 1],
                "calibrated": [f"float.{name}", "<f4", 2],
            },
        }
    return index
