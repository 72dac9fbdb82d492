from __future__ import annotations

import dataclasses
import io
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from rich.console import Console

from fakes import make_run
from zoobench.cli.main import main
from zoobench.errors import UserError
from zoobench.ranking.nouns import OverallRanking
from zoobench.ranking.rank import rank
from zoobench.ranking.recommend import Limits, license_fits, recommend, to_json
from zoobench.report import text
from zoobench.report.figures import heatmap
from zoobench.report.page import page
from zoobench.report.tables import (
    MEASUREMENTS,
    Columns,
    csv_bytes,
    frame,
    measurements_table,
    ranking_table,
)
from zoobench.report.terminal import overall_notes, print_ranking
from zoobench.report.text import worst_texts
from zoobench.report.write import write_report
from zoobench.schema import Record, Ref
from zoobench.store import Run

A, B, C = "timm/netA@1", "timm/netB@1", "timm/other@1"
D1, D2 = "packaged/digits@1", "packaged/mnist-5k@1?max_train=500"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    truth = {A: 0.90, B: 0.905, C: 0.45}
    fault = {("timm/broken@1", D1): ("oom", "needed 3 GB | had 2 GB")}
    models = [A, B, C, "timm/broken@1"]
    return make_run(tmp_path_factory.mktemp("run"), models, [D1, D2], truth, 1, failures=fault)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files alone: drawing takes a second."""
    monkeypatch.setattr("zoobench.report.write.write_figures", lambda *_: [])


def shown(run: Run, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    print_ranking(rank([run]), Console(file=stream, width=80, highlight=False))
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_the_terminal_fits_80_columns_and_holds_the_decision(run: Run) -> None:
    said = shown(run)
    assert max(map(len, said.splitlines())) <= 80
    assert "\x1b" not in said
    for part in (
        "1-2",
        "netA",
        "suspect",
        "raw-input",
        "oom: timm/broken",
        "cannot be told from the best (netB)",
    ):
        assert part in " ".join(said.split()), part


def test_the_terminal_keeps_to_ascii_where_it_must(run: Run) -> None:
    said = shown(run, "ascii")
    assert "netA" in said
    assert said.isascii()


@pytest.mark.usefixtures("no_figures")
def test_measurements_csv_is_long_and_keeps_failures(run: Run, tmp_path: Path) -> None:
    write_report([run], tmp_path)
    frame = pd.read_csv(tmp_path / "measurements.csv")
    assert tuple(frame.columns) == MEASUREMENTS
    assert len(frame) == sum(max(len(r.measurements), 1) for r in run.records)
    failed = frame[frame.status == "oom"]
    assert failed.model.tolist() == ["timm/broken@1"]
    assert failed.value.isna().all()
    accuracy = frame[(frame.model == A) & (frame.dataset == D1) & (frame.metric == "accuracy")]
    record = next(r for r in run.records if (r.cell.model.text, r.cell.dataset.text) == (A, D1))
    assert accuracy.value.item() == pytest.approx(record.value("accuracy"))


@pytest.mark.usefixtures("no_figures")
def test_a_noisy_time_is_marked_wherever_it_is_shown(run: Run, tmp_path: Path) -> None:
    def spread(record: Record) -> Record:
        noisy = [
            dataclasses.replace(m, detail={"noisy": True})
            if (record.cell.model.text, m.metric) == (B, "latency_ms_p50")
            else m
            for m in record.measurements
        ]
        return dataclasses.replace(record, measurements=tuple(noisy))

    marked = dataclasses.replace(run, records=tuple(map(spread, run.records)))
    (time,) = {f"{r.value('latency_ms_p50'):.3g}~" for r in run.records if r.cell.model.text == B}
    assert time not in shown(run)
    said = shown(marked)
    (calm,), (busy,) = rank([run]).overall, rank([marked]).overall
    assert (recommend(calm).cost, recommend(busy).cost) == ("latency_ms_p50", "macs")
    assert said.count(time) >= 2
    assert "~ marks a noisy time" in said
    write_report([marked], tmp_path)
    assert time in (tmp_path / "report.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert time in page
    assert '"noisy":["latency_ms_p50"]' in page
    table = pd.read_csv(tmp_path / "ranking.csv")
    assert set(table[table.noisy == "latency_ms_p50"].model) == {B}
    long = pd.read_csv(tmp_path / "measurements.csv")
    assert set(long[long.noisy == "yes"].metric) == {"latency_ms_p50"}


def test_ranking_csv_has_a_row_a_model_and_dataset_and_one_overall(run: Run) -> None:
    table = frame(ranking_table(rank([run])))
    ok = table[table.status == "ok"]
    per = ok[ok.scope == "dataset"]
    assert sorted(zip(per.model, per.dataset, strict=True)) == sorted(
        [(m, d) for m in (A, B, C) for d in (D1, D2)] + [("timm/broken@1", D2)]
    )
    assert sorted(ok[ok.scope == "overall"].model) == [A, B, C]
    assert table[table.status == "control"].rank_low.isna().all()
    assert len(frame(measurements_table([]))) == 0


def test_markdown_and_figures(run: Run, tmp_path: Path) -> None:
    paths = write_report([run], tmp_path / "one")
    again = write_report([run], tmp_path / "two")
    for path, other in zip(paths, again, strict=True):
        assert path.read_bytes() == other.read_bytes(), path.name
    said = (tmp_path / "one" / "report.md").read_text()
    assert "**2 of 3 models are tied" in said
    assert "| model | digits | mnist-5k |" in said
    assert "Not all of the data: mnist-5k (max_train = 500)." in said
    assert r"needed 3 GB \| had 2 GB" in said
    for linked in re.findall(r"\]\((figures/[^)]+)\)", said):
        assert (tmp_path / "one" / linked).stat().st_size > 1000
    svg = (tmp_path / "one" / "figures" / "heatmap-linear-probe.svg").read_text()
    assert "<dc:date>" not in svg


def test_datasets_of_one_short_name_are_not_taken_for_each_other(run: Run) -> None:
    (one,) = rank([run]).overall
    first, second = (Ref.parse(f"folder/given@{x}?path=/{x}") for x in "ab")
    row = dataclasses.replace(one.rows[0], worst=0.5, worst_dataset=second)
    some = dataclasses.replace(one, rows=(row,), datasets=(first, second))
    assert worst_texts(some) == [f"50.0 ({second})"]
    parted = Ref.parse("packaged/digits@1?classes=5&max_test=9&max_train=50")
    whole = dataclasses.replace(one, datasets=(Ref("packaged", "mnist-5k", "1"), parted))
    said = "Not all of the data: digits?classes=5 (max_train = 50, max_test = 9)."
    assert said in overall_notes(whole)


@pytest.mark.usefixtures("no_figures")
def test_what_of_a_dataset_is_not_used_is_said_wherever_its_ranking_is(
    run: Run, tmp_path: Path
) -> None:
    notes = {"unused": {".heic file": 12}, "empty_classes": ["fish"], "corrupt": 1}
    records = tuple(
        dataclasses.replace(r, provenance={**r.provenance, "notes": notes})
        if r.cell.dataset == Ref.parse(D1)
        else r
        for r in run.records
    )
    told = dataclasses.replace(run, records=records)
    said = "Of digits: not used: .heic file (12); empty classes: 'fish'; damaged: 1."
    (one,) = rank([told]).overall
    assert said in overall_notes(one)
    write_report([told], tmp_path)
    for written in (shown(told), (tmp_path / "report.md").read_text()):
        assert "heic file (12)" in " ".join(written.split())
    assert "heic file (12)" in (tmp_path / "report.html").read_text()
    assert "not used" not in shown(run)


def test_what_is_too_long_to_read_is_cut_and_says_so(run: Run) -> None:
    (one,) = rank([run]).overall
    rows = tuple(
        dataclasses.replace(one.rows[0], model=Ref("timm", f"net{i}", "1")) for i in range(41)
    )
    for count, shown_rows, title in ((40, 40, "accuracy (%)"), (41, 20, "the best 20 of 41")):
        some = dataclasses.replace(one, rows=rows[:count], left_out_models={})
        (axes,) = heatmap(some).axes
        assert len(axes.get_yticks()) == shown_rows
        assert axes.get_title().endswith(title)
    many = dataclasses.replace(one, disagreements=tuple(f"net{i} is odd" for i in range(30)))
    assert sum("The orders disagree" in line for line in overall_notes(many)) == 30
    notes = overall_notes(many, 25)
    assert sum("The orders disagree" in line for line in notes) == 25
    assert "... and 5 more models on which they disagree: see the report." in notes


def test_csv_is_what_pandas_writes(run: Run) -> None:
    tables = [ranking_table(rank([run])), measurements_table(run.records)]
    odd: Columns = {"model": ['a "b", c', "", "two\nlines"], "value": [1e-7, math.nan, 0.1]}
    whole: Columns = {
        **odd,
        "n": [3, None, 2**40],
        "tied": [True, None, False],
        "low": [None, 0.5, 1e30],
    }
    for table in (*tables, odd, whole, {"model": [], "n": []}):
        assert csv_bytes(table) == frame(table).to_csv(index=False).encode()


def test_no_text_leaves_its_cell_in_the_page(run: Run) -> None:
    found = rank([run])
    failure = dataclasses.replace(found.failures[0], why='<script>alert("1")</script>')
    (overall,) = found.overall
    row = dataclasses.replace(overall.rows[0], license='"><b>free</b>')
    overall = dataclasses.replace(overall, rows=(row, *overall.rows[1:]))
    found = dataclasses.replace(found, failures=(failure,), overall=(overall,))
    html = page(found, "run", {}, "run")
    assert '<td class="wrap">&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;</td>' in html
    assert (
        '<td data-v="&#34;&gt;&lt;b&gt;free&lt;/b&gt;">&#34;&gt;&lt;b&gt;free&lt;/b&gt;</td>'
        in html
    )
    assert "<script>alert" not in html
    assert "<b>free" not in html


def test_a_report_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report([run], tmp_path / "file" / "report")


def test_recommend_under_limits(run: Run) -> None:
    (overall,) = rank([run]).overall
    free = recommend(overall)
    assert free.accurate is not None
    assert free.accurate.model.text == B
    assert [row.model.text for row in free.tied] == [B, A]
    assert free.behind.keys() == {Ref.parse(C)}
    assert sum(free.first.values()) == pytest.approx(1)
    assert 0 <= free.loss[Ref.parse(B)] < 0.03
    assert free.loss[Ref.parse(B)] < free.loss[Ref.parse(A)]
    easy = recommend(overall, Limits(tolerance=10.0, cheapest="params"))
    assert easy.cheapest is not None
    assert easy.cheapest.costs["params"] == min(
        row.costs["params"] for row in overall.rows if easy.within.get(row.model, 0) >= 0.9
    )

    tight = recommend(overall, Limits(max_params=2.5e6, license="MIT,Apache-2.0,CC-BY-NC-4.0"))
    assert tight.ruled_out[Ref.parse(C)] == "params 3e+06 is above 2.5e+06"
    nothing = recommend(overall, Limits(max_latency_ms=0.1))
    assert nothing.accurate is None
    assert text.recommendation_text(nothing)[0].startswith("No model keeps to these limits")
    with pytest.raises(UserError, match="no model has macs"):
        recommend(_without(overall, "macs"), Limits(max_macs=1.0))
    said = " ".join(text.recommendation_text(free))
    assert "Most accurate: netB" in said
    assert "cannot be told from: netA" in said
    assert re.search(r"Not other: \d+\.\d points behind netB\.", said)
    unknown = dataclasses.replace(free, first={}, loss={}, within={}, cheapest=None)
    said = " ".join(text.recommendation_text(unknown))
    assert "Cheapest good enough: not known. The luck of the training runs" in said
    many = {Ref("timm", f"net{i}", "1"): "params 3e+06 is above 2" for i in range(200)}
    said = " ".join(text.recommendation_text(dataclasses.replace(unknown, ruled_out=many)))
    assert "Probabilities are told of 200 models at most" in said
    body = to_json(free)
    assert body["most_accurate"]["model"] == B
    assert body["ruled_out"]["timm/broken@1"] == "not ranked: 1 of 2 datasets"


def _without(overall: OverallRanking, cost: str) -> OverallRanking:
    rows = tuple(
        dataclasses.replace(row, costs={k: v for k, v in row.costs.items() if k != cost})
        for row in overall.rows
    )
    return dataclasses.replace(overall, rows=rows)


def test_a_recommendation_says_of_which_data(run: Run) -> None:
    """Two of a run, as of two dense tasks, may be alike in all else."""
    (overall,) = rank([run]).overall
    found = recommend(overall)
    first, second = text.dataset_labels(found.datasets).values()

    def head(*datasets: Ref) -> str:
        return text.recommendation_text(dataclasses.replace(found, datasets=datasets))[0]

    assert head(*found.datasets).endswith(f" on {first}, {second})")
    assert head(found.datasets[0]).endswith(f" on {first})")
    more = [Ref("packaged", f"more{n}") for n in range(3)]
    assert head(*found.datasets, *more).endswith(f" on {first}, {second} and 3 more)")


def test_an_error_metric_is_written_as_it_was_measured(run: Run) -> None:
    (overall,) = rank([run], "nll").overall
    assert overall.rows[0].value < 0  # larger is better inside
    found = recommend(overall)
    said = " ".join(text.recommendation_text(found))
    assert re.search(r"nll 0\.\d\d\d \[0\.\d\d\d, 0\.\d\d\d\]", said)
    assert "nats behind" in said
    assert "-0." not in said
    body = to_json(found)
    best = body["most_accurate"]
    assert 0 < best["low"] <= best["value"] <= best["high"]
    assert "-0." not in " ".join(line for line in shown_by(run, "nll") if "net" in line)


def shown_by(run: Run, metric: str) -> list[str]:
    stream = io.StringIO()
    print_ranking(rank([run], metric), Console(file=stream, width=80, highlight=False))
    return stream.getvalue().splitlines()


@pytest.mark.usefixtures("no_figures")
def test_parquet_holds_what_the_csv_does(run: Run, tmp_path: Path) -> None:
    write_report([run], tmp_path)
    for name in ("ranking", "measurements"):
        whole = pd.read_parquet(tmp_path / f"{name}.parquet")
        lines = pd.read_csv(tmp_path / f"{name}.csv")
        assert list(whole.columns) == list(lines.columns)
        assert len(whole) == len(lines)
        assert whole.value.to_numpy() == pytest.approx(lines.value.to_numpy(), nan_ok=True)
        assert str(whole.value.dtype) == "float64"


@pytest.mark.usefixtures("no_figures")
def test_without_pyarrow_there_is_csv_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoobench.report.write.find_spec", lambda name: None)
    done = CliRunner().invoke(main, ["report", str(run.path), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "pip install 'zoobench[parquet]'" in done.output
    assert not list(tmp_path.glob("*.parquet"))
    assert (tmp_path / "ranking.csv").exists()


def test_the_critical_difference_is_drawn_where_datasets_suffice(tmp_path: Path) -> None:
    sets = [f"packaged/d{i}@1" for i in range(7)]
    run = make_run(tmp_path / "run", [A, B, C], sets, {A: 0.9, B: 0.9, C: 0.5}, n=200)
    paths = {path.name: path for path in write_report([run], tmp_path / "report")}
    for kind in ("svg", "png"):
        assert paths[f"critical-difference-linear-probe.{kind}"].stat().st_size > 1000
    said = paths["report.md"].read_text()
    assert "figures/critical-difference-linear-probe.svg" in said
    assert "cannot part: netA to netB" in said or "cannot part: netB to netA" in said


def test_licences() -> None:
    assert license_fits("apache-2.0", "permissive")
    assert not license_fits("CC-BY-NC-4.0", "permissive")
    assert not license_fits("unknown", "permissive")
    assert license_fits("GPL-3.0", "permissive, GPL-3.0")


@pytest.mark.parametrize(
    ("value", "written"), [(999_600, "1M"), (1234, "1.23k"), (0.5, "0.5"), (3.9e8, "390M")]
)
def test_si(value: float, written: str) -> None:
    assert text.si(value) == written


def test_names_are_as_short_as_they_may_be() -> None:
    a, other, b = map(Ref.parse, ("timm/a@1", "hf/a@2", "timm/b@3"))
    assert text.labels([a, other, b]) == {a: "timm/a", other: "hf/a", b: "b"}


def test_one_number_stands_for_that_of_every_channel() -> None:
    grey = Ref("timm", "a", "1", {"mean": (0.5, 0.5, 0.5)}.items())
    warm = Ref("timm", "a", "1", {"mean": (0.5, 0.4, 0.4)}.items())
    assert text.labels([grey, warm])[grey] == "a?mean=0.5"
    assert text.shared_options([grey, Ref("timm", "b", "", {"mean": 0.5}.items())]) == {"mean": 0.5}
