"""How a suite with variants is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoobench import datasets
from zoobench.errors import UserError
from zoobench.ranking.comparability import comparability
from zoobench.ranking.outcomes import contender
from zoobench.runs import planning, suite
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import Cell, Record

SUITE = """
name = "variants"
models = [
    "timm/test_vit", "timm/test_vit?variant=bf16", "packaged/minilm-l6-v2?variant=int8-static"
]
datasets = ["synthetic/stripes", "synthetic/phrases"]
methods = ["linear-probe", "knn", "fine-tune", "from-scratch"]
seeds = [0, 1]
"""


def read(folder: Path, text: str) -> suite.Suite:
    path = folder / "s.toml"
    path.write_text(text)
    return suite.read(str(path))


def of_variant(cells: list[Cell], method: str) -> list[Cell]:
    return [c for c in cells if c.model.option("variant") == "bf16" and c.method == method]


def test_frozen_methods_ask_both_heads_and_a_fine_tune_what_it_made(tmp_path: Path) -> None:
    found = read(tmp_path, SUITE)
    cells = planning.plan(found)
    assert [c.params["head"] for c in of_variant(cells, "linear-probe")] == ["carried", "anew"]
    assert [c.params["head"] for c in of_variant(cells, "knn")] == ["carried", "anew"]
    tuned = of_variant(cells, "fine-tune")
    assert [(c.params["head"], c.seed) for c in tuned] == [("carried", 0), ("carried", 1)]
    assert of_variant(cells, "from-scratch") == []
    plain = [c for c in cells if c.model.option("variant") is None]
    assert plain
    assert all("head" not in c.params for c in plain)
    reasons = planning.left_out(found)
    assert any("which from-scratch of classification cannot make" in one for one in reasons)
    assert any("int8-static is for models that read image" in one for one in reasons)


def test_an_original_and_its_variants_are_computed_in_one_precision(tmp_path: Path) -> None:
    cells = planning.plan(read(tmp_path, SUITE))
    told = {c.versions["precision"] for c in cells if c.model.name.startswith("test_vit")}
    assert told == {"fp32"}
    alone = SUITE.replace(', "timm/test_vit?variant=bf16"', "")
    assert {c.versions["precision"] for c in planning.plan(read(tmp_path, alone))} >= {"auto"}
    with pytest.raises(UserError, match="is a variant itself"):
        read(tmp_path, SUITE + 'precision = "bf16"')


def test_random_weights_check_the_original_alone(tmp_path: Path) -> None:
    cells = planning.plan(read(tmp_path, SUITE))
    drawn = [c for c in cells if c.model.option("weights") == "random"]
    assert drawn
    assert all(c.model.option("variant") is None for c in drawn)


def test_both_heads_are_ranked_beside_the_original(tmp_path: Path) -> None:
    cells = planning.plan(read(tmp_path, SUITE))
    probes = [
        c
        for c in cells
        if c.model.name.startswith("test_vit")
        and c.method == "knn"
        and c.model.option("weights") is None
    ]
    assert len(probes) == 3
    keys = {tuple(comparability(Record(c, "ok")).items()) for c in probes}
    assert len(keys) == 1
    names = [contender(c).short.partition("?")[2] for c in probes]
    assert names == ["", "head=carried&variant=bf16", "head=anew&variant=bf16"]


def test_one_head_may_be_asked_and_stands_in_the_suite_as_resolved(tmp_path: Path) -> None:
    text = SUITE.replace('"linear-probe", ', '{name = "linear-probe", heads = ["anew"]}, ')
    found = read(tmp_path, text)
    probes = of_variant(planning.plan(found), "linear-probe")
    assert [c.params["head"] for c in probes] == ["anew"]
    again = read(tmp_path, to_toml(found))
    assert again.identity == found.identity
    assert [c.key for c in planning.plan(again)] == [c.key for c in planning.plan(found)]
    assert found.identity != read(tmp_path, SUITE).identity
    with pytest.raises(UserError, match=r"methods\[0\]: heads: unknown head 'anewed'"):
        read(tmp_path, text.replace("anew", "anewed"))


def test_what_is_judged_on_valid_is_not_learned_from(tmp_path: Path) -> None:
    text = SUITE.replace('"synthetic/stripes",', '"synthetic/stripes?judged_on=valid",')
    found = read(tmp_path, text)
    cells = [c for c in planning.plan(found) if "refit" in c.params]
    assert {c.method for c in cells} == {"linear-probe", "raw-input"}
    of_valid = [c for c in cells if c.dataset.option("judged_on")]
    assert of_valid
    assert {c.params["refit"] for c in of_valid} == {False}
    assert {c.params["refit"] for c in cells if not c.dataset.option("judged_on")} == {True}
    splits = datasets.load(of_valid[0].dataset)
    assert splits.test.ids == splits.valid.ids
    assert set(splits.test.ids).isdisjoint(splits.train.ids)
    whole = datasets.load(of_valid[0].dataset.without("judged_on"))
    assert set(splits.test.ids).isdisjoint(whole.test.ids)
    with pytest.raises(UserError, match="unknown value 'test'"):
        read(tmp_path, text.replace("=valid", "=test"))


@pytest.mark.parametrize(
    ("method", "said"), [("fine-tune", "the head carried alone"), ("from-scratch", "no head")]
)
def test_heads_that_a_method_does_not_have(method: str, said: str, tmp_path: Path) -> None:
    text = SUITE.replace('"linear-probe", ', f'{{name = "{method}", heads = ["anew"]}}, ')
    with pytest.raises(UserError, match=rf"methods\[0\]: heads: {method} has {said}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "value", ['[["bf16"]]', '["bf16"]', "true", "7", '""', "{ a = 1 }", "[nan]"]
)
def test_a_variant_of_another_type(value: str, tmp_path: Path) -> None:
    text = SUITE.replace(
        '"timm/test_vit?variant=bf16"', f'{{id = "timm/test_vit", variant = {value}}}'
    )
    with pytest.raises(UserError, match=r"models\[1\]: .*variant"):
        read(tmp_path, text)
