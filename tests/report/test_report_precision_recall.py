"""Precision against recall, as pycocotools has it, and in every output."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from selenium import webdriver

from zoobench.interfaces import Split, Splits
from zoobench.ranking.outcomes import open_book
from zoobench.ranking.rank import rank
from zoobench.report.precision_recall import figure_of, precision_recall
from zoobench.report.write import write_report
from zoobench.schema import Cell, Record, Ref
from zoobench.statistics.bootstrap import numbered
from zoobench.store import Run, Store, load
from zoobench.tasks.detection import (
    Annotation,
    Boxes,
    Detection,
    Detections,
    outcomes_of,
)
from zoobench.tasks.evaluate import evaluate
from zoobench.tasks.matching import coco_json

CLASSES = ("cat", "<b>dog</b>", "absent")
MODELS = ("timm/good@1", "timm/poor@1")


def boxes(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    corner = rng.uniform(0, 60, (n, 2))
    return np.hstack([corner, corner + rng.uniform(10, 40, (n, 2))])


def planted(n: int = 25) -> tuple[Boxes, dict[str, list[Detections]]]:
    rng = np.random.default_rng(3)
    truth = Boxes(
        tuple(
            Annotation.of((100, 100), boxes(rng, k), rng.integers(0, 2, k))
            for k in rng.integers(0, 5, n)
        ),
        len(CLASSES),
    )
    found = {}
    for model, spread in zip(MODELS, (0.5, 2.0), strict=True):
        found[model] = [
            Detections.of(
                np.vstack([one.boxes + rng.normal(0, spread, one.boxes.shape), boxes(rng, 2)]),
                rng.random(len(one.labels) + 2),
                np.concatenate([one.labels, rng.integers(0, 3, 2)]),
            )
            for one in truth.pictures
        ]
    return truth, found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("curves") / "run"
    truth, found = planted()
    n = len(truth)
    empty = Split("test", (), Boxes((), len(CLASSES)), str)
    splits = Splits(empty, empty, empty, CLASSES, "image", task="detection")
    with Store(path, 'name = "boxes"\nidentity = "boxes"\n', "boxes") as store:
        for model, said in found.items():
            kept = outcomes_of(said, truth).of(numbered(n, "scenes"))
            cell = Cell(
                Ref.parse(model), Ref.parse("folder/scenes@1"), "linear-probe",
                versions={"protocol": 1, "task": "detection@1", "method": 1},
            )  # fmt: skip
            facts: dict[str, Any] = {
                "splits": {"test": "s"}, "sizes": {"test": n}, "classes": len(CLASSES),
                "model": {"license": "MIT"},
            }  # fmt: skip
            measured = evaluate(Detection(), kept, splits)
            store.append(Record(cell, "ok", measured, provenance=facts), kept)
    return load(path)


def theirs(truth: Boxes, said: list[Detections]) -> NDArray[np.float64]:
    """(2, 101) pycocotools' precision at IoU 0.50 and 0.75, mean over classes with objects."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = coco_json(truth)
        data.createIndex()
        results = data.loadRes([
            {"image_id": i + 1, "category_id": int(c) + 1, "score": float(np.float32(s)),
             "bbox": [*b[:2], b[2] - b[0], b[3] - b[1]]}
            for i, one in enumerate(said)
            for b, s, c in zip(one.boxes.tolist(), one.scores, one.labels, strict=True)
        ])  # fmt: skip
        judged = COCOeval(data, results, "bbox")
        judged.evaluate()
        judged.accumulate()
    precision = judged.eval["precision"][[0, 5], :, :, 0, 2]
    return np.asarray(precision[:, :, :2].mean(axis=2))


def test_curves_are_pycocotools_and_their_mean_is_the_ap(run: Run) -> None:
    (one,) = precision_recall(open_book([run]), rank([run]))
    assert [model.text for model in one.curves] == list(MODELS)
    truth, found = planted()
    for record in run.records:
        curves = one.curves[record.cell.model]
        expected = theirs(truth, found[record.cell.model.text])
        for (name, curve), row in zip(curves.items(), expected, strict=True):
            np.testing.assert_allclose(curve, row, atol=1e-9)
            assert curve.mean() == pytest.approx(record.value(name))


def test_what_kept_no_outcomes_has_no_curve(run: Run, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("records.jsonl", "suite.toml"):
        (bare / name).write_bytes((run.path / name).read_bytes())
    alone = load(bare)
    assert precision_recall(open_book([alone]), rank([alone])) == []


def test_figure_report_and_page_hold_the_curves(
    run: Run, tmp_path: Path, browser: webdriver.Chrome
) -> None:
    paths = {path.name: path for path in write_report([run], tmp_path)}
    assert "precision-recall-1-scenes.svg" in paths
    text = paths["report.md"].read_text()
    assert "## Precision and recall: scenes, linear-probe" in text
    assert "figures/precision-recall-1-scenes.svg" in text
    assert "<b>dog" not in text + paths["report.html"].read_text()
    browser.get(paths["report.html"].as_uri())
    lines = browser.find_elements("css selector", "#plot-curves-0 [aria-label=line] path")
    assert len(lines) == 2 * len(MODELS)
    log: list[Any] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []
    (one,) = precision_recall(open_book([run]), rank([run]))
    assert [axes.get_title() for axes in figure_of(one).axes] == ["IoU 0.50", "IoU 0.75"]
