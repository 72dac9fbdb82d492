"""The advisor with real worker processes: folders, tables, faults, budgets, resume."""

from __future__ import annotations

import csv
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from zoobench import datasets, network, store
from zoobench.advise import policy
from zoobench.advise.journal import FILE, read
from zoobench.advise.loop import GRACE, AdviceRequest, _room, _suite, advise
from zoobench.advise.nouns import Action, Candidate, Done, Recipe
from zoobench.advise.worker import Look
from zoobench.cli.main import main
from zoobench.errors import StoreError, UserError
from zoobench.export.saved import open_saved
from zoobench.ranking.recommend import Limits
from zoobench.report.advice import advice_json, advice_text
from zoobench.runs.suite_toml import to_toml
from zoobench.tasks.classification import labels_of
from zoobench.workers.request_worker import RequestWorker

DATA = "synthetic/stripes?train=500&valid=60&test=250&noise=300.0"
GABOR = "synthetic/gabor"
MODELS = (GABOR, f"{GABOR}?weights=random")


def request(out: Path, models: tuple[str, ...] = MODELS, budget: float = 600.0) -> AdviceRequest:
    ref = datasets.resolve(DATA)
    return AdviceRequest(ref, budget, out, Limits(), models, "cpu", fine_tune=False)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures of four classes that no card knows."""
    root = tmp_path_factory.mktemp("data") / "stripes"
    split = datasets.load(datasets.resolve("synthetic/stripes?train=240")).train
    for i in range(len(split)):
        folder = root / f"class{labels_of(split)[i]}"
        folder.mkdir(parents=True, exist_ok=True)
        split.read(i).save(folder / f"{i}.png")
    return root


def test_a_model_that_dies_and_one_that_fails_cost_no_answer(tmp_path: Path) -> None:
    bad = tuple(f"{GABOR}?fault={fault}" for fault in ("crash", "nan", "missing-weights"))
    found = advise(request(tmp_path / "run", (*MODELS, *bad)))
    assert found.pick is not None
    assert found.pick.candidate.model == "synthetic/gabor@1"
    assert found.method == "linear-probe"
    assert found.pick.first > 0.95
    why = {model.partition("fault=")[2]: said for model, said in found.ruled_out.items()}
    assert why["crash"].startswith("crash: ")
    assert why["missing-weights"].startswith("missing-weights: ")
    assert why["nan"].startswith("nan: ")
    assert found.untried == 0.0


def test_raw_input_is_asked_on_the_furthest_rung_once(tmp_path: Path) -> None:
    found = advise(request(tmp_path / "run"))
    raw, pick = found.raw_input, found.pick
    assert raw is not None
    assert pick is not None
    assert raw.examples == pick.examples == max(s.examples for s in found.standings)
    assert raw.low < raw.value < raw.high
    assert pick.value is not None
    assert raw.beaten == (pick.value > raw.value and raw.p <= 0.05)
    (asked,) = [d for d in found.done if d.stage == "control"]
    record = next(r for r in store.load(tmp_path / "run").records if r.key == asked.key)
    assert (record.cell.model.text, record.status) == ("control/raw-input", "ok")
    again = advise(request(tmp_path / "run"))
    assert [d for d in again.done if d.stage == "control"] == [asked]
    assert again.raw_input == raw
    assert "control" not in {s.candidate.model.partition("/")[0] for s in again.standings}
    assert advice_json(found)["raw_input"]["examples"] == raw.examples


def test_data_that_need_no_network_are_told(tmp_path: Path) -> None:
    """A word says the class; vectors of no meaning know it no better than counts do."""
    table = tmp_path / "t.csv"
    rows = [f"it is {('good', 'bad')[i % 2]} number {i},{i % 2}" for i in range(200)]
    table.write_text("\n".join(["text,label", *rows]))
    data = datasets.resolve(f"table/t?path={table}&text=text&label=label")
    asked = AdviceRequest(
        data, 600.0, tmp_path / "run", Limits(), ("synthetic/bag",), "cpu", fine_tune=False
    )
    found = advise(asked)
    assert found.raw_input is not None
    assert found.raw_input.value == 1.0
    assert not found.raw_input.beaten
    said = "\n".join(advice_text(found))
    assert "Raw input, without a network: accuracy 100.0" in said
    assert "is not shown to beat it" in said


def test_near_ties_climb_to_all_of_the_data_and_pay_for_each_example_once(tmp_path: Path) -> None:
    from zoobench.workers.runner import Bench
    from zoobench.workers.settings import Settings

    found = advise(request(tmp_path / "run", (GABOR, f"{GABOR}?mean=0.45")))
    assert found.ended == "all of the data was used"
    probes = [d for d in found.done if d.stage == "probe"]
    assert len({d.rung for d in probes}) > 1
    paid = {d.model: 0 for d in probes}
    for one in found.done:
        if one.stage != "control":
            paid[one.model] += one.new
    assert set(paid.values()) == {found.sizes.total}
    assert found.pick is not None
    assert found.pick.examples == found.sizes.total == 810
    assert all(one.tied for one in found.standings)
    run = store.load(tmp_path / "run")
    on_test = {r.key: r.value("accuracy") for r in run.records}
    for one in probes:
        assert one.value == pytest.approx(on_test[one.key], abs=0.12), "another fit, other examples"
    assert {r.cell.method for r in run.records} == {"knn", "linear-probe", "raw-input"}
    whole = [r for r in run.records if "max_train" not in r.cell.dataset.text]
    assert len(whole) == 3
    for record in whole:  # the same splits and accuracy, but for the features' rounding
        again = Bench(Settings(threads=1, measure_costs=False)).run(record.cell).record
        assert again.provenance["splits"] == record.provenance["splits"]
        assert again.value("accuracy") == pytest.approx(record.value("accuracy"), abs=0.01)
    first = [r for r in run.records if "max_train=200" in r.cell.dataset.text]
    assert {r.provenance["sizes"]["train"] for r in first} == {200}


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "run"
    whole = advise(request(out))
    lines = (out / FILE).read_text().splitlines()
    records = (out / "records.jsonl").read_text().splitlines()
    cut = next(i for i, line in enumerate(lines) if json.loads(line)["did"] == "begun" and i > 8)
    (out / FILE).write_text("\n".join(lines[: cut + 1]) + '\n{"did": "ended", "st')
    again = advise(request(out))
    assert [d.key for d in again.done] == [d.key for d in whole.done]
    assert len((out / "records.jsonl").read_text().splitlines()) >= len(records)
    assert again.pick is not None
    assert whole.pick is not None
    assert again.pick.candidate == whole.pick.candidate
    quiet = time.monotonic()
    third = advise(request(out))
    assert third.done == again.done
    assert time.monotonic() - quiet < 5, "nothing was left to do"


def test_a_model_that_hangs_cannot_break_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step is waited for past the budget and its grace; this one for a second only."""
    allowed = []
    ask = RequestWorker.ask

    def hurried(worker: RequestWorker, what: Any, seconds: float) -> Any:
        allowed.append(seconds)
        return ask(worker, what, 1.0 if isinstance(what, Look) else seconds)

    monkeypatch.setattr(RequestWorker, "ask", hurried)
    found = advise(request(tmp_path / "run", (f"{GABOR}?fault=hang",), budget=40.0))
    assert max(allowed) <= (1 + GRACE) * 40
    assert allowed[-1] < allowed[0], "what was spent is taken off"
    assert found.pick is None
    assert any("timeout" in why for why in found.ruled_out.values())


