"""Names, keys and the JSON of records."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from zoobench import store
from zoobench.errors import nearest, unknown
from zoobench.schema import (
    Cell,
    Measurement,
    Record,
    Ref,
    canonical,
    digest,
    to_json,
)

DIGITS = Ref.parse("packaged/digits@1")
CELL = Cell(Ref.parse("timm/resnet18@1"), DIGITS, "knn", {"k": [10]}, 0, None, {"protocol": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"model": Ref.parse("timm/resnet18@2")},
        {"model": Ref.parse("timm/resnet18@1?input_size=64")},
        {"dataset": Ref.parse("packaged/digits@2")},
        {"method": "ridge"},
        {"params": {"k": [20]}},
        {"seed": 1},
        {"shots": 5},
        {"versions": {"protocol": 2}},
    ],
)
def test_the_key_flips_with_each_ingredient(change: dict[str, object]) -> None:
    assert dataclasses.replace(CELL, **change).key != CELL.key  # type: ignore[arg-type]


def test_the_key_does_not_depend_on_where_files_lie() -> None:
    here = dataclasses.replace(
        CELL,
        model=Ref.parse("timm/resnet18@1?weights=/a/w.safetensors"),
        dataset=Ref.parse("folder/pets@3f?path=/a/pets"),
    )
    there = dataclasses.replace(
        CELL,
        model=Ref.parse("timm/resnet18@1?weights=/b/c/w.safetensors"),
        dataset=Ref.parse("folder/pets@3f?path=/b/pets"),
    )
    assert here.key == there.key


def test_a_key_knows_every_field_of_a_cell() -> None:
    body = {field.name: to_json(getattr(CELL, field.name)) for field in dataclasses.fields(Cell)}
    body |= {"model": CELL.model.located.text, "dataset": CELL.dataset.located.text}
    assert CELL.key == digest(body)


def test_a_key_is_the_same_for_ever() -> None:
    assert CELL.key == "67fdeabf21ec7389", "changing how keys are made orphans every stored record"


SMOKE = Path(__file__).parents[1] / "results" / "baselines" / "smoke" / "records.jsonl"
GOLDEN = Path(__file__).parent / "golden" / "records-v1.jsonl"


@pytest.mark.parametrize(
    ("file", "known"),
    [
        (GOLDEN, ("02edc2171c022f9d", "576960ec8ffe24e9")),
        (SMOKE, ("b7782427b15e5185", "2bf1d018134b8c14")),
    ],
    ids=["golden", "smoke"],
)
def test_stored_records_keep_their_keys(file: Path, known: tuple[str, ...]) -> None:
    lines = file.read_bytes().splitlines()
    keys = [store.decode(line).key for line in lines]
    assert keys == [json.loads(line)["key"] for line in lines]
    assert keys[: len(known)] == list(known)


def test_a_record_survives_its_json() -> None:
    record = Record(
        CELL,
        "ok",
        measurements=(Measurement("accuracy", 0.5, "fraction", "higher", 0.4, 0.6, 10),),
        flags=("derived-test",),
        chosen={"k": 10},
    )
    body = to_json(record)
    assert {"key", "cell", "status", "measurements", "schema"} <= body.keys()
    assert set(body["cell"]) >= {"model", "dataset", "method", "params", "seed", "shots"}
    assert next(iter(body)) == "key"
    assert store.decode(store.encode(record)) == record


def test_unknown_numbers_are_absent_and_not_null() -> None:
    record = Record(CELL, "oom", error={"message": "no"})
    assert "environment" not in to_json(record)
    assert "low" not in to_json(Measurement("params", 3))


def test_canonical_json_ignores_order() -> None:
    assert canonical({"b": 1, "a": (1, 2)}) == canonical({"a": [1, 2], "b": 1})


def test_did_you_mean() -> None:
    assert nearest("resnet-18", ["resnet18", "vit"]) == "resnet18"
    assert nearest("LITE0", ["packaged/efficientnet-lite0", "x"]) == "packaged/efficientnet-lite0"
    assert nearest("qqq", ["resnet18"]) is None
    message = str(unknown("s.toml: methods[0]", "parameter", "kk", ["k", "temperature"], "for knn"))
    assert message == (
        "s.toml: methods[0]: unknown parameter 'kk' for knn. "
        "Did you mean 'k'? Known: k, temperature."
    )
