"""Golden tables: what comparing two runs comes to, for every outcome and every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from compare_runs import (
    LITE0,
    MNIST,
    OTHER_FEATURES,
    OTHER_PIXELS,
    ROUNDED_FEATURES,
    Folder,
    answers,
    record,
)
from zoobench.cli.main import main
from zoobench.compare.compare import compare_paths
from zoobench.compare.gates import Gates, gates_from
from zoobench.compare.verdicts import Comparison, Finding
from zoobench.errors import StoreError, UserError
from zoobench.report.gate import gate_json
from zoobench.schema import Outcomes, Ref

LITE1 = "packaged/efficientnet-lite1@0.1.0"
DIGITS = "packaged/digits@1"


def table(found: Comparison) -> str:
    """One line a finding that is not a plain "same", in order."""
    rows = []
    for f in found.findings:
        if f.outcome == "same" and not f.accept:
            continue
        change = "" if f.change is None else f"{100 * f.change:+.1f}"
        mark = "!" if f.accept else ""
        rows.append(f"{f.outcome}{mark:1} | {f.name} | {f.metric} {change}".strip())
    return "\n".join(rows)


def pair(tmp_path: Path, old: list, new: list, gates: Gates | None = None) -> Comparison:  # type: ignore[type-arg]
    """Compare two runs made of `record(...)` results."""
    for name, found in (("old", old), ("new", new)):
        folder = Folder(tmp_path / name)
        for one in found:
            folder.add(one)
        folder.write()
    return compare_paths(tmp_path / "old", tmp_path / "new", gates)


def wrong(n: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + n)


def inconclusive(found: Comparison) -> list[Finding]:
    return [one for one in found.findings if one.outcome == "inconclusive"]


def test_golden_quality(tmp_path: Path) -> None:
    """1,000 examples a cell; the first 100 wrong before. Each method shows one outcome."""
    n = 1000
    after = {
        "knn": wrong(100),  # identical
        "ridge": np.r_[wrong(99), 999],  # one lost, one gained
        "linear-probe": wrong(150),  # 50 lost
        "centroid": wrong(60),  # 40 gained
        "zero-shot": np.r_[wrong(80), wrong(25, 500)],  # 25 lost, 20 gained
    }
    old = [record(answers(n, wrong(100)), method=m) for m in after]
    new = [record(answers(n, w), method=m) for m, w in after.items()]
    found = pair(tmp_path, old, new)
    head = "packaged/efficientnet-lite0 · packaged/mnist-5k"
    assert table(found) == (
        f"regressed  | {head} · linear-probe | accuracy -5.0\n"
        f"inconclusive  | {head} · zero-shot | accuracy -0.5\n"
        f"improved  | {head} · centroid | accuracy +4.0"
    )
    why = {f.cell.method: f.why for f in found.findings if f.kind == "quality"}
    assert why == {
        "knn": "the same answers on all 1000 examples",
        "ridge": "0.00 points, 95% interval -0.47 to +0.47 (1 lost, 1 gained of 1000): within the "
        "margin of 1",
        "linear-probe": "-5.00 points, 95% interval -6.53 to -3.81 (50 lost, 0 gained of 1000); "
        "p 9e-16, 4e-15 after Holm",
        "centroid": "+4.00 points, 95% interval +2.95 to +5.40 (0 lost, 40 gained of 1000); "
        "p 5e-12 after Holm",
        "zero-shot": "-0.50 points, 95% interval -1.88 to +0.85 (25 lost, 20 gained of 1000): "
        "neither a sure loss (p 0.827 after Holm) nor within 1; drops under 2.2 points can't be "
        "seen here",
    }
    assert found.family == 5
    assert found.exit_code == 1


def test_golden_missing_failed_and_new(tmp_path: Path) -> None:
    good = answers(1000)
    old = [record(good, method=m) for m in ("knn", "ridge", "linear-probe", "fine-tune")]
    new = [
        record(good, method="knn"),
        record(good, method="ridge", params={"k": 20}),
        record(good, method="linear-probe", status="crash", error="Segmentation fault\nat 0x0"),
        record(good, method="from-scratch"),
        record(good, method="lora", status="oom"),
    ]
    found = pair(tmp_path, old, new)
    head = "packaged/efficientnet-lite0 · packaged/mnist-5k"
    assert [(f.outcome, f.name, f.why) for f in found.findings if f.outcome != "same"] == [
        ("missing", f"{head} · fine-tune", "absent from the candidate"),
        (
            "missing",
            f"{head} · linear-probe",
            "failed in the candidate: crash: Segmentation fault",
        ),
        (
            "missing",
            f"{head} · ridge",
            "absent from the candidate; a new cell differs from it in k 10 -> 20",
        ),
    ]
    assert [(c.cell.method, c.status) for c in found.new] == [
        ("ridge", "ok"),
        ("from-scratch", "ok"),
        ("lora", "oom"),
    ]
    assert found.exit_code == 3


def test_golden_incomparable(tmp_path: Path) -> None:
    good = answers(1000)
    methods = ("knn", "ridge", "linear-probe", "fine-tune")
    old = [record(good, method=m) for m in methods]
    new = [
        record(good, method="knn", versions={"protocol": 2}),
        record(good, method="ridge", splits={"test": "s2"}),
        record(good, method="linear-probe", environment={"precision": "bf16"}),
        record(good, method="fine-tune", model_facts={"input_size": [3, 240, 240]}),
    ]
    found = pair(tmp_path, old, new)
    assert [(f.outcome, f.cell.method, f.why) for f in found.findings] == [
        ("incomparable", "fine-tune", "input size [3,224,224] -> [3,240,240]"),
        ("incomparable", "knn", "protocol 1 -> 2"),
        ("incomparable", "linear-probe", "precision fp32 -> bf16"),
        ("incomparable", "ridge", "test split s1 of packaged/mnist-5k -> s2"),
    ]
    assert found.exit_code == 4
    allowed = pair(tmp_path / "any", old, new, Gates(precision="any"))
    by_probe = {f.outcome for f in allowed.findings if f.cell.method == "linear-probe"}
    assert "same" in by_probe
    assert "incomparable" not in {f.outcome for f in allowed.findings if f.metric == "accuracy"}


def test_precision_is_what_was_taken(tmp_path: Path) -> None:
    """Whatever was asked for: "auto" that took bf16 is bf16, and not fp32's equal."""
    good = answers(1000)
    old = [record(good, versions={"precision": "auto"})]
    same = [record(good, versions={"precision": "fp32"})]
    (found,) = [f for f in pair(tmp_path, old, same).findings if f.kind == "quality"]
    assert found.outcome == "same"
    bf16 = [record(good, versions={"precision": "auto"}, environment={"precision": "bf16"})]
    (apart,) = pair(tmp_path / "2", old, bf16).findings
    assert (apart.outcome, apart.why) == ("incomparable", "precision fp32 -> bf16")


