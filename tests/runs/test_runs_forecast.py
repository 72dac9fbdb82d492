"""What a cell will take: monotone in what makes it longer, the same on every machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from cells import GABOR, cell
from zoobench import datasets, methods
from zoobench.costs.known import network
from zoobench.runs import forecast
from zoobench.schema import Cell, Modality, Record, Ref

LITE = "packaged/efficientnet-lite0@0.1.0"
DIGITS = "packaged/digits@1"


def test_features_are_paid_for_once() -> None:
    first, second = forecast.seconds([cell(LITE, DIGITS), cell(LITE, DIGITS, "linear-probe")])
    assert first > 3 * second


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        (f"{LITE}?input_size=64", LITE),
        ("packaged/minilm-l6-v2@0.1.0?length=16", "packaged/minilm-l6-v2@0.1.0"),
        ("torchvision/resnet18@1", "torchvision/resnet101@1"),
        ("timm/beit_base_patch16_224.x", "timm/beit_large_patch16_224.x"),
    ],
)
def test_a_larger_network_takes_more(shorter: str, longer: str) -> None:
    assert 0 < forecast.macs(Ref.parse(shorter)) < forecast.macs(Ref.parse(longer))


def test_what_is_in_no_table_is_a_middling_network_of_its_modality() -> None:
    assert set(forecast.UNKNOWN_MACS) == set(get_args(Modality))
    assert forecast.macs(Ref("hf", "someone/hears", "main", (("modality", "audio"),))) == 70e9


def test_a_network_of_sound_takes_by_the_seconds_it_reads_but_on_a_whole_window() -> None:
    usual, short, long = (
        forecast.macs(Ref.parse(f"hf/facebook/wav2vec2-base@main{options}"))
        for options in ("", "?seconds=2.5", "?seconds=20")
    )
    assert usual == forecast.UNKNOWN_MACS["audio"]
    assert (4 * short, long / 2) == (usual, usual)
    windows = ("", "?seconds=2.5")
    for name in ("hf/openai/whisper-base@main", "packaged/whisper-tiny-en@0.1.0"):
        assert len({forecast.macs(Ref.parse(f"{name}{options}")) for options in windows}) == 1


def test_a_local_file_takes_by_its_size(tmp_path: Path) -> None:
    model = Ref("onnx", "mine", "0", (("path", str(tmp_path)),))
    assert forecast.macs(model) == forecast.UNKNOWN_MACS["image"], "nothing is there"
    forecast.macs.cache_clear()
    (tmp_path / "net.onnx").write_bytes(bytes(100))
    (tmp_path / "net.txt").write_bytes(bytes(10))
    assert forecast.macs(model) == 100 * forecast.MACS_A_BYTE["image"]
    assert set(forecast.MACS_A_BYTE) == set(get_args(Modality))


@pytest.mark.parametrize(("name", "parameters"), [("resnet50", 25.6e6), ("vit_b_16", 86.6e6)])
def test_a_file_of_weights_tells_about_what_is_counted(name: str, parameters: float) -> None:
    counted = network("torchvision", name)
    assert counted is not None
    guess = 4 * parameters * forecast.MACS_A_BYTE["image"]
    assert 0.5 < guess / counted.macs < 2


def test_the_tables_are_read_as_counted() -> None:
    assert forecast.macs(Ref.parse("torchvision/resnet50@1")) == 4089184256
    assert forecast.macs(Ref.parse("hf/nobody/net")) in forecast.UNKNOWN_MACS.values()


def test_weights_count_at_their_own_input_size() -> None:
    usual, large = "timm/caformer_b36.sail_in1k", "timm/caformer_b36.sail_in1k_384"
    counted = network("timm", "caformer_b36")
    assert counted is not None
    assert counted.shape[-1] == 224
    at = {name: forecast.macs(Ref.parse(name)) for name in (usual, large, f"{large}?input_size=64")}
    assert at[usual] == counted.macs
    assert at[large] == pytest.approx(counted.macs * (384 / 224) ** 2)
    assert at[f"{large}?input_size=64"] == pytest.approx(counted.macs * (64 / 224) ** 2)
    slow, quick = (forecast.seconds([cell(name, DIGITS)])[0] for name in (large, usual))
    assert slow > 2 * quick


@pytest.mark.parametrize("name", ["vit_base_patch16", "beit_large_patch16", "deit3_small_patch16"])
def test_tokens_foretell_a_transformer_at_another_size(name: str) -> None:
    small, large = network("timm", f"{name}_224"), network("timm", f"{name}_384")
    assert small is not None
    assert large is not None
    guess = forecast.macs(Ref.parse(f"timm/{name}_224.any?input_size=384"))
    assert guess == pytest.approx(large.macs, rel=0.15)


def test_training_costs_its_steps() -> None:
    short = cell(LITE, DIGITS, "fine-tune", steps=10, rates=(1e-3,))
    long = cell(LITE, DIGITS, "fine-tune", steps=1000, rates=(1e-3,))
    assert forecast.seconds([long])[0] > 5 * forecast.seconds([short])[0]


def test_a_detector_that_is_trained_costs_more_than_its_backbone() -> None:
    params = {"steps": 10, "batch_size": 4, "rates": (1e-3,), "size": 320}
    masks, boxes, large = (
        replace(cell(LITE, DIGITS, "fine-tune"), params={**params, **more})
        for more in ({}, {"head": "fcos"}, {"head": "fcos", "size": 640})
    )
    found = [forecast.seconds([one])[0] for one in (masks, boxes, large)]
    assert found[0] * 5 < found[1] < 0.3 * found[2]


def test_a_probe_that_is_trained_in_steps_costs_its_budget_whatever_the_data() -> None:
    usual = methods.params_of(methods.build("linear-probe", {}, task="speech-recognition"))
    probe = cell("packaged/whisper-tiny-en@0.1.0", "packaged/asterisk-prompts@1", "linear-probe")
    control = replace(probe, model=Ref("control", "raw-input"), method="raw-input")

    def steps(of: Cell, **params: object) -> float:
        """Seconds beside those without a step."""
        cells = (replace(of, params={**usual, **params, **last}) for last in ({}, {"steps": 0}))
        whole, rest = (forecast.seconds([one])[0] for one in cells)
        return whole - rest

    assert 20 < steps(probe) < 120, "about a minute, however few the recordings"
    assert steps(probe, steps=250) == pytest.approx(steps(probe) / 2)
    assert steps(probe, rates=(1e-3,)) == pytest.approx(steps(probe) / 3)
    assert steps(control) == pytest.approx(steps(probe) / 3), "one layer of three"
    boxes = replace(control, dataset=Ref.parse("packaged/tree-crowns@1"), params={"size": 320})
    assert 20 < forecast.seconds([boxes])[0] < 40


def test_a_whole_recogniser_of_a_package_is_no_middling_network() -> None:
    whole = Ref.parse("recogniser/whisper-tiny-en@0.1.0")
    assert forecast.macs(whole) == forecast.macs(Ref.parse("packaged/whisper-tiny-en@0.1.0"))
    assert forecast.macs(whole) < forecast.UNKNOWN_MACS["audio"]


def test_smaller_data_and_few_shots_take_less() -> None:
    whole = forecast.seconds([cell(LITE, DIGITS)])[0]
    assert forecast.seconds([cell(LITE, f"{DIGITS}?max_train=100")])[0] < whole
    assert forecast.seconds([cell(LITE, DIGITS, shots=2)])[0] < whole


def test_records_set_the_scale() -> None:
    cells = [cell(), cell(GABOR, method="ridge")]
    assert forecast.scale(cells, {}) is None
    guess = forecast.seconds(cells)[0]
    done = {cells[0].key: Record(cells[0], "ok", seconds=3 * guess)}
    assert forecast.scale(cells, done) == pytest.approx(3)  # the other takes no longer
    failed = {cells[0].key: replace(done[cells[0].key], status="oom")}
    assert forecast.scale(cells, failed) is None


@pytest.mark.parametrize(
    ("factor", "ended", "left", "low", "high"),
    [
        (100, [0.03], [40.0], 1, 1.1),  # what starts a run takes seconds, whatever a control does
        (100, [0.03], [0.03, 0.03], 100, 100),
        (100, [0.03], [], 100, 100),
        (3, [10.0, 10.0], [20.0], 2, 3),
        (3, [100.0, 100.0], [20.0], 3, 3),
        (0.2, [100.0] * 9, [200.0], 0.2, 0.3),
    ],
)
def test_a_quick_cell_says_little_of_long_ones(
    factor: float, ended: list[float], left: list[float], low: float, high: float
) -> None:
    found = forecast.rate(factor * sum(ended), ended, left)
    assert low <= found <= high or found == pytest.approx(low)


def test_a_control_that_ended_does_not_make_minutes_hours() -> None:
    cells = [replace(cell("control/chance"), method="chance"), cell(LITE, DIGITS)]
    quick, long = forecast.seconds(cells)
    done = {cells[0].key: Record(cells[0], "ok", seconds=100 * quick)}
    factor = forecast.scale(cells, done)
    assert factor is not None
    assert factor * long < 2 * long


def test_shares_are_whole_groups_of_about_equal_cost() -> None:
    groups = [[cell(f"{LITE}?input_size={side}", DIGITS)] for side in (64, 64, 96, 128, 160, 224)]
    parts = forecast.shares(groups, 2)
    assert sorted(c.key for part in parts for c in part) == sorted(g[0].key for g in groups)
    costs = sorted(sum(forecast.seconds(part)) for part in parts)
    assert costs[1] < 1.5 * costs[0]
    assert parts == forecast.shares(groups, 2)


def test_what_would_make_a_run_shorter_names_where_the_time_goes() -> None:
    cells = [cell(LITE, DIGITS), cell(LITE, "packaged/mnist-5k@1"), cell(GABOR, DIGITS)]
    said = forecast.shorter(cells, [10.0, 50.0, 40.0])
    assert "packaged/efficientnet-lite0 takes 60% of the time" in said
    assert "packaged/mnist-5k takes 50%" in said or "packaged/digits takes 50%" in said


def test_audits_are_foreseen() -> None:
    """Of the numbers of PROTOCOL section 8, for what they are asked of."""
    from zoobench.methods import example_parts, explain, membership
    from zoobench.solvers import explanation

    assert explain.EXPLAINED == forecast.EXPLAINED
    assert explanation.TILE == forecast.TILE
    assert explanation.PATH == forecast.PATH
    assert explanation.STEPS == forecast.STEPS
    assert example_parts.RUNS > forecast.TEXT_PARTS
    assert membership.SHADOWS == 64
    options: tuple[dict[str, Any], ...] = (
        {"explain": True}, {"explain": "integrated-gradients"}, {"membership": True},
    )  # fmt: skip
    for option in options:
        plain, asked = cell(method="linear-probe"), cell(method="linear-probe", **option)
        assert forecast.seconds([asked])[0] > forecast.seconds([plain])[0]
        few = replace(plain, shots=2), replace(asked, shots=2)
        assert forecast.seconds([few[0]]) == forecast.seconds([few[1]])
    tuned, audited = cell(method="fine-tune"), cell(method="fine-tune", membership=True)
    assert 1.5 < forecast.seconds([audited])[0] / forecast.seconds([tuned])[0] < 2


def test_a_table_takes_by_its_rows_and_the_length_of_its_texts(tmp_path: Path) -> None:
    """A folder or a table has no card: resolving it says how much there is to do."""
    times = {}
    for name, rows, words in (("few", 100, 4), ("many", 1000, 4), ("long", 100, 200)):
        lines = [f"text {i} of {'word ' * words},{'ab'[i % 2]}" for i in range(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]))
        path = str(tmp_path / f"{name}.csv")
        ref = Ref("table", name, "", (("label", "label"), ("path", path), ("text", "text")))
        found = datasets.resolve(ref)
        times[name] = forecast.seconds([cell("packaged/minilm-l6-v2@1", found.text)])[0]
    start = forecast.LOAD_SECONDS + forecast.MOST_TIMED
    assert start < times["few"] < start + 2, "no middling table of 5,000 rows"
    assert times["many"] - start > 5 * (times["few"] - start)
    assert times["long"] - start > 5 * (times["few"] - start)


def test_single_words_take_less_than_sentences() -> None:
    words, usual = (
        cell("packaged/minilm-l6-v2@1", name)
        for name in ("packaged/word-polarity@1", "packaged/docstring-qa@1")
    )
    assert forecast._length(words.model, words.dataset) < 0.05
    assert forecast._length(usual.model, usual.dataset) == 1
