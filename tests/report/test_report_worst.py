"""The worst pictures: those that were planted, drawn from the data, and only where asked for."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver

from zoobench import datasets
from zoobench.ranking.outcomes import open_book
from zoobench.ranking.rank import rank
from zoobench.report.worst import COLOURS, WorstPictures, boxed_counts, worst_pictures
from zoobench.report.write import write_report
from zoobench.schema import Cell, Outcomes, Record, Ref
from zoobench.statistics.bootstrap import numbered
from zoobench.store import Run, Store, load
from zoobench.tasks import detection, segmentation, task
from zoobench.tasks.evaluate import evaluate

SMALL = "classes=3&test=9&train=12&valid=6"
WORST, SECOND = 4, 7


def segmented() -> Outcomes:
    """Right everywhere but for two pictures: all of one is ignored, and half of another."""
    masks = segmentation.masks_of(datasets.load(ref("segmentation")).test)
    said = [masks.read(i).copy() for i in range(len(masks))]
    said[WORST][:] = segmentation.IGNORED
    said[SECOND][::2] = segmentation.IGNORED
    return segmentation.outcomes_of(said, masks.read, len(masks), masks.classes)


def detected() -> Outcomes:
    """Right everywhere, but one picture with four sure false alarms, and one with two."""
    truth = detection.boxes_of(datasets.load(ref("detection")).test)
    said = []
    for i, one in enumerate(truth.pictures):
        more = {WORST: 4, SECOND: 2}.get(i, 0)
        scores = [0.9] * (len(one.labels) + more) + [0.1]
        boxes = np.vstack([one.boxes, np.tile([0.0, 0.0, 2.0, 2.0], (more + 1, 1))])
        said.append(detection.Detections.of(boxes, scores, [*one.labels, *[0] * (more + 1)]))
    return detection.outcomes_of(said, truth)


MADE = {"segmentation": segmented, "detection": detected}


def ref(kind: str) -> Ref:
    return datasets.resolve(f"synthetic/stripes?task={kind}&{SMALL}")


def made(path: Path, kind: str, told: str = "", **changes: Any) -> Run:
    """A run of one model whose suite names the data, or `told`."""
    where, outcomes = ref(kind), MADE[kind]()
    splits = datasets.load(where)
    kept = outcomes.of(numbered(outcomes.n, "stripes"))
    cell = Cell(
        Ref.parse("timm/net@1"), where, "linear-probe",
        versions={"protocol": 1, "task": f"{kind}@1", "method": 1},
    )  # fmt: skip
    facts = {
        "splits": {"test": splits.test.fingerprint}, "sizes": {"test": outcomes.n}, "classes": 3,
        "model": {"license": "MIT"},
    }  # fmt: skip
    record = Record(cell, "ok", evaluate(task(kind), kept, splits), provenance=facts | changes)
    suite = f'name = "dense"\nidentity = "dense"\ndatasets = ["{told or where}"]\n'
    with Store(path, suite, "dense") as store:
        store.append(record, kept)
    return load(path)


@pytest.fixture(scope="module", params=list(MADE))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("worst") / "run", request.param)


def shown(run: Run) -> WorstPictures:
    (one,) = worst_pictures(open_book([run]), rank([run]), [run])
    return one


def picture(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB")


def test_the_planted_pictures_come_first_with_what_was_wrong(run: Run) -> None:
    one = shown(run)
    assert len(one.pictures) == 6
    splits = datasets.load(run.records[0].cell.dataset)
    for found, planted in zip(one.pictures, (WORST, SECOND), strict=False):
        own = np.asarray(splits.test.read(planted).convert("RGB"), dtype=float)
        seen = np.asarray(picture(found.picture), dtype=float)
        others = [
            np.abs(seen - np.asarray(splits.test.read(i).convert("RGB"), dtype=float)).mean()
            for i in range(len(splits.test))
        ]
        assert own.shape == seen.shape
        assert int(np.argmin(others)) == planted
        assert np.abs(seen - np.asarray(picture(found.truth), dtype=float)).max() > 50
        assert {name for _, name in found.key} <= set(splits.classes)
        assert {colour for colour, _ in found.key} <= set(COLOURS)
    first = one.pictures[0].caption
    if run.records[0].cell.versions["task"] == "segmentation@1":
        assert first.startswith("mIoU 0.0%; ")
        assert "0% predicted" in first
        assert one.pictures[2].caption == "mIoU 100.0%"
    else:
        assert re.fullmatch(r"0 of \d+ objects missed, 4 false alarms \(score 0.5 or more\)", first)


def test_missed_objects_are_counted_at_a_sure_score() -> None:
    kept = detected()
    true, missed, wrong = boxed_counts(kept)
    assert true.sum() > 0
    assert missed.sum() == 0
    assert wrong.tolist() == [{WORST: 4, SECOND: 2}.get(i, 0) for i in range(kept.n)]
    unsure = Outcomes(kept.n, {**kept.arrays, "score": np.full_like(kept.arrays["score"], 0.4)})
    assert (boxed_counts(unsure)[1] == true).all()


@pytest.mark.parametrize(
    ("told", "changes", "word"),
    [
        ("folder/gone?path=/nowhere", {}, "does not say where the data lie"),
        ("", {"splits": {"test": "another"}}, "are not those of the run"),
    ],
)
def test_data_that_are_not_at_hand_are_a_word(
    told: str, changes: dict[str, Any], word: str, tmp_path: Path
) -> None:
    one = shown(made(tmp_path / "run", "segmentation", told, **changes))
    assert one.pictures == ()
    assert word in one.about


def test_a_page_holds_pictures_only_where_it_is_told_to(
    run: Run, tmp_path: Path, browser: webdriver.Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoobench.report.write.write_figures", lambda *_: [])
    plain = write_report([run], tmp_path / "plain")[0].read_text()
    assert "data:image/jpeg" not in plain
    page = write_report([run], tmp_path / "told", pictures=True)[0]
    assert "holds pictures of the test set" in page.read_text()
    assert page.stat().st_size - len(plain.encode()) < 1_500_000
    browser.get(page.as_uri())
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('#worst img')].map((i) => i.naturalWidth)"
    )
    assert len(sizes) == 12
    assert min(sizes) > 0
