"""Maps of the same test examples, model by model: drawn from the data, only where asked for."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoobench import datasets
from zoobench.methods.audit import WORDS
from zoobench.metrics import measured
from zoobench.ranking.rank import rank
from zoobench.report import maps
from zoobench.report.maps import ExplainedExamples, drawn, explained_examples, maps_of
from zoobench.report.write import write_report
from zoobench.schema import Cell, Record, Ref
from zoobench.statistics.bootstrap import numbered
from zoobench.store import Run, Store, load
from zoobench.tasks import task
from zoobench.tasks.evaluate import evaluate

DATA = "synthetic/stripes?classes=3&test=9&train=12&valid=6"
MAPS = [
    {"place": 4, "said": 1, "map": [100, 0, 0, -50], "across": 2, "frame": [0, 0, 1, 1]},
    {"place": 2, "said": 0, "map": [0, 0, 100, 0], "across": 2, "frame": [0, 0, 1, 1]},
]
NAMES = ("timm/a@1", "timm/b@1")
TEXTS = "synthetic/phrases?classes=3&test=9&train=12&valid=6"


def made(path: Path, maps: Any = MAPS, told: str = "", data: str = DATA, how: str = "") -> Run:
    """A run of two models, of which the second has the first of `maps` alone."""
    where = datasets.resolve(data)
    splits, judge = datasets.load(where), task("classification")
    said = np.log(np.full((9, 3), 1 / 3, dtype=np.float32))
    kept = judge.judge(said, splits.test, (said[:6], splits.valid)).of(numbered(9, "stripes"))
    facts = {
        "splits": {"test": splits.test.fingerprint}, "sizes": {"test": 9}, "classes": 3,
        "model": {"license": "MIT"},
    }  # fmt: skip
    suite = f'name = "maps"\nidentity = "maps"\ndatasets = ["{told or where}"]\n'
    with Store(path, suite, "maps") as store:
        for name in NAMES:
            own = maps if name == NAMES[0] else maps[:1]
            gain = measured(
                "explanation_gain", 0.3, detail={"attribution": how or "occlusion", "maps": own}
            )
            versions = {"protocol": 1, "task": "classification@1", "method": 1}
            cell = Cell(Ref.parse(name), where, "linear-probe", versions=versions)
            numbers = (*evaluate(judge, kept, splits), gain)
            store.append(Record(cell, "ok", numbers, provenance=facts), kept)
    return load(path)


def found(run: Run) -> ExplainedExamples:
    (one,) = explained_examples(rank([run]), [run])
    return one


def pixels(uri: str) -> np.ndarray:
    blob = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(blob)), dtype=float)


def test_every_model_shows_its_maps_of_the_same_pictures(tmp_path: Path) -> None:
    one = found(made(tmp_path / "run"))
    splits = datasets.load(datasets.resolve(DATA))
    truth = splits.test.targets.strata
    assert [p.caption for p in one.pictures] == [splits.classes[truth[i]] for i in (4, 2)]
    assert [name for name, _ in one.rows] == ["a", "b"]
    (_, first), (_, second) = one.rows
    assert [p and p.caption for p in first] == [splits.classes[1], splits.classes[0]]
    assert second[1] is None
    assert second[0] == first[0]
    assert first[0] is not None
    red, _, blue = np.moveaxis(pixels(first[0].picture), 2, 0)
    warm = red - blue
    assert warm[:40, :40].mean() > 60
    assert warm[56:, 56:].mean() < -20
    assert abs(warm[:40, 56:].mean()) < 5


def test_a_map_lies_on_the_part_that_the_network_reads() -> None:
    picture = Image.new("RGB", (80, 40), (100, 100, 100))
    picture.paste((200, 200, 200), (40, 0, 60, 40))
    one = {"map": [100, 0], "across": 2, "frame": [0.75, 0, 0.5, 1]}  # mirrored
    made = np.asarray(drawn(picture, one), dtype=float)
    assert made.shape == (96, 48, 3)
    assert (made[:, 30:46, 0] > made[:, 30:46, 2] + 20).all(), "its first tile is on the right"
    assert (made[:, 2:20] == 200).all()


def test_the_page_holds_them_where_they_are_asked_for(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    html = [
        write_report([run], tmp_path / name, pictures=asked)[0].read_text("utf-8")
        for name, asked in (("plain", False), ("asked", True))
    ]
    assert "data:image/jpeg" not in html[0]
    assert html[1].count("data:image/jpeg") == 5
    assert "think of it before you share it" in html[1]
    assert 'alt="Map of b, test picture 1"' in html[1]


def test_data_that_are_not_at_hand_are_said(tmp_path: Path) -> None:
    run = made(tmp_path / "run", told="synthetic/stripes?classes=3&test=12&train=12&valid=6")
    assert "No maps: the run's suite.toml does not say where" in found(run).about


def test_every_model_shows_its_words_of_the_same_texts(tmp_path: Path) -> None:
    own = [
        {"place": 4, "said": 1, "map": [100, 0, -50, 3, 0, 0, 0, 0]},
        {"place": 2, "said": 0, "map": [0, 0, 100]},
    ]
    run = made(tmp_path / "run", own, data=TEXTS, how=WORDS)
    one = found(run)
    splits = datasets.load(datasets.resolve(TEXTS))
    assert [truth for truth, _ in one.texts] == [
        splits.classes[splits.test.targets.strata[i]] for i in (4, 2)
    ]
    (_, (first, second)), (_, none) = one.texts
    assert none == (), "its text has more words than its map"
    assert (first.model, first.said, second.model) == ("a", splits.classes[1], "b")
    assert [word for word, _ in first.words] == str(splits.test.read(4)).split()
    assert [weight for _, weight in first.words] == own[0]["map"]
    page = write_report([run], tmp_path / "out", pictures=True)[0].read_text("utf-8")
    word, against = (first.words[k][0] for k in (0, 2))
    assert f'<span class="for" style="--v:100%" title="+100%">{word}</span>' in page
    assert f'<span class="against" style="--v:50%" title="-50%">{against}</span>' in page


def test_long_words_are_cut_and_markup_is_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = datasets.load(datasets.resolve(TEXTS))
    test = replace(splits.test, read=lambda i: f"<b>{'x' * 50} short")
    monkeypatch.setattr(maps, "data_of", lambda *_: replace(splits, test=test))
    run = made(tmp_path / "run", [{"place": 0, "said": 0, "map": [1, 2]}], data=TEXTS, how=WORDS)
    ((_, (one, _)),) = found(run).texts
    assert [word for word, _ in one.words] == ["<b>" + "x" * 36 + "…", "short"]
    page = write_report([run], tmp_path / "out", pictures=True)[0].read_text("utf-8")
    assert "&lt;b&gt;xxx" in page
    assert "<b>xxx" not in page


@pytest.mark.parametrize(("data", "how"), [(TEXTS, "occlusion"), (DATA, WORDS)])
def test_maps_that_are_not_of_such_data_show_nothing(data: str, how: str, tmp_path: Path) -> None:
    """A stranger's record may say of one what is of the other."""
    one = found(made(tmp_path / "run", data=data, how=how))
    assert not [read for _, read in one.texts if read]
    assert not [cell for _, cells in one.rows for cell in cells if cell]


