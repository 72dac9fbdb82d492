"""Accepting a run: small files that read as a run, and a log of who, why and until when."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from compare_runs import LITE0, Folder, answers, record
from zoobench import store
from zoobench.compare.accept import Proposal, accept, propose
from zoobench.compare.baseline import PACKED, PackedRun
from zoobench.compare.compare import compare, compare_paths
from zoobench.compare.reading import load
from zoobench.errors import StoreError, UserError
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import Measurement

TODAY = date(2026, 3, 1)
GOOD = np.arange(50)
BAD = np.arange(120)


def run(path: Path, **wrong: np.ndarray) -> Path:
    """A cell a method; each keyword is a method and its wrong answers of 1,000."""
    folder = Folder(path)
    for method, rows in wrong.items():
        folder.add(record(answers(1000, rows), method=method))
    return folder.write()


def request(reason: str = "first", **more: object) -> Proposal:
    return Proposal(reason, today=TODAY, **more)  # type: ignore[arg-type]


def test_an_accepted_run_compares_as_the_run_itself(tmp_path: Path) -> None:
    old = run(tmp_path / "old", knn=GOOD, ridge=BAD)
    new = run(tmp_path / "new", knn=BAD, ridge=BAD)
    done = accept(old, "smoke", request(), tmp_path / "baselines")
    against_run, against_baseline = compare_paths(old, new), compare_paths(done.folder, new)
    assert against_baseline.findings == against_run.findings
    assert against_baseline.exit_code == 1
    assert compare_paths(done.folder, old).exit_code == 0


def test_a_baseline_is_small_sorted_and_the_same_bytes_again(tmp_path: Path) -> None:
    old = run(tmp_path / "old", ridge=BAD, knn=GOOD)
    again = run(tmp_path / "again", knn=GOOD, ridge=BAD)
    first = accept(old, "smoke", request(), tmp_path / "a").folder
    second = accept(again, "smoke", request(), tmp_path / "b").folder
    names = sorted(p.name for p in first.iterdir())
    assert names == ["baseline.toml", "predictions.npz", "records.jsonl"]
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)
    raw = sum(f.stat().st_size for f in old.rglob("*") if f.is_file())
    assert sum((first / n).stat().st_size for n in names) < raw


def test_packed_predictions_are_exact_where_it_counts(tmp_path: Path) -> None:
    old = run(tmp_path / "old", knn=BAD)
    packed = load(accept(old, "smoke", request(), tmp_path / "b").folder)
    kept, expected = packed.outcomes(packed.records[0]), answers(1000, BAD)
    assert kept is not None
    assert kept.arrays.keys() == expected.arrays.keys()
    for name, theirs in expected.arrays.items():
        ours = kept.arrays[name]
        assert ours.dtype == theirs.dtype
        assert np.allclose(ours, theirs, rtol=1e-3, atol=0)
    assert np.array_equal(kept.arrays["rank"], expected.arrays["rank"])


def test_the_log_says_what_changed_and_why(tmp_path: Path) -> None:
    root = tmp_path / "b"
    accept(run(tmp_path / "1", knn=GOOD, ridge=BAD), "smoke", request(by="ada"), root)
    later = request('new "filter"', only=("method=k*",))
    done = accept(run(tmp_path / "2", knn=BAD, ridge=GOOD), "smoke", later, root)
    assert done.changed == ("packaged/efficientnet-lite0 · packaged/mnist-5k · knn",)
    body = tomllib.loads((done.folder / "baseline.toml").read_text(encoding="utf-8"))
    assert body == {
        "format": 2,
        "suite": "smoke",
        "accepted": [
            {"date": "2026-03-01", "reason": "first", "by": "ada", "cells": ["2 cells"]},
            {
                "date": "2026-03-01",
                "reason": 'new "filter"',
                "cells": [
                    "packaged/efficientnet-lite0 · packaged/mnist-5k · knn: accuracy 0.95 -> 0.88"
                ],
            },
        ],
    }
    kept = {r.cell.method: r.value("accuracy") for r in load(done.folder).records}
    assert kept == {"knn": 0.88, "ridge": 0.88}


def test_an_acceptance_until_a_day_goes_back_after_it(tmp_path: Path) -> None:
    root = tmp_path / "b"
    accept(run(tmp_path / "1", knn=GOOD), "smoke", request(), root)
    worse = run(tmp_path / "2", knn=BAD, ridge=BAD)
    accept(worse, "smoke", request("for now", until=date(2026, 4, 1)), root)
    folder, candidate = root / "smoke", load(worse)
    on_time = compare(load(folder, today=date(2026, 4, 1)), candidate)
    late = compare(load(folder, today=date(2026, 4, 2)), candidate)
    assert (on_time.exit_code, late.exit_code) == (0, 1)
    assert [c.cell.method for c in late.new] == ["ridge"]
    assert late.notes == (
        "an acceptance of 2026-03-01 has run out on 2026-04-01 (for now): 2 cells are held to "
        "what was accepted before it",
    )


def test_a_lasting_acceptance_ends_one_until_a_day(tmp_path: Path) -> None:
    root = tmp_path / "b"
    accept(run(tmp_path / "1", knn=GOOD), "smoke", request(), root)
    worst = run(tmp_path / "3", knn=np.arange(200))
    until = request("for now", until=date(2026, 4, 1))
    accept(run(tmp_path / "2", knn=BAD), "smoke", until, root)
    accept(worst, "smoke", request("for good"), root)
    assert not (root / "smoke" / "superseded.jsonl").exists()
    found = compare(load(root / "smoke", today=date(2027, 1, 1)), load(worst))
    assert found.exit_code == 0
    assert found.notes == ()


def test_a_second_until_goes_back_to_before_the_first(tmp_path: Path) -> None:
    root = tmp_path / "b"
    good = run(tmp_path / "1", knn=GOOD)
    accept(good, "smoke", request(), root)
    until = date(2026, 4, 1)
    accept(run(tmp_path / "2", knn=BAD), "smoke", request("one", until=until), root)
    accept(run(tmp_path / "3", knn=np.arange(200)), "smoke", request("two", until=until), root)
    late = load(root / "smoke", today=date(2026, 5, 1))
    assert [r.value("accuracy") for r in late.records] == [0.95]
    assert compare(late, load(good)).exit_code == 0
    assert late.outcomes(late.records[0]) is not None


def test_a_removed_cell_is_accepted_and_a_failed_one_is_not(tmp_path: Path) -> None:
    root = tmp_path / "b"
    accept(run(tmp_path / "1", knn=GOOD, ridge=GOOD, lora=GOOD), "smoke", request(), root)
    second = Folder(tmp_path / "2").add(record(answers(1000, GOOD)))
    second.add(record(answers(1000, GOOD), method="lora", status="crash"))
    done = accept(second.write(), "smoke", request("fewer"), root)
    head = "packaged/efficientnet-lite0 · packaged/mnist-5k"
    assert done.removed == (f"{head} · ridge",)
    assert done.kept == (f"{head} · lora",)
    assert sorted(r.cell.method for r in load(done.folder).records) == ["knn", "lora"]


def test_a_proposal_stands_beside_the_verdicts(tmp_path: Path) -> None:
    root = tmp_path / "b"
    accept(run(tmp_path / "1", knn=GOOD), "smoke", request(), root)
    new = run(tmp_path / "2", knn=BAD)
    candidate = load(new)
    made = propose(candidate, load(root / "smoke"), tmp_path / "gate" / "baseline")
    assert made is not None
    proposed = made.folder
    assert compare(load(proposed), candidate).exit_code == 0
    held = load(proposed)
    assert isinstance(held, PackedRun)
    assert [e.reason for e in held.log] == ["first", "PROPOSED: say here why this is meant"]
    assert compare(load(root / "smoke"), candidate).exit_code == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reason": " "}, "needs a reason"),
        ({"only": ("model",)}, "write FIELD=GLOB"),
        ({"only": ("modl=x",)}, "unknown field 'modl'. Did you mean 'model'?"),
        ({"only": ("model=*none*",)}, "nothing can be accepted"),
        ({"until": date(2026, 2, 1)}, "is in the past"),
    ],
)
def test_mistakes(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    asked = dataclasses.replace(request(), **changes)  # type: ignore[arg-type]
    with pytest.raises(UserError) as error:
        accept(run(tmp_path / "1", knn=GOOD), "smoke", asked, tmp_path / "b")
    assert said in str(error.value)
    assert not (tmp_path / "b" / "smoke" / "baseline.toml").exists()


def test_another_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds the suite 'smoke', not 'demo'"):
        accept(run(tmp_path / "1", knn=GOOD), "demo", request(), tmp_path / "b")


def test_damaged_baselines(tmp_path: Path) -> None:
    folder = accept(run(tmp_path / "1", knn=GOOD), "smoke", request(), tmp_path / "b").folder
    worse = load(run(tmp_path / "2", knn=BAD))
    (folder / PACKED).write_bytes(b"PK nothing")
    with pytest.raises(StoreError, match="damaged predictions"):
        compare(load(folder), worse)
    for text, said in (("format = 99", "format 99"), ("format = ", "not valid TOML")):
        (folder / "baseline.toml").write_text(text)
        with pytest.raises(StoreError, match=said):
            load(folder)
    (folder / "baseline.toml").write_text("format = 1\n[[accepted]]\nuntil = 'soon'")
    with pytest.raises(StoreError, match=r"accepted\[0\]"):
        load(folder)


def test_arrays_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    folder = accept(run(tmp_path / "1", knn=GOOD, ridge=BAD), "smoke", request(), tmp_path / "b")
    baseline = load(folder.folder)
    packed = folder.folder / PACKED
    blob = bytearray(packed.read_bytes())
    name = next(r.predictions for r in baseline.records if r.cell.method == "knn")
    with zipfile.ZipFile(packed) as members:
        where = json.loads(np.load(packed)["index"].tobytes())[name]["arrays"]["nll"][0]
        start = members.getinfo(f"{where}.npy").header_offset
    blob[start + 120] ^= 255
    packed.write_bytes(blob)
    answers = {r.cell.method: r for r in baseline.records}
    assert baseline.outcomes(answers["ridge"]) is not None
    with pytest.raises(StoreError, match="damaged predictions"):
        baseline.outcomes(answers["knn"])
    np.save(packed.with_suffix(".npy"), np.zeros(3))
    packed.with_suffix(".npy").rename(packed)
    with pytest.raises(StoreError, match=r"damaged predictions: no sound"):
        load(folder.folder).outcomes(answers["knn"])


def test_the_model_of_a_baseline_keeps_its_revision(tmp_path: Path) -> None:
    folder = accept(run(tmp_path / "1", knn=GOOD), "smoke", request(), tmp_path / "b").folder
    assert load(folder).records[0].cell.model.text == LITE0


def test_the_accepted_smoke_baseline_asks_what_the_suite_asks() -> None:
    """Who changes the smoke suite accepts its baseline anew: .ci/run compares with it."""
    from zoobench.compare.match import identity
    from zoobench.runs import planning, suite

    held = load(Path(__file__).parents[2] / "results" / "baselines" / "smoke")
    planned = planning.plan(suite.read("smoke"))
    assert {identity(r.cell) for r in held.records} == {identity(c) for c in planned}
    assert all(r.status == "ok" for r in held.records)
    assert all(held.outcomes(r) is not None for r in held.records)


def test_without_a_baseline_a_run_says_how_to_make_one(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from zoobench.cli.main import main

    new = run(tmp_path / "new", knn=GOOD)
    done = CliRunner().invoke(main, ["compare", str(tmp_path / "none"), str(new)])
    assert done.exit_code == 2
    assert "there is no baseline yet" in done.stderr
    assert f"zoobench baseline accept {new} --suite smoke --reason" in done.stderr
    proposed = new / "gate" / "baseline" / "smoke"
    assert compare_paths(proposed, new).exit_code == 0


def test_a_run_of_failures_is_missing_and_proposes_nothing(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from zoobench.cli.main import main

    accept(run(tmp_path / "1", knn=GOOD, ridge=GOOD), "smoke", request(), tmp_path / "b")
    new = Folder(tmp_path / "2").add(record(answers(1000), status="nan"))
    done = CliRunner().invoke(main, ["compare", str(tmp_path / "b" / "smoke"), str(new.write())])
    assert done.exit_code == 3, done.stderr
    assert not (new.path / "gate" / "baseline" / "smoke").exists()


def test_a_baseline_keeps_what_decides_and_nothing_else(tmp_path: Path) -> None:
    first, arrays = record(answers(100), started="2026", latency=[1.0, 2.0, 4.0])
    interval = Measurement("ece", 0.25, "fraction", "lower", 0.125, 0.5, 10)
    other = Measurement("fit_seconds", 3.0, "s", "lower")
    full = dataclasses.replace(
        first, measurements=(*first.measurements, interval, other), chosen={"k": 1},
        flags=("noisy",), seconds=3.0,
    )  # fmt: skip
    path = Folder(tmp_path / "run").add((full, arrays)).write()
    (kept,) = store.load(accept(path, "smoke", request(), tmp_path / "b").folder).records
    assert kept.cell == full.cell
    assert kept.get("ece") == dataclasses.replace(interval, low=None, high=None)
    assert kept.get("fit_seconds") is None
    latency = kept.get("latency_ms_p50")
    assert latency is not None
    assert latency.detail == {
        "device": "cpu", "dtype": "float32", "threads": 2, "batch": 1,
        "median": 2.0, "mad": 1.4826, "samples_n": 3,
    }  # fmt: skip
    bare = (kept.chosen, kept.flags, kept.started, kept.seconds)
    assert bare == ({}, (), "", 0.0)
    assert kept.provenance == full.provenance


def test_a_run_that_lacks_cells_is_accepted_only_when_asked(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from cells import write_suite
    from zoobench.cli.main import main
    from zoobench.runs import planning, suite

    spec = suite.read(str(write_suite(tmp_path / "s.toml", methods=["knn", "ridge"], name="two")))
    first, second = planning.plan(spec)
    whole, _ = record(answers(20))
    lines = [
        store.encode(dataclasses.replace(whole, cell=cell, predictions=""))
        for cell in (first, second)
    ]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "suite.toml").write_text(to_toml(spec), encoding="utf-8")

    def taken(*options: str) -> tuple[int, str]:
        asked = ["baseline", "accept", str(folder), "--suite", "two", "--reason", "x"]
        done = CliRunner().invoke(main, [*asked, "--root", str(tmp_path / "b"), *options])
        return done.exit_code, done.output

    (folder / "records.jsonl").write_bytes(lines[0])
    code, said = taken()
    assert code == 2
    assert f"no record of 1 cells of its suite: {second.label}" in said
    assert "--partial" in said
    assert not (tmp_path / "b").exists()
    assert taken(f"--only=method={first.method}")[0] == 0
    assert taken("--partial")[0] == 0
    (folder / "records.jsonl").write_bytes(b"".join(lines))
    assert taken()[0] == 0
    gone = to_toml(spec).replace("synthetic/stripes", "folder/gone")
    (folder / "suite.toml").write_text(gone, encoding="utf-8")
    code, said = taken()
    assert (code, "--partial accepts it as it is" in said) == (2, True)
    assert taken("--partial")[0] == 0