def test_a_step_that_began_twice_and_never_ended_is_a_crash(tmp_path: Path) -> None:
    journal = read(tmp_path)
    journal.opened((80, 20, 20), 4, 1.0)
    for spent in (2.0, 3.0):
        journal.begun(Action("synthetic/gabor@1", "pace", 0, 1.0), spent)
    again = read(tmp_path)
    assert (again.spent, again.sizes, again.classes) == (3.0, (80, 20, 20), 4)
    assert [d.status for d in again.done] == ["crash"]
    old = '{"did": "opened", "sizes": [80, 20, 20], "classes": 4, "spent": 1.0}\n'
    (tmp_path / FILE).write_text(old)
    with pytest.raises(StoreError, match="steps had other sizes"):
        read(tmp_path)
    (tmp_path / FILE).write_text('{"did": "ended"}\n')
    with pytest.raises(StoreError, match="not a line of a journal"):
        read(tmp_path)


def test_limits_hold_and_are_said(tmp_path: Path) -> None:
    asked = dataclasses.replace(request(tmp_path / "run"), limits=Limits(max_params=10.0))
    found = advise(asked)
    assert found.pick is None
    assert all("params" in why for why in found.ruled_out.values())
    licensed = dataclasses.replace(asked, limits=Limits(license="MIT"))
    assert all("licence" in why for why in advise(licensed).ruled_out.values())