def test_golden_exact(tmp_path: Path) -> None:
    """A larger model and a smaller one: both have to be accepted, once a model, not once a cell."""
    good = answers(1000)
    cells = [(m, d) for m in (LITE0, LITE1) for d in (MNIST, DIGITS)]
    more = {LITE0: {"params": 5e6}, LITE1: {"macs": 3e8, "feature_dim": 1024.0}}
    old = [record(good, model=m, dataset=d) for m, d in cells]
    new = [record(good, model=m, dataset=d, costs=more[m]) for m, d in cells]
    found = pair(tmp_path, old, new)
    assert table(found) == (
        "regressed! | packaged/efficientnet-lite0 | params\n"
        "improved! | packaged/efficientnet-lite1 | feature_dim\n"
        "improved! | packaged/efficientnet-lite1 | macs"
    )
    assert found.findings[0].why == (
        "4,652,008 -> 5,000,000 (+7.48%): a change either way must be accepted"
    )
    assert found.findings[0].cells == 2
    assert found.exit_code == 1


MOVED = {"pixels": OTHER_PIXELS, "features": OTHER_FEATURES}

# A planted fault: what changes in the candidate's record, then the stage
# ("" where no drift is told) and the exit code.
PLANTED: dict[str, tuple[dict[str, Any], str, int]] = {
    "a wrong normalisation constant": (
        {
            "model_facts": {
                "preprocessing": "other",
                "pixels": OTHER_PIXELS,
                "features": OTHER_FEATURES,
            }
        },
        "preprocessing",
        1,
    ),
    "a changed resize filter": (
        {
            "model_facts": {"pixels": OTHER_PIXELS, "features": OTHER_FEATURES},
            "environment": {"timm": "1.0.32"},
        },
        "pixels",
        1,
    ),
    "another kernel in the forward pass": (
        {"model_facts": {"features": OTHER_FEATURES}, "environment": {"torch": "2.16"}},
        "features",
        1,
    ),
    "features on another machine": (
        {"model_facts": {"features": OTHER_FEATURES}, "environment": {"device_name": "Xeon"}},
        "features",
        1,
    ),
    "features on another kind of device": (
        {"model_facts": {"features": OTHER_FEATURES}, "environment": {"device": "cuda"}},
        "features",
        0,
    ),
    "another processor's rounding": (
        {"model_facts": {"features": ROUNDED_FEATURES}, "environment": {"device_name": "Xeon"}},
        "",
        0,
    ),
    "another probe batch": (
        {"model_facts": {"probe_batch": 2, **MOVED}},
        "",
        0,
    ),
    "a new release of the weights": (
        {"model_facts": {"weights": "new", "features": OTHER_FEATURES}},
        "weights",
        0,
    ),
    "an unrelated library upgrade": ({"environment": {"timm": "1.0.32"}}, "none", 0),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_change_is_attributed_to_its_stage(tmp_path: Path, name: str) -> None:
    changes, stage, code = PLANTED[name]
    good = answers(1000)
    found = pair(tmp_path, [record(good)], [record(good, **changes)])
    assert [d.stage for d in found.drifts] == [stage] * bool(stage)
    assert found.exit_code == code
    assert {f.stage for f in found.failing} <= {stage}


def test_rounding_of_probabilities_alone_is_the_same_answer(tmp_path: Path) -> None:
    """What other kernels do to a probe; a probability that moved further counts as changed."""

    def moved(folder: Path, by: float) -> Comparison:
        one, held = record(answers(50, wrong(5)))
        assert held is not None
        shifted = Outcomes(held.n, {**held.arrays, "nll": held.arrays["nll"] + np.float32(by)})
        return pair(folder, [(one, held)], [(one, shifted)])

    near, far = moved(tmp_path / "near", 5e-4), moved(tmp_path / "far", 0.05)
    assert "the same answers on all 50 examples" in {f.why for f in near.findings}
    assert not inconclusive(near)
    assert not near.drifts
    assert [f.metric for f in inconclusive(far)] == ["accuracy"]
    assert [d.stage for d in far.drifts] == ["probe"]


def test_a_drift_names_the_libraries(tmp_path: Path) -> None:
    good = answers(1000)
    new = record(good, model_facts={"pixels": OTHER_PIXELS}, environment={"timm": "1.0.32"})
    found = pair(tmp_path, [record(good)], [new])
    assert found.drifts[0].libraries == {"timm": ("1.0.31", "1.0.32")}
    assert found.failing[0].why == (
        "the preprocessing's output differs on the fixed probe batch, by the same settings, by "
        "about 0.027 of their size (timm 1.0.31 -> 1.0.32): it must be accepted"
    )


def test_libraries_of_the_model_alone_are_named(tmp_path: Path) -> None:
    good = answers(1000)
    old, new = (record(good, model_facts={"libraries": {"pillow": v}}) for v in ("11", "12"))
    found = pair(tmp_path, [old], [new])
    assert [(d.stage, d.libraries) for d in found.drifts] == [("none", {"pillow": ("11", "12")})]
    assert found.exit_code == 0


def test_a_probe_that_answers_otherwise_is_the_last_stage(tmp_path: Path) -> None:
    found = pair(
        tmp_path,
        [record(answers(1000, wrong(100)))],
        [record(answers(1000, wrong(160)), environment={"torch": "2.16"})],
    )
    assert [d.stage for d in found.drifts] == ["probe"]
    assert found.drifts[0].why == (
        "pixels and features are the same on the probe batch: the probe's answers differ; "
        "libraries: torch 2.15 -> 2.16"
    )
    assert found.exit_code == 1


def test_a_diffuse_loss_shows_in_the_pooled_test_alone(tmp_path: Path) -> None:
    datasets = [f"packaged/d{i}@1" for i in range(12)]
    old = [record(answers(1000, wrong(100)), dataset=d) for d in datasets]
    new = [
        record(answers(1000, np.r_[wrong(92), wrong(18, 500)]), dataset=d) for d in datasets
    ]  # 18 lost, 8 gained: 1 point a dataset
    found = pair(tmp_path, old, new)
    assert [(f.kind, f.outcome) for f in found.failing] == [("pooled", "regressed")]
    assert found.failing[0].name == "packaged/efficientnet-lite0 · all datasets"
    assert found.exit_code == 1


def test_a_new_release_of_a_model_is_matched(tmp_path: Path) -> None:
    old = record(answers(1000, wrong(100)), model=LITE0)
    new = record(answers(1000, wrong(170)), model="packaged/efficientnet-lite0@0.2.0")
    found = pair(tmp_path, [old], [new])
    assert [f.outcome for f in found.findings if f.kind == "quality"] == ["regressed"]


def test_ambiguous_revisions_are_the_users_to_settle(tmp_path: Path) -> None:
    good = answers(10)
    old = [record(good, model=f"timm/x@{v}") for v in ("1", "2")]
    same = pair(tmp_path / "a", old, old)
    assert [f.outcome for f in same.findings if f.kind == "quality"] == ["same", "same"]
    with pytest.raises(UserError, match="2 revisions of the baseline and 1 of the candidate"):
        pair(tmp_path / "b", old, [record(good, model="timm/x@3")])


def test_of_two_versions_of_one_cell_the_latest_counts(tmp_path: Path) -> None:
    old = [record(answers(1000))]
    stale = record(answers(1000, wrong(500)), versions={"method": 0}, started="2025-01-01")
    found = pair(tmp_path, old, [record(answers(1000)), stale])
    assert found.exit_code == 0
    assert "1 records of the candidate" in found.notes[0]


def seeded(losses: list[int]) -> tuple[list, list]:  # type: ignore[type-arg]
    """One cell with a seed an entry, which loses so many of 1,000 examples."""
    old = [record(answers(1000, wrong(100)), seed=s) for s in range(len(losses))]
    new = [
        record(answers(1000, np.r_[wrong(100), wrong(lost, 300 + 40 * s)]), seed=s)
        for s, lost in enumerate(losses)
    ]
    return old, new


def test_seeds_that_agree_regress_and_a_lucky_one_does_not(tmp_path: Path) -> None:
    agree = pair(tmp_path / "a", *seeded([38, 40, 39, 40, 37]))
    alone = pair(tmp_path / "b", *seeded([40, 0, 0, 0, 0]))
    for found, outcome in ((agree, "regressed"), (alone, "inconclusive")):
        (quality,) = [f for f in found.findings if f.kind == "quality"]
        assert (quality.outcome, quality.seeds) == (outcome, 5)


def test_one_training_run_a_side_is_never_a_sure_loss(tmp_path: Path) -> None:
    """Other kernels moved 61 of 200 answers of a fine-tuned net: luck, until seeds agree."""
    n, seeds = 1000, range(3)
    old = [record(answers(n, wrong(100)), method="fine-tune", seed=s) for s in seeds]
    new = [record(answers(n, wrong(200)), method="fine-tune", seed=s) for s in seeds]
    same = record(answers(n, wrong(100)))
    lone = pair(tmp_path / "one", [old[0], same], [new[0], same])
    assert [f.cell.method for f in inconclusive(lone)] == ["fine-tune"]
    assert "one training run a side" in inconclusive(lone)[0].why
    assert not lone.failing
    agreed = pair(tmp_path / "three", old, new)
    assert [f.cell.method for f in agreed.failing] == ["fine-tune"]


def test_other_metrics_are_gated_when_asked(tmp_path: Path) -> None:
    gates = gates_from({"metrics": ["nll", "macro_f1", "ece"]}, "gates.toml")
    old, new = record(answers(1000, wrong(100))), record(answers(1000, wrong(180)))
    found = pair(tmp_path, [old], [new], gates)
    assert [(f.metric, f.outcome) for f in found.findings if f.kind == "quality"] == [
        ("nll", "regressed")
    ]
    assert found.findings[0].change == pytest.approx(-0.152, abs=1e-3)
    assert found.notes == ("no cell of the baseline has ece, macro_f1",)


def test_margins_by_dataset_and_metric(tmp_path: Path) -> None:
    gates = gates_from(
        {
            "margin": 0.5,
            "metric": {"nll": {"margin": 2}},
            "dataset": {"packaged/d*": {"margin": 3}},
        },
        "gates.toml",
    )
    assert gates.margin_of(Ref.parse(MNIST), "accuracy", 0.9) == pytest.approx(0.005)
    assert gates.margin_of(Ref.parse(MNIST), "nll", 0.9) == pytest.approx(0.02)
    assert gates.margin_of(Ref.parse(DIGITS), "nll", 0.9) == pytest.approx(0.03)
    assert gates.min_drop_of(Ref.parse(DIGITS), "nll", 0.9) == pytest.approx(0.002)
    inconclusive = record(answers(1000, wrong(103)))
    old = record(answers(1000, wrong(100)))
    outcomes = [
        next(f.outcome for f in pair(tmp_path / str(i), [old], [inconclusive], g).findings)
        for i, g in enumerate((gates, Gates()))
    ]
    assert outcomes == ["inconclusive", "same"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("margn = 1", "unknown key 'margn'. Did you mean 'margin'?"),
        ("margin = 0", "margin: Input should be greater than 0 (got 0)"),
        ('metrics = ["acuracy"]', "unknown quality metric 'acuracy'. Did you mean 'accuracy'?"),
        ("[metric.nll]\nmargim = 2", "metric: nll: unknown key 'margim'. Did you mean 'margin'?"),
        ("margin = ", "not valid TOML"),
    ],
)
def test_mistakes_in_the_gates_file(tmp_path: Path, text: str, said: str) -> None:
    from zoobench.compare.gates import read_gates

    file = tmp_path / "gates.toml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        read_gates(file)
    assert str(file) in str(error.value)
    assert said in str(error.value)


