"""The lines of an accepted baseline, made from a run's lines without its records.

A baseline leaves out of a record what differs from run to run and decides nothing: intervals,
samples, chosen, flags, started, seconds, error. 100,000 records share most of what is left,
so each part's text is made once; what is new in each, its numbers, is written as it is decoded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from zoobench.compare.gates import GATED
from zoobench.compare.lines import WHOLE, Line, Number, Repeated, decoded, decoded_table, read_lines
from zoobench.compare.reading import Shared, finite, slim_detail, slim_measurement, whole_record
from zoobench.compare.record import COSTS
from zoobench.schema import SCHEMA, Cell, Measurement, Record, canonical, to_json

KEPT = frozenset(GATED) | COSTS
"""Metrics that a baseline keeps."""
_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
"""As `store.encode` writes. Raises ValueError for NaN."""


class Lean(msgspec.Struct, gc=False):
    """A record as a baseline keeps it: what it asks, and the texts of what it answers.

    `unfit` names what isn't a finite number in it; such a record can't be written.
    """

    key: str
    cell: Cell
    label: str
    status: str
    predictions: str
    measured: str
    environment: str
    provenance: tuple[str, ...]
    schema: int = SCHEMA
    unfit: str = ""

    def values(self) -> dict[str, float]:
        """Metric -> value; of two, the first."""
        numbers = _NUMBERS(f"[{self.measured}]")
        return {m.metric: m.value for m in reversed(numbers)}

    def facts(self) -> dict[str, Any]:
        """The provenance."""
        return decoded_table(f"{{{', '.join(self.provenance)}}}")


class _Value(msgspec.Struct, gc=False):
    """Of a measurement in any form that a baseline may hold."""

    metric: str
    value: Any


_NUMBERS = msgspec.json.Decoder(list[_Value]).decode


class Lines:
    """Reads the records of a run or a baseline as their lines in a baseline."""

    def __init__(self) -> None:
        self._shared = Shared(frozenset())
        self._heads = {name: f'{{"metric": {_text(name)}, "value": ' for name in KEPT}
        self._costs = Repeated(self._numbers)
        self._ends: dict[tuple[str, str, int | None, bytes], str] = {}
        self._entries: dict[tuple[str, bytes], str] = {}
        self._environments = {b"": "", b"null": ""}
        self._tables: dict[int, tuple[Mapping[str, Any], str, str]] = {}

    def read(self, file: Path) -> tuple[Lean, ...]:
        """The newest record of each key in `file`. Raises StoreError."""
        return read_lines(file, self._quick, self._slow, WHOLE)

    def _quick(self, lines: Iterable[Line]) -> Iterator[tuple[str, Lean]]:
        for body in lines:
            cell = self._shared.cell(body.cell)
            lean = Lean(
                cell.key_with(self._table(cell.params)[2], self._table(cell.versions)[2]),
                cell,
                cell.label,
                body.status,
                body.predictions,
                self._measured(cell.model, body.measurements),
                self._environment(body.environment),
                tuple([self._entry(name, raw) for name, raw in body.provenance.items()]),
            )
            yield body.key or lean.key, lean

    def _slow(self, line: bytes) -> tuple[str, Lean]:
        key, record = whole_record(line)
        kept = tuple(slim_measurement(m) for m in record.measurements if m.metric in KEPT)
        return key, self.lean(dataclasses.replace(record, measurements=kept))

    def lean(self, record: Record) -> Lean:
        """The same of a whole record, with all of its measurements."""
        unfit = next((m.metric for m in record.measurements if not finite(m.value)), "")
        lean = Lean(
            record.key, record.cell, record.cell.label, record.status, record.predictions,
            "", "", (), record.schema, unfit,
        )  # fmt: skip
        if unfit:
            return lean
        try:
            lean.measured = ", ".join(_text(to_json(m)) for m in record.measurements)
            lean.environment = _text(to_json(record.environment)) if record.environment else ""
            entries = (record.provenance or {}).items()
            lean.provenance = tuple(f"{_text(k)}: {_text(to_json(v))}" for k, v in entries)
        except ValueError:
            lean.unfit = "an entry of its environment or provenance"
        return lean

    def write(self, lean: Lean) -> bytes:
        """One line of records.jsonl, newline included: what `store.encode` gives of the record
        without what a baseline leaves out. Raises ValueError for NaN."""
        if lean.unfit:
            raise ValueError(f"{lean.label}: {lean.unfit} is not JSON compliant")
        predictions = f'"predictions": {_text(lean.predictions)}, ' if lean.predictions else ""
        environment = f'"environment": {lean.environment}, ' if lean.environment else ""
        entries = ", ".join(lean.provenance)
        provenance = f'"provenance": {{{entries}}}, ' if entries else ""
        return (
            f'{{"key": "{lean.key}", "cell": {self._cell(lean.cell)}, '
            f'"status": {_text(lean.status)}, "measurements": [{lean.measured}], '
            f'{predictions}{environment}{provenance}"seconds": 0.0, "schema": {lean.schema}}}\n'
        ).encode()

    def _cell(self, cell: Cell) -> str:
        shots = "null" if cell.shots is None else cell.shots
        return (
            f'{{"model": {_text(cell.model)}, "dataset": {_text(cell.dataset)}, '
            f'"method": {_text(cell.method)}, "params": {self._table(cell.params)[1]}, '
            f'"seed": {cell.seed}, "shots": {shots}, "versions": {self._table(cell.versions)[1]}}}'
        )

    def _table(self, table: Mapping[str, Any]) -> tuple[Mapping[str, Any], str, str]:
        """(table, its text, its canonical text). By id: cells share a handful of tables, which
        live as long as they are held here."""
        held = self._tables.get(id(table))
        if held is None:
            plain = to_json(table)
            held = self._tables[id(table)] = (table, _text(plain), canonical(plain))
        return held

    def _measured(self, model: str, numbers: Iterable[Number]) -> str:
        """From the first cost on they are mostly what other cells of the model say."""
        kept = [m for m in numbers if m.metric in KEPT]
        first = next((i for i, m in enumerate(kept) if m.metric in COSTS), len(kept))
        told, costs = kept[:first], kept[first:]
        texts = (self._numbers(told), self._costs(model, costs))
        return ", ".join(filter(None, texts))

    def _numbers(self, numbers: Iterable[Number]) -> str:
        heads, ends = self._heads, self._ends
        told = []
        for m in numbers:
            name = (m.unit, m.better, m.n, bytes(m.detail))
            end = ends.get(name)
            if end is None:
                end = ends[name] = _end(*name)
            told.append(f"{heads[m.metric]}{m.value!r}, {end}")  # as the encoder writes a number
        return ", ".join(told)

    def _environment(self, raw: msgspec.Raw) -> str:
        text = bytes(raw)
        held = self._environments.get(text)
        if held is None:
            table = decoded_table(text)
            held = self._environments[text] = _text(table) if table else ""
        return held

    def _entry(self, name: str, raw: msgspec.Raw) -> str:
        """`"name": value` of an entry of the provenance."""
        key = (name, bytes(raw))
        held = self._entries.get(key)
        if held is None:
            held = self._entries[key] = f"{_text(name)}: {_text(decoded(key[1]))}"
        return held


def _end(unit: str, better: Any, n: int | None, detail: bytes) -> str:
    """The text of a measurement behind its value."""
    slim = slim_detail(decoded_table(detail) if detail else {})
    rest = to_json(Measurement("", 0, unit, better, n=n, detail=slim))
    return _text({name: rest[name] for name in rest if name not in ("metric", "value")})[1:]
