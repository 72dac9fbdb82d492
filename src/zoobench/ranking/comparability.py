"""Which records may be ranked together (PROTOCOL section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zoobench.datasets.control import on_part
from zoobench.schema import Cell, Record, Ref, canonical

UNKNOWN = "unknown"
CONTROL_SOURCE = "control"


@dataclass(frozen=True)
class Section:
    """Records that agree in every entry of `key`: they may be ranked together."""

    key: Mapping[str, str]
    records: tuple[Record, ...]

    @property
    def dataset(self) -> Ref:
        return self.records[0].cell.dataset

    @property
    def method(self) -> str:
        return self.key["method"]

    @property
    def shots(self) -> int | None:
        return self.records[0].cell.shots


def is_control(record: Record) -> bool:
    """Chance, majority, raw input; any model with random weights; and what these are compared
    with on a part of the data."""
    untrained = has_random_weights(record)
    return untrained or record.cell.model.source == CONTROL_SOURCE or on_part(record.cell.dataset)


def has_random_weights(record: Record) -> bool:
    return bool(record.cell.model.option("weights") == "random")


def _splits(record: Record) -> str:
    prints = record.provenance.get("splits") or {}
    if not prints:
        return UNKNOWN
    # A few-shot train set is another one with every draw; the seed says which.
    names = ("test",) if record.cell.shots is not None else ("train", "valid", "test")
    return " ".join(str(prints.get(name, UNKNOWN)) for name in names)


def comparability(record: Record) -> dict[str, str]:
    """The key that two records must share; values are text.

    A record that failed before its data was read has splits "unknown", and may have the
    precision "auto".
    """
    cell, versions = record.cell, record.cell.versions
    # Of a text it is the most tokens that are read at once: a language model's window.
    size = cell.model.option("input_size", cell.model.option("length"))
    return {
        "task": str(versions.get("task", UNKNOWN)),
        "protocol": str(versions.get("protocol", UNKNOWN)),
        "dataset": cell.dataset.located.text,
        "dataset_version": str(versions.get("dataset", UNKNOWN)),
        "splits": _splits(record),
        "method": cell.method,
        "method_version": str(versions.get("method", UNKNOWN)),
        "params": canonical(asked_params(cell)),
        "shots": "all" if cell.shots is None else str(cell.shots),
        "input_size": "own" if size is None else canonical(size),
        "precision": precision_taken(record),
    }


def asked_params(cell: Cell) -> dict[str, Any]:
    """Without the head of a variant: both heads stand beside the original."""
    variant = cell.model.option("variant") is not None
    return {name: v for name, v in cell.params.items() if not (variant and name == "head")}


def precision_taken(record: Record) -> str:
    """What the numbers were computed in. Of a record that failed, what was asked for."""
    asked = str(record.cell.versions.get("precision", UNKNOWN))
    return str(record.environment.get("precision", asked)) if record.status == "ok" else asked


def cost_key(record: Record) -> tuple[str, ...]:
    """Times and memory may be compared where these agree (PROTOCOL section 4)."""
    env = record.environment
    device = env.get("device_name") or env.get("device") or UNKNOWN
    return (
        str(device),
        f"{env.get('threads', UNKNOWN)} threads",
        # What was taken, where the policy was "auto".
        str(env.get("precision", record.cell.versions.get("precision", UNKNOWN))),
        *(f"{name} {env[name]}" for name in ("driver", "ranks") if name in env),
        *(("compiled",) if env.get("compiled") else ()),
    )


def split_comparable(records: Iterable[Record]) -> list[Section]:
    """Sections of comparable records, in order of first appearance.

    A record without split fingerprints (it failed before its data was read) joins
    the first section that agrees with it in everything else that it knows.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    keys: dict[tuple[str, ...], dict[str, str]] = {}
    waiting: list[tuple[dict[str, str], Record]] = []
    for record in records:
        key = comparability(record)
        if key["splits"] == UNKNOWN and record.status != "ok":
            waiting.append((key, record))
            continue
        name = tuple(key.values())
        keys[name] = key
        groups.setdefault(name, []).append(record)
    for key, record in waiting:
        unknown = {"splits", "precision"} if key["precision"] == "auto" else {"splits"}
        rest = {k: v for k, v in key.items() if k not in unknown}
        agreeing = (n for n, k in keys.items() if {**k, **rest} == k)
        name = next(agreeing, tuple(key.values()))
        keys.setdefault(name, key)
        groups.setdefault(name, []).append(record)
    return [Section(keys[name], tuple(found)) for name, found in groups.items()]


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The entries in which two keys disagree, for a message that refuses to mix them."""
    return [name for name in one if one[name] != other.get(name)]