def test_slow_times_only_warn(tmp_path: Path) -> None:
    good = answers(100)
    slow = record(good, latency=[20.0, 20.1, 19.9], memory=300 * 2**20)
    found = pair(tmp_path, [record(good)], [slow])
    assert [(w.metric, w.why) for w in found.warnings] == [
        (
            "latency_ms_p50",
            "10 -> 20 ms, 2.00 times slower (robust z 45); measure both sides at one time to be "
            "sure",
        ),
        ("peak_memory_bytes", "200 -> 300 MiB"),
    ]
    assert found.exit_code == 0


def test_times_of_another_machine_are_incomparable_and_said_once(tmp_path: Path) -> None:
    good = answers(1000)
    models = (LITE0, LITE1)
    old = [record(good, model=m) for m in models]
    new = [
        record(good, model=m, latency=[30.0, 30.1], environment={"device_name": "Xeon"})
        for m in models
    ]
    found = pair(tmp_path, old, new)
    (apart,) = [f for f in found.findings if f.kind == "times"]
    assert apart.outcome == "incomparable"
    assert apart.why == "times and memory of 2 models: device_name EPYC -> Xeon"
    assert not found.warnings
    assert found.exit_code == 0


def test_what_a_test_set_cannot_see_is_said(tmp_path: Path) -> None:
    found = pair(tmp_path, [record(answers(50, wrong(5)))], [record(answers(50, wrong(6)))])
    (seen,) = found.resolutions
    assert (seen.dataset, seen.n, seen.blind) == ("packaged/mnist-5k", 50, True)
    assert seen.detectable >= 0.1


