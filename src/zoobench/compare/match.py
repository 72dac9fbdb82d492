"""Pair the cells of two runs by what they ask, and say which pairs may be compared.

A new release of the same model is the thing under test, so revisions don't keep two
cells apart. What PROTOCOL section 7 calls the comparability key does: it makes a pair
`incomparable`, with the fields that differ, which is neither a pass nor a failure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from zoobench.errors import UserError
from zoobench.ranking.comparability import precision_taken
from zoobench.schema import Cell, Record, canonical
from zoobench.store import Run

Identity: TypeAlias = tuple[str, str, str, str, int, int | None]
"""model and dataset without revision, method, params, seed, shots."""

VERSIONS = ("protocol", "task", "dataset", "method")
PLACES = (
    ("splits", (("train", "train split"), ("valid", "valid split"), ("test", "test split"))),
    ("model", (("input_size", "input size"),)),
)
"""Where provenance holds what must agree, and what each entry is called."""


@dataclass(frozen=True)
class Pair:
    """The same question in both runs. `differing` is empty where they may be compared."""

    identity: Identity
    baseline: Record
    candidate: Record
    differing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matched:
    """Pairs of ok cells; `missing` are (baseline record, why); `new` the candidate's own. `twice`
    are (the baseline's, the candidate's) records that gave way to a later one."""

    pairs: tuple[Pair, ...]
    missing: tuple[tuple[Record, str], ...]
    new: tuple[Record, ...]
    twice: tuple[int, int] = (0, 0)


def identity(cell: Cell) -> Identity:
    """What a cell asks, whatever the revisions and wherever files lie."""
    params = canonical(dict(cell.params))
    return (cell.model.short, cell.dataset.short, cell.method, params, cell.seed, cell.shots)


def match(baseline: Run, candidate: Run, any_precision: bool = False) -> Matched:
    """Pair two runs, with `any_precision` whatever each side was computed in. Raises UserError
    where a run asks one thing of two revisions of a model or dataset and the other run can't
    tell which is meant."""
    old, older = _index(baseline.records)
    new, newer = _index(candidate.records)
    gone, spare = _apart(old, new), _apart(new, old)
    pairs: list[Pair] = []
    missing: list[tuple[Record, str]] = []
    own: list[Record] = []
    for asked, one in old.items():
        key, other = asked[0], new.get(asked)
        if other is not None:
            _settle(key, one, other, pairs, missing, own)
            continue
        left, right = gone.pop(key, []), spare.pop(key, [])
        if left and right:
            _settle(key, *_only(key, left, right), pairs, missing, own)
        else:
            missing += [(r, "absent from the candidate") for r in left if r.status == "ok"]
            own += right
    own += [r for rest in spare.values() for r in rest]
    found = tuple(own)
    told = (
        dataclasses.replace(p, differing=differing(p.baseline, p.candidate, any_precision))
        for p in pairs
    )
    return Matched(tuple(told), _hinted(missing, found), found, (older, newer))


_Asked: TypeAlias = tuple[Identity, tuple[str, str]]
"""An identity, and the names of its model and dataset with revisions."""


def _index(records: Iterable[Record]) -> tuple[dict[_Asked, Record], int]:
    """What a cell asks -> the record; of two, the one started later. And how many gave way."""
    found: dict[_Asked, Record] = {}
    twice = 0
    for record in records:
        cell = record.cell
        asked = (identity(cell), (cell.model.located.text, cell.dataset.located.text))
        held = found.setdefault(asked, record)
        if held is not record:
            twice += 1
            if held.started <= record.started:
                found[asked] = record
    return found, twice


def _apart(
    these: Mapping[_Asked, Record], those: Mapping[_Asked, Record]
) -> dict[Identity, list[Record]]:
    """Records of `these` of which `those` have no equal revision, by what they ask."""
    found: dict[Identity, list[Record]] = {}
    for asked, record in these.items():
        if asked not in those:
            found.setdefault(asked[0], []).append(record)
    return found


def _only(key: Identity, left: list[Record], right: list[Record]) -> tuple[Record, Record]:
    """The one revision that is left on each side. Raises UserError where there are more."""
    if len(left) + len(right) > 2:
        raise UserError(
            f"{key[0]} on {key[1]} by {key[2]}: {len(left)} revisions of the baseline and "
            f"{len(right)} of the candidate have no counterpart, so which is to be compared with "
            "which is open. Run one revision of a model a suite, or pin the same ones."
        )
    return left[0], right[0]


def _settle(
    key: Identity,
    one: Record,
    other: Record,
    pairs: list[Pair],
    missing: list[tuple[Record, str]],
    own: list[Record],
) -> None:
    """What becomes of two records that ask the same: only what succeeded can be compared."""
    if one.status != "ok":
        own.append(other)
    elif other.status != "ok":
        missing.append((one, _failure(other)))
    else:
        pairs.append(Pair(key, one, other))


def _failure(record: Record) -> str:
    message = str((record.error or {}).get("message", "")).strip()
    first = message.splitlines()[0][:200] if message else ""
    return f"failed in the candidate: {record.status}{': ' + first if first else ''}"


def differing(one: Record, other: Record, any_precision: bool = False) -> tuple[str, ...]:
    """The comparability fields in which two records differ, as "field old -> new"."""
    found: list[str] = []
    old, new = one.cell.versions, other.cell.versions
    if old is not new and old != new:
        found += [
            _change(name, old.get(name), new.get(name))
            for name in VERSIONS
            if old.get(name) != new.get(name)
        ]
    taken = precision_taken(one), precision_taken(other)
    if taken[0] != taken[1] and not any_precision:
        found.append(_change("precision", *taken))
    before, after = one.provenance, other.provenance
    for place, entries in PLACES:
        was, now = before.get(place), after.get(place)
        if was is not now and was != now and isinstance(was, Mapping) and isinstance(now, Mapping):
            found += _changes([(said, was.get(n), now.get(n)) for n, said in entries])
    was, now = before.get("classes"), after.get("classes")
    if was is not now:
        found += _changes([("classes", was, now)])
    return tuple(found)


def _changes(entries: Iterable[tuple[str, Any, Any]]) -> list[str]:
    """Of (name, old, new): what both sides know and say differently."""
    return [
        _change(name, old, new)
        for name, old, new in entries
        if old != new and old is not None and new is not None
    ]


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)


def _change(name: str, old: Any, new: Any) -> str:
    return f"{name} {'none' if old is None else text_of(old)} -> " + (
        "none" if new is None else text_of(new)
    )


def _hinted(
    missing: list[tuple[Record, str]], new: tuple[Record, ...]
) -> tuple[tuple[Record, str], ...]:
    """Absent cells, each with the new cell that differs from it only in the parameters."""
    near: dict[tuple[Any, ...], Cell] = {}
    for record in new:
        key = identity(record.cell)
        near.setdefault((*key[:3], *key[4:]), record.cell)
    told = []
    for record, why in missing:
        key = identity(record.cell)
        twin = near.get((*key[:3], *key[4:]))
        if twin is not None and why.startswith("absent"):
            changes = "; ".join(_params_changed(record.cell.params, twin.params))
            why = f"{why}; a new cell differs from it in {changes}"
        told.append((record, why))
    return tuple(told)


def _params_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    names = sorted(old.keys() | new.keys())
    return [_change(n, old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)]


def by_seed(pairs: Iterable[Pair]) -> dict[Identity, list[Pair]]:
    """Comparable pairs that differ in the seed only, together; the key's seed is 0 and its
    model and dataset have the candidate's revisions, of which a run may hold two."""
    groups: dict[Identity, list[Pair]] = {}
    for pair in pairs:
        if not pair.differing:
            key, cell = pair.identity, pair.candidate.cell
            name = (cell.model.located.text, cell.dataset.located.text, key[2], key[3], 0, key[5])
            groups.setdefault(name, []).append(pair)
    return groups


def stands_for(pairs: Sequence[Pair]) -> Cell:
    """The cell that names a group: the candidate's, with seed 0 where there are several."""
    cell = pairs[0].candidate.cell
    return cell if len(pairs) == 1 else dataclasses.replace(cell, seed=0)