def test_the_command_advises_on_a_folder(pictures: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    common = ["recommend", "--data", str(pictures), "--out", out, "--device", "cpu"]
    named = [part for model in MODELS for part in ("--models", model)]
    done = CliRunner().invoke(main, [*common, *named, "--budget", "10m", "--no-fine-tune"])
    assert done.exit_code == 0, done.output
    assert "Most accurate: gabor with linear-probe" in done.stdout
    assert "not available offline" in done.stdout
    assert "Spent" in done.stdout
    done = CliRunner().invoke(
        main, [*common, *named, "--budget", "10m", "--no-fine-tune", "--json"]
    )
    body = json.loads(done.stdout)
    assert body["pick"]["candidate"]["model"] == "synthetic/gabor@1"
    assert body["spent"] + body["left"] == pytest.approx(600)
    assert sum(one["first"] for one in body["standings"]) == pytest.approx(1)
    assert len(body["wanted"]) == 5


def test_it_fine_tunes_where_the_budget_allows(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A budget that suffices on any machine would buy the longest recipe: leave a short one.
    monkeypatch.setattr(policy, "RECIPES", (Recipe(4, 16, (3e-4,)),))
    ref = datasets.resolve(f"folder/stripes?path={pictures}")
    asked = AdviceRequest(ref, 3600.0, tmp_path / "run", Limits(), MODELS, "cpu")
    found = advise(asked)
    tuned = [d for d in found.done if d.stage == "fine-tune"]
    assert len(tuned) == 2
    assert {d.status for d in tuned} == {"ok"}
    assert {d.recipe for d in tuned} == set(policy.RECIPES)


def test_a_table_of_texts_with_packaged_vectors(tmp_path: Path) -> None:
    words = {"food": "soup bread cheese apple rice", "sport": "goal match team player race"}
    rng = np.random.default_rng(0)
    file = tmp_path / "topics.csv"
    with file.open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["text", "label"])
        for i in range(80):
            label = list(words)[i % 2]
            picked = rng.choice(words[label].split(), 2).tolist()
            rows.writerow([" ".join([*picked, "the", f"number{i}"]), label])
    done = CliRunner().invoke(
        main,
        ["recommend", "--data", str(file), "--out", str(tmp_path / "run"), "--budget", "10m",
         "--no-fine-tune", "--device", "cpu", "--models", "packaged/glove-6b-50d",
         "--save", str(tmp_path / "best")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    best = open_saved(tmp_path / "best")
    said = [one["class"] for one in best.answers(["soup and bread", "a match of two"])]
    assert said == ["food", "sport"]
    assert "the only model that was measured" in done.stdout
    assert "accuracy 100" in done.stdout or "accuracy 9" in done.stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--data", "nowhere"], "there is no folder or file nowhere"),
        (["--data", DATA, "--task", "clasification"], "Did you mean 'classification'"),
        (["--data", DATA, "--task", "regression"], "tries models on classes alone"),
        (["--data", DATA, "--task", "segmentation"], "write a suite with this data"),
        (["--data", "packaged/photo-patches"], "asks detection, and models are tried on classes"),
        (["--data", "packaged/word-valence"], "asks regression, and models are tried on classes"),
        (["--data", DATA, "--budget", "soon"], "--budget: expected a time"),
        (["--data", DATA, "--objective", "nll"], "with --data it is accuracy"),
        (["--data", DATA, "--max-download", "much"], "expected a size"),
        (["--data", DATA, "--pool", "huge"], "'quick', 'wide', 'offline', 'all'"),
        (["--data", DATA, "--models", "synthetic/bag"], "reads text, the data is image"),
        (["--data", DATA, "--save", "/dev/null"], "is there and no folder"),
        ([], "give either a RUN or --data"),
    ],
)
def test_mistakes_are_said(args: list[str], says: str) -> None:
    done = CliRunner().invoke(main, ["recommend", *args])
    assert done.exit_code == 2
    assert says in done.stderr


def test_no_model_for_the_data_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not available offline"):
        advise(request(tmp_path / "run", ("hf/microsoft/resnet-50",)))


def test_a_download_that_failed_is_tried_again_and_its_bytes_count(tmp_path: Path) -> None:
    journal = read(tmp_path)
    facts = {"download_bytes": 5e6, "download_seconds": 1.0}
    journal.opened((80, 20, 20), 4, 1.0)
    journal.fetched(Done("timm/u/a", "download", 0, 0.5, facts=facts), 2.0)
    failed = Done("timm/u/b", "download", 0, 0.0, "missing-weights", "no room", facts=facts)
    journal.fetched(failed, 3.0)
    again = read(tmp_path)
    assert [d.model for d in journal.done] == ["timm/u/a", "timm/u/b"]
    assert [d.model for d in again.done] == ["timm/u/a"]
    assert (again.spent, again.downloaded) == (3.0, 1e7)


def test_the_state_of_a_pool_is_taken_up_with_other_models_on_the_disk(tmp_path: Path) -> None:
    """What a first session fetched is here for the second, or a network is gone."""
    asked = request(tmp_path / "run", ())
    models = [Candidate(f"{name}@1", "MIT", "f") for name in (GABOR, "synthetic/bag")]
    first, second = _suite(asked, tuple(models)), _suite(asked, tuple(models[:1]))
    assert first.identity == second.identity
    assert to_toml(first) != to_toml(second)
    named = dataclasses.replace(asked, models=MODELS)
    assert _suite(named, tuple(models)).identity != _suite(named, tuple(models[:1])).identity


def test_a_silent_hub_is_said_once_and_what_is_here_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    network.begin()
    told: list[str] = []
    asked = dataclasses.replace(request(tmp_path / "run"), pool="quick")
    assert _room(asked, read(tmp_path), told.append) is None
    assert [line for line in told if "127.0.0.1:9 cannot be reached" in line] == told != []
    asked = dataclasses.replace(asked, pool="offline")
    assert _room(asked, read(tmp_path), told.append) is None
    assert len(told) == 1