def test_strict_turns_inconclusive_into_5(tmp_path: Path) -> None:
    old, new = [record(answers(50, wrong(5)))], [record(answers(50, wrong(6)))]
    assert pair(tmp_path / "a", old, new).exit_code == 0
    assert pair(tmp_path / "b", old, new, Gates(strict=True)).exit_code == 5


def test_exit_codes_have_an_order(tmp_path: Path) -> None:
    """3 before 1 before 4 before 5: each run has the next one's fault as well."""
    strict = Gates(strict=True)
    n = 1000
    inconclusive = (record(answers(n, wrong(40))), record(answers(n, wrong(42, 30))))
    regressed = (
        record(answers(n, wrong(100)), method="ridge"),
        record(answers(n, wrong(200)), method="ridge"),
    )
    gone = record(answers(n), method="fine-tune")
    old = [inconclusive[0], regressed[0], gone]
    assert pair(tmp_path / "3", old, [inconclusive[1], regressed[1]], strict).exit_code == 3
    assert pair(tmp_path / "1", old, [inconclusive[1], regressed[1], gone], strict).exit_code == 1
    assert pair(tmp_path / "5", [inconclusive[0]], [inconclusive[1]], strict).exit_code == 5
    new_only = pair(tmp_path / "4", [], [inconclusive[1]], strict)
    assert new_only.exit_code == 4
    assert new_only.notes == ("the baseline holds no records",)


