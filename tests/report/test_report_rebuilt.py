"""Sheets of rebuilt pictures: a run's own small PNG files, shown where pictures are asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from zoobench.pretraining.pictures import grid_png
from zoobench.ranking.nouns import Ranking
from zoobench.report.page import page
from zoobench.report.parts import ReportParts
from zoobench.report.rebuilt import picture_sheets
from zoobench.schema import PRETRAIN, Cell, Record, Ref
from zoobench.store import Run


def run_with(folder: Path, *seeds: int) -> Run:
    model, data = Ref("pretrained-here", "a<b>", "1"), Ref.parse("packaged/digits@1")
    records = tuple(Record(Cell(model, data, PRETRAIN, {}, seed), "ok") for seed in seeds)
    return Run(folder, records, {})


def sheet_file(run: Run, seed: int) -> Path:
    from zoobench.files import file_name

    file = run.path / "pretrained" / file_name("a<b>") / f"seed-{seed}" / "reconstructions.png"
    file.parent.mkdir(parents=True)
    return file


def test_the_sheet_of_the_first_seed_is_shown_and_its_name_is_no_markup(tmp_path: Path) -> None:
    run = run_with(tmp_path, 2, 1)
    sheet_file(run, 1).write_bytes(grid_png([torch.rand(8, 3, 28, 28)] * 2))
    sheet_file(run, 2).write_bytes(grid_png([torch.rand(1, 3, 8, 8)]))
    (sheet,) = picture_sheets([run])
    assert sheet.picture.startswith("data:image/png;base64,")
    assert "a<b>: pictures of test" in sheet.caption
    html = page(Ranking((), (), (), run.records), "t", {}, "t", ReportParts(rebuilt=[sheet]))
    assert sheet.picture in html
    assert "a&lt;b&gt;: pictures of test" in html
    assert "a<b>" not in html
    assert "think of it before you share it" in html


@pytest.mark.parametrize("kind", ["absent", "no png", "large", "link"])
def test_what_is_no_small_picture_of_the_run_is_left_out(tmp_path: Path, kind: str) -> None:
    run = run_with(tmp_path / "run", 0)
    file = sheet_file(run, 0)
    png = grid_png([torch.rand(1, 3, 8, 8)])
    if kind == "no png":
        file.write_bytes(b"<svg onload=alert(1)>")
    elif kind == "large":
        file.write_bytes(png + bytes(2**21))
    elif kind == "link":
        (tmp_path / "private.png").write_bytes(png)
        os.symlink(tmp_path / "private.png", file)
    assert picture_sheets([run]) == []
    file.unlink(missing_ok=True)
    file.write_bytes(png)
    assert len(picture_sheets([run])) == 1
