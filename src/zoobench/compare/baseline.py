"""An accepted baseline as files: small, sorted, diffable, and read as a run.

baseline.toml       the suite, and who accepted what, when, why and until when
records.jsonl       a record a line, sorted by cell, without what decides nothing
superseded.jsonl    what a baseline goes back to when an acceptance has run out
predictions.npz     per-example arrays in their smallest types, named by their digest
"""

from __future__ import annotations

import io
import tomllib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from zoobench.compare.match import identity
from zoobench.errors import StoreError
from zoobench.schema import Outcomes, Record, digest
from zoobench.store import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

BASELINE, SUPERSEDED, PACKED = "baseline.toml", "superseded.jsonl", "predictions.npz"
FORMAT = 1
"""Version of this layout."""


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
        """As `Run.outcomes`; real numbers have the precision of float16."""
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
    try:
        body = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{file}: cannot be read: {error}") from error
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


def pack(found: Iterable[tuple[str, Outcomes]]) -> bytes:
    """An .npz of every (digest, predictions), labels once each; equal input, equal bytes.

    Integers are exact, in the smallest type that holds them; nll and confidences are
    float16 (a relative error of 0.0005), which a margin of a point doesn't see.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, outcomes in sorted(found, key=lambda item: item[0]):
        p = outcomes.arrays
        label = _small(p["label"])
        where = digest(label.tolist())
        arrays[f"label.{where}"] = label
        arrays[f"int.{name}.{where}"] = _small(np.stack([p["predicted"], p["rank"]]))
        floats = np.stack([p["nll"], p["confidence"], p["calibrated"]])
        arrays[f"float.{name}"] = floats.astype(np.float16)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{k: arrays[k] for k in sorted(arrays)})
    return buffer.getvalue()


def _small(array: NDArray[np.int32]) -> NDArray[Any]:
    top = int(array.max(initial=0))
    low = int(array.min(initial=0))
    return array.astype(np.result_type(np.min_scalar_type(top), np.min_scalar_type(low)))


class Packed:
    """The predictions of a packed file by their digest, each read when it is asked for: a
    comparison needs those of the cells that changed. Raises StoreError where it is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays: Mapping[str, NDArray[Any]] = {}
        with self._readable():
            if path.exists():
                arrays = np.load(path, allow_pickle=False)
                if not isinstance(arrays, NpzFile):
                    raise ValueError("not an .npz file")
                self._arrays = arrays
            # "int.<digest>.<digest of the labels>": many cells share their labels.
            parts = [name.split(".") for name in self._arrays if name.startswith("int.")]
            self._labels_of = {digest: labels for _, digest, labels in parts}
        self._labels: dict[str, NDArray[np.int32]] = {}

    def get(self, name: str) -> Outcomes | None:
        """Those of the digest `name`, or None where none were kept."""
        labels = self._labels_of.get(name)
        if labels is None:
            return None
        with self._readable():
            if labels not in self._labels:
                self._labels[labels] = self._arrays[f"label.{labels}"].astype(np.int32)
            predicted, rank = self._arrays[f"int.{name}.{labels}"].astype(np.int32)
            nll, confidence, calibrated = self._arrays[f"float.{name}"].astype(np.float32)
        label = self._labels[labels]
        arrays = {"label": label, "predicted": predicted, "rank": rank, "nll": nll}
        return Outcomes(len(label), {**arrays, "confidence": confidence, "calibrated": calibrated})

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, OSError, EOFError, BadZipFile, zlib.error) as error:
            raise StoreError(f"{self.path}: damaged predictions: {error}") from error