# Broken input: a clear error (exit code 2), or the documented outcome.


def test_a_truncated_last_line_is_a_missing_cell(tmp_path: Path) -> None:
    whole = [record(answers(100), method=m) for m in ("knn", "ridge")]
    old, new = Folder(tmp_path / "old"), Folder(tmp_path / "new")
    for one in whole:
        old.add(one)
        new.add(one)
    new.lines[-1] = new.lines[-1][:100]
    found = compare_paths(old.write(), new.write())
    assert [f.outcome for f in found.findings if f.kind == "cell"] == ["missing"]
    assert found.exit_code == 3


def test_no_records(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"no records\.jsonl here"):
        compare_paths(tmp_path / "empty", tmp_path / "empty")


def test_of_duplicate_keys_the_last_line_counts(tmp_path: Path) -> None:
    old = Folder(tmp_path / "old").add(record(answers(1000))).write()
    new = Folder(tmp_path / "new").add(record(answers(1000), status="oom"))
    new.add(record(answers(1000)))
    assert compare_paths(old, new.write()).exit_code == 0


def test_another_suite(tmp_path: Path) -> None:
    old = Folder(tmp_path / "old").add(record(answers(10))).write()
    new = Folder(tmp_path / "new", suite="demo").add(record(answers(10))).write()
    with pytest.raises(UserError, match=r"holds the suite 'smoke', but .* holds 'demo'"):
        compare_paths(old, new)


