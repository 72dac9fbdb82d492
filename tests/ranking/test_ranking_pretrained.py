"""What pretraining bought: leads over random features and raw input, as computed by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from zoobench.metrics import measured
from zoobench.ranking.nouns import Bought, Lead, Ranking
from zoobench.ranking.outcomes import Kept
from zoobench.ranking.pretrained import _corrected, encoders, lead_over
from zoobench.report.pretraining import pretraining_tables
from zoobench.report.tables import ranking_table
from zoobench.schema import PRETRAIN, Cell, Record, Ref
from zoobench.statistics.bootstrap import units_of
from zoobench.statistics.intervals import Luck, pooled

JUDGE = "packaged/efficientnet-lite0"
DATA = Ref.parse("packaged/mnist-5k@1")


def model(name: str, objective: str = "") -> Ref:
    options = {
        "architecture": "small-conv", "dataset": "packaged/mnist-5k",
        "objective": objective or name,
    }  # fmt: skip
    return Ref("pretrained-here", name, "abc", options.items())


def made(name: str, seed: int, curve: Sequence[tuple[int, int, float]], **more: float) -> Record:
    points = [{"examples": e, "macs": m, "accuracy": a} for e, m, a in curve]
    numbers = [
        measured("pretraining_valid_accuracy", curve[-1][2], detail={"curve": points}),
        measured("examples_seen", float(curve[-1][0])),
        measured("pretraining_macs", float(curve[-1][1])),
        measured("pretraining_seconds", 2.0),
        measured("train_memory_bytes", 1e6),
        *(
            measured(k, v, low=v - 0.196, high=v + 0.196, n=50, detail={"model": JUDGE})
            for k, v in more.items()
        ),
    ]
    cell = Cell(model(name), DATA, PRETRAIN, {}, seed)
    return Record(cell, "ok", tuple(numbers), chosen={"rate": 1e-3})


def kept(right: np.ndarray) -> Kept:
    units = units_of([f"picture {i}" for i in range(right.shape[1])])
    return Kept("accuracy", units, True, right.astype(np.float64), ())


def test_a_lead_adds_the_variances_of_examples_and_of_paired_seeds() -> None:
    rng = np.random.default_rng(0)
    mine, theirs = rng.random((3, 400)) < 0.8, rng.random((3, 400)) < 0.6
    apart = mine.mean(axis=1) - theirs.mean(axis=1)
    luck = Luck(float(apart.var(ddof=1)), 2.0)
    lead, p = lead_over(kept(mine), kept(theirs), luck)
    assert lead.value == pytest.approx(apart.mean())
    each = (mine.astype(float) - theirs).mean(axis=0)
    examples, seeds = each.var(ddof=1) / 400, luck.variance / 3
    dof = (examples + seeds) ** 2 / (examples**2 / 399 + seeds**2 / 2)
    half = stats.t.ppf(0.975, dof) * np.sqrt(examples + seeds)
    assert lead.low is not None
    assert lead.high is not None
    # 1,000 draws of the bootstrap give a variance to some percent.
    assert lead.high - lead.low == pytest.approx(2 * half, rel=0.08)
    expected = 2 * stats.t.sf(lead.value / np.sqrt(examples + seeds), dof)
    assert p == pytest.approx(expected, rel=0.5, abs=1e-6)


def test_the_same_answers_are_no_lead_and_one_encoder_has_no_interval() -> None:
    right = np.random.default_rng(1).random((3, 50)) < 0.5
    same = kept(right)
    lead, p = lead_over(same, same, Luck(0.0, 4.0))
    assert (lead.value, lead.low, lead.high, p) == (0.0, 0.0, 0.0, 1.0)
    alone, p = lead_over(kept(right[:1]), same, pooled([np.zeros(1)]))
    assert alone.low is None
    assert p == 1.0


def test_leads_by_chance_alone_are_called_leads_in_one_run_of_twenty() -> None:
    """Two objectives that make equally good encoders, over many runs of three seeds."""
    rng = np.random.default_rng(2)
    wrong, runs = 0, 200
    for _ in range(runs):
        ability = rng.normal(size=120)
        right = [rng.random((3, 120)) < 1 / (1 + np.exp(-ability)) for _ in range(2)]
        mine, theirs = map(kept, right)
        luck = pooled([mine.values() - theirs.values()])
        lead, _ = lead_over(mine, theirs, luck)
        assert lead.low is not None
        assert lead.high is not None
        wrong += not lead.low <= 0 <= lead.high
    assert wrong / runs < 0.09


def bought(name: str, value: float, p: float) -> Bought:
    lead = Lead(value, value - 0.1, value + 0.1, 3)
    over = "random features"
    return Bought(model(name), DATA, "knn", over, "accuracy", 0.9, True, {None: lead}, {None: p})


def test_what_beats_is_above_zero_by_holms_correction_over_all_that_is_shown() -> None:
    rows = _corrected([bought("a", 0.2, 0.01), bought("b", 0.1, 0.03), bought("c", -0.2, 0.001)])
    said = {row.model.name: row.beats for row in rows}
    assert said == {"a": True, "b": True, "c": False}
    rows = _corrected([bought("a", 0.2, 0.03), bought("b", 0.1, 0.04), bought("c", 0.1, 0.9)])
    assert {row.beats for row in rows} == {False}


def test_equal_macs_lie_between_the_points_of_the_curve_in_proportion() -> None:
    one = [made("vae", s, [(0, 0, 0.5), (50, 100, 0.7), (100, 200, 0.8 + s / 10)]) for s in (0, 1)]
    two = [made("contrastive", s, [(0, 0, 0.5), (50, 200, 0.6), (100, 400, 0.9)]) for s in (0, 1)]
    none = [made("random", s, [(0, 0, 0.5)]) for s in (0, 1)]
    rows = {row.model.name: row for row in encoders([*one, *two, *none])}
    assert rows["vae"].equal == pytest.approx(0.85)
    assert rows["contrastive"].equal == pytest.approx(0.6)
    assert rows["random"].equal == pytest.approx(0.5)
    assert rows["vae"].curve[-1] == pytest.approx((100, 200, 0.85, 0.8, 0.9))


def test_an_interval_over_seeds_is_wider_than_that_of_each() -> None:
    curve = [(0, 0, 0.5), (100, 200, 0.8)]
    rows = encoders([made("vae", 0, curve, psnr=20.0), made("vae", 1, curve, psnr=21.0)])
    value, low, high = rows[0].numbers["psnr"]
    assert value == 20.5
    assert low is not None
    assert high is not None
    assert high - low > 2 * 0.196
    alone = encoders([made("vae", 0, curve, psnr=20.0)])[0]
    assert np.allclose(np.array(alone.numbers["psnr"], dtype=float), [20.0, 19.804, 20.196])


def test_samples_stand_beside_their_floor_and_in_the_csv_file() -> None:
    curve = [(0, 0, 0.5), (100, 200, 0.8)]
    told = {"kid": 0.31, "kid_floor": 0.01, "sample_precision": 0.4, "sample_precision_floor": 0.9}
    records = [made("vae", s, curve, **told) for s in (0, 1)]
    rows = encoders([*records, made("masked", 0, curve)])
    (table,) = [t for t in pretraining_tables(rows, []) if t.name == "samples"]
    assert "In the features of packaged/efficientnet-lite0, beside" in table.about
    assert "Told from real pictures: vae." in table.about
    assert "too few pictures for FID" in table.about
    assert table.header == ("model", "KID", "precision (%)")
    ours, floor = table.rows
    assert ours[0] == "vae"
    assert ours[1].startswith("0.31 [")
    assert floor[0] == "vae: real, the floor"
    assert floor[1].startswith("0.01 [-0.")
    assert floor[2].startswith("90.0 [")
    assert floor[2].endswith(", 100.0]"), "a share is no larger"
    columns = ranking_table(Ranking((), (), (), (), encoders=rows))
    written = dict(zip(columns["metric"], columns["value"], strict=True))
    assert written["kid"] == pytest.approx(0.31)
    assert written["kid_floor"] == pytest.approx(0.01)
    assert set(columns["scope"]) == {"pretraining"}
    assert set(columns["dataset"]) == {"packaged/mnist-5k"}
    assert columns["low"][columns["metric"].index("kid")] < 0.31


@pytest.mark.parametrize(
    "curve",
    ["x", 3, [{}], [{"examples": 1, "macs": None, "accuracy": 0.5}], [[1, 2, 3]], [],
     [{"examples": "a", "macs": 1, "accuracy": 1}],
     [{"examples": 1, "macs": 1, "accuracy": float("nan")}]],
    ids=repr,
)  # fmt: skip
def test_a_strangers_record_of_a_pretraining_is_left_out(curve: object) -> None:
    ours = made("masked", 0, [(0, 0, 0.5), (100, 200, 0.8)])
    broken = [m for m in ours.measurements if m.metric != "pretraining_valid_accuracy"]
    broken.append(measured("pretraining_valid_accuracy", 0.5, detail={"curve": curve}))
    theirs = dataclasses.replace(
        ours, cell=dataclasses.replace(ours.cell, seed=1), measurements=tuple(broken),
        chosen={"rate": "<b>"},
    )  # fmt: skip
    assert encoders([theirs]) == ()
    assert encoders([ours, theirs]) == encoders([ours])
    for name in ("examples_seen", "train_memory_bytes"):
        without = tuple(m for m in ours.measurements if m.metric != name)
        assert encoders([dataclasses.replace(ours, measurements=without)]) == ()


def test_the_tables_say_in_words_what_beats_and_mark_what_was_seen() -> None:
    curve = [(0, 0, 0.5), (100, 200, 0.8)]
    rows = encoders([made("a", s, curve, psnr=20.0) for s in (0, 1)])
    gains = _corrected([bought("a", 0.2, 0.001), bought("b", -0.1, 0.5)])
    tables = {table.name: table for table in pretraining_tables(rows, gains)}
    assert set(tables) == {"pretrained", "learned", "beaten"}
    about = tables["beaten"].about
    assert "Beats random features by knn: a (on mnist-5k); not shown to: b (on mnist-5k)." in about
    first = tables["beaten"].rows[0]
    assert "mnist-5k (seen in pretraining)" in first
    assert "+20.0 [10.0, 30.0]" in first
    assert "PSNR (dB)" in tables["pretrained"].header
    assert pretraining_tables([], []) == []