@pytest.mark.parametrize(
    "change",
    [
        {"place": -1}, {"place": "4"}, {"said": 1.5}, {"across": 0}, {"across": 3}, {"map": "<b>"},
        {"map": []}, {"map": [1e9] * 4}, {"map": [float("nan")] * 4}, {"map": [0] * 5000},
        {"frame": [0, 0, 1]}, {"frame": [0, 0, 2, 1]}, {"frame": None}, {"map": [True] * 4},
    ],
)  # fmt: skip
def test_a_map_of_another_form_is_left_out(change: dict[str, Any]) -> None:
    strange = {**MAPS[0], **change}
    gain = measured("explanation_gain", 0.3, detail={"maps": [strange, "text", None, MAPS[1]]})
    cell = Cell(Ref.parse(NAMES[0]), Ref.parse(DATA), "linear-probe")
    assert maps_of(Record(cell, "ok", (gain,))) == {2: MAPS[1]}


def test_a_place_or_class_that_the_data_do_not_have_is_left_out(tmp_path: Path) -> None:
    one = found(made(tmp_path / "run", [{**MAPS[0], "said": 3}, {**MAPS[1], "place": 9}]))
    assert len(one.pictures) == 1
    assert [cells for _, cells in one.rows] == [(None,), (None,)]