def test_a_comparison_that_fails_leaves_nothing(tmp_path: Path) -> None:
    old, new = (Folder(tmp_path / name, suite=name).add(record(answers(20))) for name in "ab")
    out = tmp_path / "out"
    asked = ["compare", str(old.write()), str(new.write()), "--out"]
    done = CliRunner().invoke(main, [*asked, str(out)])
    assert (done.exit_code, out.exists()) == (2, False)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    run = Folder(tmp_path / "run").add(record(answers(20))).write()
    (tmp_path / "out").write_text("in the way")
    asked = ["compare", str(run), str(run), "--out", str(tmp_path / "out" / "gate")]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


def test_missing_and_damaged_predictions(tmp_path: Path) -> None:
    old = Folder(tmp_path / "old").add(record(answers(100))).write()
    new = Folder(tmp_path / "new").add(record(answers(100, [1])), keep=False).write()
    (quality,) = [f for f in compare_paths(old, new).findings if f.kind == "quality"]
    assert quality.outcome == "inconclusive"
    assert quality.change == pytest.approx(-0.01)
    assert "not paired: no predictions of the candidate" in quality.why
    (damaged,) = (old / "predictions").iterdir()
    damaged.write_bytes(b"PK nothing")
    with pytest.raises(StoreError, match="damaged predictions"):
        compare_paths(old, new)


def test_other_test_labels_are_incomparable(tmp_path: Path) -> None:
    found = pair(tmp_path, [record(answers(100))], [record(answers(99))])
    assert [f.why for f in found.findings if f.kind == "quality"] == ["the test labels differ"]


def test_verdicts_say_no_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my old", "new"):
        Folder(tmp_path / "runs" / name).add(record(answers(50))).write()
    found = compare_paths(tmp_path / "runs" / "my old", Path("runs") / "new")
    assert (found.baseline, found.candidate) == ("…/my old", "runs/new")
    assert str(tmp_path) not in gate_json(found)


def test_a_lone_file_finds_its_predictions(tmp_path: Path) -> None:
    old = Folder(tmp_path / "old").add(record(answers(500, wrong(50)))).write()
    new = Folder(tmp_path / "new").add(record(answers(500, wrong(90)))).write()
    assert compare_paths(old / "records.jsonl", new / "records.jsonl").exit_code == 1
