"""`zoobench compress`: its mistakes, its exit codes, what it prints and what it writes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoobench import datasets, models
from zoobench.advise import compress as advising
from zoobench.advise.compress import Compression, CompressRequest
from zoobench.cli import compress as command
from zoobench.compare.variant_verdicts import VariantRow, VariantTable
from zoobench.compare.verdicts import Finding
from zoobench.schema import Cell, Outcome

MODEL, DATA = "packaged/efficientnet-lite0", "packaged/photo-crops"
Zoobench = Callable[..., Any]


def found(outcome: Outcome | None, request: CompressRequest) -> Compression:
    """As if it had been tried: bf16 picked and judged so on test; no pick where it is None."""
    cell = Cell(request.model, request.data, "linear-probe")
    original = VariantRow(request.model, value=0.9, low=0.8, high=0.95)
    judged = Finding(
        cell, "accuracy", 0.9, 0.89, outcome or "same", "why", change=-0.01, low=-0.02, high=0.0,
        margin=0.01,
    )  # fmt: skip
    row = VariantRow(
        request.model.with_options(variant="bf16"), "carried", value=0.89, low=0.8, high=0.95,
        costs={"weights_bytes": 6.8e6}, ratios={"weights_bytes": 0.5}, finding=judged,
    )  # fmt: skip
    table = VariantTable(
        request.model, request.data, "linear-probe", None, "accuracy", (original, row), ()
    )
    none = Compression(
        request, "linear-probe", table, {"fp16, head anew": "why not"}, ("int8-static",)
    )
    return none if outcome is None else dataclasses.replace(none, pick=row, test=table)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Callable[[Outcome | None], list[CompressRequest]]:
    """Whatever is asked ends so; gives what was asked."""

    def set_to(outcome: Outcome | None) -> list[CompressRequest]:
        asked: list[CompressRequest] = []

        def tried(request: CompressRequest, say: Any) -> Compression:
            asked.append(request)
            return found(outcome, request)

        monkeypatch.setattr(advising, "compress", tried)
        monkeypatch.setattr(command, "save_pick", lambda *_: ["written"])
        return asked

    return set_to


@pytest.mark.parametrize(
    ("outcome", "more", "code"),
    [
        ("same", (), 0),
        ("improved", (), 0),
        ("regressed", (), 1),
        ("inconclusive", (), 0),
        ("inconclusive", ("--strict",), 5),
        ("missing", (), 3),
        (None, (), 0),
        (None, ("--save", "new"), 3),
        ("same", ("--save", "new"), 0),
        ("regressed", ("--save", "new"), 1),
    ],
)
def test_exit_codes(
    zoobench: Zoobench, ended: Any, outcome: Outcome | None, more: tuple[str, ...], code: int
) -> None:
    ended(outcome)
    said = zoobench("compress", MODEL, "--data", DATA, *more)
    assert said.code == code, said.err
    assert ("written" in said.out.splitlines()) == (code == 0 and "--save" in more)
    assert ("Nothing was written to new." in said.out) == (code != 0 and "--save" in more)


def test_what_is_asked_is_what_was_typed(zoobench: Zoobench, ended: Any) -> None:
    asked = ended("same")
    zoobench(
        "compress", MODEL, "--data", DATA, "--max-loss", "0.5", "--max-bytes", "7MB",
        "--max-latency-ms", "20", "--variant", "bf16", "--variant", "fp16", "--budget", "90s",
        "--method", "ridge",
    )  # fmt: skip
    (one,) = asked
    assert (one.model, one.data) == (models.resolve(MODEL), datasets.resolve(DATA))
    assert (one.margin, one.max_bytes, one.max_latency_ms, one.budget) == (0.5, 7e6, 20.0, 90.0)
    assert (one.variants, one.method) == (("bf16", "fp16"), "ridge")


def test_it_prints_both_tables_and_the_verdict_within_80_columns(
    zoobench: Zoobench, ended: Any
) -> None:
    ended("same")
    said = zoobench("compress", MODEL, "--data", DATA)
    assert max(map(len, said.out.splitlines())) <= 80
    told = " ".join(said.out.split())
    for text in (
        "Not fp16, head anew: why not", "Not tried, the budget ended: int8-static",
        "Picked on valid: bf16, head carried (6.8 MB, 0.50 of the original's)",
        "On test, judged once: -1.00 [-2.00, 0.00], margin 1 points: non-inferior",
    ):  # fmt: skip
        assert text in told


def test_json_is_one_object(zoobench: Zoobench, ended: Any) -> None:
    ended("regressed")
    said = zoobench("compress", MODEL, "--data", DATA, "--json")
    body = json.loads(said.out)
    assert said.code == 1
    assert body["outcome"] == "regressed"
    assert body["pick"] == {"variant": "bf16", "head": "carried"}
    assert body["saved"] is None
    assert body["valid"][1]["difference"] == -0.01


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((MODEL,), "Missing option '--data'"),
        (("packaged/efficientnet-lite", "--data", DATA), "Did you mean 'efficientnet-lite"),
        ((f"{MODEL}?variant=bf16", "--data", DATA), "is a variant: name the model"),
        ((MODEL, "--data", "nowhere"), "there is no folder or file nowhere"),
        ((MODEL, "--data", "packaged/word-valence"), "reads image"),
        ((f"{MODEL}?weights=random", "--data", DATA), "no quality to lose"),
        ((MODEL, "--data", DATA, "--label", "x"), "columns are a table's own (label)"),
        ((MODEL, "--data", "~nobody-here/x"), "there is no such home folder"),
        ((MODEL, "--data", f"{DATA}?judged_on=valid"), "leave the option out"),
        ((MODEL, "--data", DATA, "--max-loss", "0"), "--max-loss: expected above 0"),
        ((MODEL, "--data", DATA, "--max-loss", "nan"), "--max-loss"),
        ((MODEL, "--data", DATA, "--variant", "int4"), "unknown variant 'int4'"),
        ((MODEL, "--data", DATA, "--method", "knm"), "Did you mean 'knn'"),
        ((MODEL, "--data", DATA, "--out", "a/b", "--save", "a"), "its runs lie there"),
        ((MODEL, "--data", DATA, "--budget", "0"), "--budget: expected more than 0"),
        ((MODEL, "--data", DATA, "--max-bytes", "ten"), "--max-bytes"),
    ],
)  # fmt: skip
def test_mistakes_end_with_code_2(
    zoobench: Zoobench, arguments: tuple[str, ...], why: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    said = zoobench("compress", *arguments)
    assert said.code == 2
    assert why in said.err
    assert list(tmp_path.iterdir()) == [], "found before anything is begun"


def test_a_folder_that_is_not_empty_is_left_alone(zoobench: Zoobench, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    said = zoobench("compress", MODEL, "--data", DATA, "--save", tmp_path)
    assert said.code == 2
    assert "is not empty; nothing was written" in said.err


def test_the_command_in_the_card_says_no_path(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    from zoobench.schema import Ref

    data = Ref("folder", "photos").with_options(path=str(tmp_path / "photos"))
    request = CompressRequest(models.resolve(MODEL), data, tmp_path, max_bytes=7e6)
    told = command.command(found("same", request))
    assert told == (
        "zoobench compress packaged/efficientnet-lite0@0.1.0 --data photos --max-loss 1 "
        "--method linear-probe --max-bytes 7000000"
    )


def test_the_command_in_the_card_is_one_line_and_names_the_columns(tmp_path: Path) -> None:
    from zoobench.schema import Ref

    columns = {"text": "said", "label": "of `kind`"}
    data = Ref("table", "a\n```\n# evil").with_options(path=str(tmp_path / "x.csv"), **columns)
    told = command.command(found("same", CompressRequest(models.resolve(MODEL), data, tmp_path)))
    assert "--text said --label 'of `kind`'" in told
    card = tmp_path / "README.md"
    command.add_command(card, told)
    assert len(card.read_text().splitlines()) == 6
