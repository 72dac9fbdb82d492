"""Bad variants planted in the program itself: run, judge, compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from cells import cell, settings
from planted import INT8_A_ROW, INT8_A_TENSOR, THREE_BITS
from zoobench import datasets, models
from zoobench.compare.compare import compare_paths
from zoobench.compare.variants import ranked
from zoobench.compare.verdicts import Finding
from zoobench.models.variants import halves
from zoobench.schema import Cell
from zoobench.store import Store, load
from zoobench.workers.runner import run_group

STRIPES = "synthetic/stripes@1?classes=4&noise=60&test=120&train=60"
PART = "max_train=1000&max_valid=100"


def cells_of(model: str, dataset: str, names: Sequence[str]) -> list[Cell]:
    """The cells of `model` by a linear probe and of its variants, to which its head is carried."""
    plain = cell(model, dataset, "linear-probe")
    given = {**plain.params, "head": "carried"}
    variants = [plain.model.with_options(variant=name) for name in names]
    return [plain, *(dataclasses.replace(plain, model=ref, params=given) for ref in variants)]


def write(path: Path, cells: Sequence[Cell]) -> Path:
    with Store(path, 'name = "planted"\nidentity = "planted"\n', "planted") as store:
        for result in run_group(cells, settings(path.parent / "cache")):
            assert result.record.status == "ok", result.record.error
            store.append(result.record, result.outcomes)
    return path


def findings(path: Path) -> dict[str, Finding]:
    """variant -> its verdict against its original."""
    _, found = ranked([load(path)])
    (table,) = found.tables
    return {row.variant: row.finding for row in table.rows if row.finding}


@pytest.fixture
def vit(tmp_path: Path) -> str:
    """A checkpoint: random weights by name are a control, and no model."""
    from safetensors.torch import save_file

    module = models.load(models.resolve("timm/test_vit?weights=random")).module
    save_file(module.state_dict(), tmp_path / "vit.safetensors")
    return models.resolve(f"timm/test_vit?weights={tmp_path / 'vit.safetensors'}").text


def test_weights_of_three_bits_regress_and_no_other_cell_does(
    tmp_path: Path, vit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = cells_of(vit, STRIPES, ["bf16"])
    before = write(tmp_path / "before", asked)
    assert findings(before)["bf16"].outcome in ("same", "inconclusive")
    monkeypatch.setattr(halves, "bf16", THREE_BITS)
    after = write(tmp_path / "after", asked)
    assert findings(after)["bf16"].outcome == "regressed"
    found = compare_paths(before, after)
    assert found.exit_code == 1
    bad = [f for f in found.failing if f.kind == "quality"]
    assert [f.cell.model.option("variant") for f in bad] == ["bf16"]
    own = [f for f in found.findings if not f.cell.model.option("variant")]
    assert own
    assert {f.outcome for f in own} == {"same"}


@pytest.mark.rare  # a minute: five thousand texts by three encoders
def test_int8_of_minilm_with_a_scale_a_tensor_is_caught_and_with_one_a_row_is_not_accused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two real sets of words: one alone tells two points from none just about."""
    monkeypatch.setattr(halves, "bf16", INT8_A_TENSOR)
    monkeypatch.setattr(halves, "fp16", INT8_A_ROW)
    minilm = models.resolve("packaged/minilm-l6-v2").text
    asked = [
        one
        for dataset in ("packaged/language-id", "packaged/word-polarity")
        for one in cells_of(minilm, f"{datasets.resolve(dataset)}?{PART}", ["bf16", "fp16"])
    ]
    _, found = ranked([load(write(tmp_path / "run", asked))])
    tensor, row = (one for _, one in sorted(found.pooled.items()))
    print(f"a scale a tensor: {tensor.why}; a scale a row: {row.why}")
    assert tensor.outcome == "regressed"
    assert (tensor.change or 0.0) < -0.01
    assert row.outcome == "same"
    assert abs(row.change or 0.0) < 0.005
