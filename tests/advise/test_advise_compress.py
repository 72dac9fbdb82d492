"""`compress`: what may be taken, which one is, and that test is read once, after the choice."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from zoobench import datasets, models, store
from zoobench.advise.compress import CompressRequest, checked, compress, refusal
from zoobench.advise.compress import _order as order
from zoobench.compare.variant_verdicts import VariantRow
from zoobench.compare.verdicts import Finding
from zoobench.errors import UserError
from zoobench.report.compress import compress_json, compress_text
from zoobench.schema import Cell, Outcome, Ref
from zoobench.tasks.classification import labels_of

pytestmark = pytest.mark.xdist_group("compress")  # one table of variants serves them all

DATA = "synthetic/stripes@1?classes=4&noise=20&test=240&train=200&valid=160"
MODEL = Ref("timm", "a")
CELL = Cell(MODEL, Ref("synthetic", "stripes"), "ridge")


def request(**changes: Any) -> CompressRequest:
    return dataclasses.replace(CompressRequest(MODEL, CELL.dataset, Path()), **changes)


def row(
    variant: str = "bf16",
    outcome: Outcome = "same",
    change: float | None = -0.001,
    size: float = 0.5,
    took: float = 0.8,
    **changes: Any,
) -> VariantRow:
    finding = Finding(CELL, "accuracy", 0.9, 0.9, outcome, "why", change=change, margin=0.01)
    costs = {"weights_bytes": 100e6 * size, "latency_ms_p50": 100.0 * took}
    found = VariantRow(
        MODEL.with_options(variant=variant), "carried", costs=costs, finding=finding,
        ratios={"weights_bytes": size, "latency_ms_p50": took},
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


@pytest.mark.parametrize(
    ("given", "limits", "why"),
    [
        (row(), {}, ""),
        (row(outcome="improved", change=0.02), {}, ""),
        (row(outcome="inconclusive", change=-0.009), {}, ""),
        (row(outcome="inconclusive", change=-0.011), {}, "lost more than the margin on valid"),
        (row(outcome="regressed", change=-0.2), {}, "regressed on valid: why"),
        (row(size=1.0, took=1.1), {}, "no smaller and no faster than the original"),
        (row(size=1.0, took=0.9), {}, ""),
        (row(), {"max_bytes": 49e6}, "larger than the limit"),
        (row(), {"max_bytes": 50e6}, ""),
        (row(), {"max_latency_ms": 79.0}, "slower than the limit"),
        (row(costs={}), {"max_bytes": 1e9}, "its weights_bytes is not known"),
        (row(finding=None), {}, "its quality could not be compared"),
        (row(status="unsupported", why="covers 0%"), {}, "unsupported: covers 0%"),
    ],
)
def test_what_may_be_taken(given: VariantRow, limits: dict[str, Any], why: str) -> None:
    assert refusal(given, request(**limits)).startswith(why)
    assert bool(refusal(given, request(**limits))) == bool(why)


def test_the_proven_come_first_then_bytes_or_the_time_that_was_bounded() -> None:
    small, quick = row(size=0.25, took=0.9), row(size=0.5, took=0.3)
    doubtful = row(size=0.1, took=0.1, outcome="inconclusive")
    rows = [doubtful, quick, small]
    assert min(rows, key=lambda r: order(r, request())) is small
    timed = request(max_latency_ms=500.0)
    assert min(rows, key=lambda r: order(r, timed)) is quick
    both = request(max_latency_ms=500.0, max_bytes=1e9)
    assert min(rows, key=lambda r: order(r, both)) is small
    better = row(size=0.25, change=0.0)
    assert min([small, better], key=lambda r: order(r, request())) is better


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": "timm/test_vit?variant=bf16"}, "is a variant"),
        ({"method": "lineal-probe"}, "Did you mean 'linear-probe'"),
        ({"method": "from-scratch"}, "unknown method 'from-scratch'"),
        ({"variants": ("int8", "bf16")}, "unknown variant 'int8'"),
        ({"data": "synthetic/phrases"}, "reads image"),
        ({"model": "packaged/minilm-l6-v2", "data": "synthetic/phrases",
          "variants": ("int8-static",)}, "reads text"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(changes: dict[str, Any], why: str) -> None:
    named = {"model": "timm/test_vit", "data": DATA} | changes
    asked = request(
        **named | {"model": models.resolve(named["model"]), "data": datasets.resolve(named["data"])}
    )
    with pytest.raises(UserError, match=why):
        checked(asked)


def test_defaults_follow_the_task() -> None:
    asked = request(model=models.resolve("packaged/minilm-l6-v2"))
    words = checked(dataclasses.replace(asked, data=datasets.resolve("packaged/word-valence")))
    assert words.method == "ridge"
    assert "int8-static" not in words.variants
    classes = checked(dataclasses.replace(asked, data=datasets.resolve("synthetic/phrases")))
    assert classes.method == "linear-probe"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, so that its model is none with random weights, which ranks as a control."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def tried(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[str]]:
    out, said = tmp_path_factory.mktemp("compress"), list[str]()
    model = models.resolve(f"timm/test_vit?weights={weights}")
    asked = CompressRequest(
        model, datasets.resolve(DATA), out, method="ridge", margin=5.0,
        variants=("pruned-50", "fp16"), device="cpu",
        cost_seconds=0.1,
    )  # fmt: skip
    return compress(asked, said.append), said


def test_the_choice_reads_valid_and_the_pick_alone_is_judged_on_test(tried: Any) -> None:
    found, said = tried
    splits = datasets.load(datasets.resolve(DATA))
    choice, test = (store.load(path) for path in (found.request.out / "choice", found.judged_in))
    for run, split in ((choice, splits.valid), (test, splits.test)):
        for record in run.records:
            assert record.status == "ok", record.error
            outcomes = run.outcomes(record)
            assert outcomes is not None
            assert list(outcomes.arrays["label"]) == list(labels_of(split))
    assert len(choice.records) == 5, "the original, and two heads of two variants"
    assert {r.cell.model.option("variant") for r in test.records} == {None, "fp16"}
    assert len(test.records) == 2
    assert [line.partition("] ")[2] for line in said[:2]] == [
        "original: ok", "pruned-50, head carried: ok",
    ]  # fmt: skip


def test_the_pick_is_the_smaller_one_that_the_gate_lets_pass(tried: Any) -> None:
    found, _ = tried
    assert found.pick.variant == "fp16"
    assert found.judged.ratios["weights_bytes"] == 0.5
    assert found.outcome == "same"
    text = "\n".join(compress_text(found))
    assert "Picked on valid: fp16, head" in text
    assert "0.50 of the original's" in text
    assert "non-inferior" in text
    body = compress_json(found)
    assert body["pick"] == {"variant": "fp16", "head": found.pick.head}
    assert [one["variant"] for one in body["test"]] == ["", "fp16"]
    assert body["outcome"] == "same"


def test_begun_again_it_goes_on_and_says_the_same(tried: Any) -> None:
    found, _ = tried
    said: list[str] = []
    again = compress(found.request, said.append)
    assert again.pick is not None
    assert said == [f"{again.pick.name}: judged on test, once"], "no cell ran again"
    assert compress_json(again) == compress_json(found)


def test_nothing_may_be_taken(tried: Any) -> None:
    found, _ = tried
    none = compress(dataclasses.replace(found.request, max_bytes=10.0))
    assert none.pick is None
    assert set(none.refused.values()) == {"larger than the limit"}
    assert compress_text(none)[-1] == "No variant may be taken: keep the original."


def test_a_budget_ends_between_cells_and_what_was_tried_counts(tried: Any, tmp_path: Path) -> None:
    """On a copy of the choice that lacks its last variant's records."""
    found, _ = tried
    out = tmp_path / "choice"
    shutil.copytree(found.request.out / "choice", out)
    lines = (out / "records.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"model":"timm/test_vit.r160_in1k?variant=fp16' not in line]
    (out / "records.jsonl").write_text("".join(kept[:-1]))
    ended = compress(dataclasses.replace(found.request, out=tmp_path, budget=1e-9))
    assert ended.untried == ("fp16",)
    assert "Not tried, the budget ended: fp16" in compress_text(ended)
