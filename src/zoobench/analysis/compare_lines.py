"""The lines of an accepted baseline, written fast: 100,000 records share most of their parts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from zoobench.schema import Cell, Measurement, Record, to_json

_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
"""As `store.encode` writes. Raises ValueError for NaN."""


class Lines:
    """What `store.encode` gives of records without what differs from run to run and decides
    nothing: chosen, flags, started, seconds, error.

    A table that records share is written once; it is known by its id, so the records must
    live as long as this does.
    """

    def __init__(self) -> None:
        self._tables: dict[int, str] = {}
        self._words: dict[str, str] = {}
        self._ends: dict[tuple[str, str, int | None, int], str] = {}

    def line(self, record: Record) -> bytes:
        """One line of records.jsonl, newline included. Raises ValueError for NaN."""
        measured = ", ".join(map(self._measurement, record.measurements))
        parts = [
            f'{{"key": "{record.key}", "cell": {self._cell(record.cell)}, '
            f'"status": {self._word(record.status)}, "measurements": [{measured}]'
        ]
        if record.predictions:
            parts.append(f'"predictions": {_text(record.predictions)}')
        if record.environment:
            parts.append(f'"environment": {self._table(record.environment)}')
        if record.provenance:
            entries = (f"{self._word(k)}: {self._any(v)}" for k, v in record.provenance.items())
            parts.append(f'"provenance": {{{", ".join(entries)}}}')
        parts.append(f'"seconds": 0.0, "schema": {record.schema}}}\n')
        return ", ".join(parts).encode()

    def _cell(self, cell: Cell) -> str:
        shots = "null" if cell.shots is None else cell.shots
        return (
            f'{{"model": {self._word(cell.model)}, "dataset": {self._word(cell.dataset)}, '
            f'"method": {self._word(cell.method)}, "params": {self._table(cell.params)}, '
            f'"seed": {cell.seed}, "shots": {shots}, "versions": {self._table(cell.versions)}}}'
        )

    def _measurement(self, m: Measurement) -> str:
        if m.low is not None or m.high is not None:
            return _text(to_json(m))
        name = (m.unit, m.better, m.n, id(m.detail))
        end = self._ends.get(name)
        if end is None:
            rest = to_json(Measurement("", 0, m.unit, m.better, n=m.n, detail=m.detail))
            end = self._ends[name] = _text({k: rest[k] for k in rest if k not in _HEAD})[1:]
        # What the encoder writes of a finite float, without an encoder for each.
        value = repr(m.value) if type(m.value) is float and math.isfinite(m.value) else None
        return f'{{"metric": {self._word(m.metric)}, "value": {value or _text(m.value)}, {end}'

    def _any(self, value: Any) -> str:
        return self._table(value) if isinstance(value, Mapping) else _text(to_json(value))

    def _table(self, value: Mapping[str, Any]) -> str:
        held = self._tables.get(id(value))
        if held is None:
            held = self._tables[id(value)] = _text(to_json(value))
        return held

    def _word(self, word: str) -> str:
        held = self._words.get(word)
        if held is None:
            held = self._words[word] = _text(word)
        return held


_HEAD = ("metric", "value")
