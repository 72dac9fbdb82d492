"""timm's tables as a run: what is read, how it is marked, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from zoobench import store
from zoobench.cli.main import main
from zoobench.errors import StoreError, UserError
from zoobench.ranking.rank import rank
from zoobench.runs import published as tables

RESULTS = "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation\n"
MODELS = (
    ("resnet50.a1_in1k", 224, 25.56),
    ("resnet50.a1_in1k", 288, 25.56),
    ("vit_base_patch16_224.augreg_in21k_ft_in1k", 224, 86.57),
    ("eva_giant_patch14_336.clip_ft_in1k", 336, "1,013.01"),
    ("no_such_model.tag", 224, 5.0),
)
TOP1 = (80.2, 81.2, 84.5, 89.466, 50.0)
COSTS = """model,infer_img_size,infer_samples_per_sec,param_count,infer_gmacs,infer_macts
resnet50,224,100,25.56,4.11,11.11
vit_base_patch16_224,384,100,86.57,49.4,48.3
no_such_model,224,100,5.0,,1
"""


def write_tables(folder: Path, drop: float = 10.0) -> Path:
    """Two result tables, one of costs, and one that no import uses."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, less in (("results-imagenet.csv", 0.0), ("results-sketch.csv", drop)):
        rows = [
            f'{model},{size},{top1 - less:.3f},0,{min(top1 - less + 10, 99):.3f},0,"{params}",1.0,x'
            for (model, size, params), top1 in zip(MODELS, TOP1, strict=True)
        ]
        (folder / name).write_text(RESULTS + "\n".join(rows) + "\n")
    (folder / "benchmark-infer-amp.csv").write_text(COSTS)
    (folder / "model_metadata-in1k.csv").write_text("model,pretrain\nx,in1k\n")
    return folder


def test_records_are_marked_and_hold_what_the_tables_say(tmp_path: Path) -> None:
    done = tables.run([write_tables(tmp_path / "t")], tmp_path / "run")
    assert (done.models, done.records) == (5, 10)
    assert done.ignored == ("model_metadata-in1k.csv",)
    run = store.load(tmp_path / "run")
    found = {(r.cell.model.text, r.cell.dataset.text): r for r in run.records}
    one = found["timm/resnet50.a1_in1k?img_size=224", "published/imagenet"]
    assert one.flags == ("imported",)
    assert one.predictions == ""
    assert one.provenance["imported"]["license"] == "Apache-2.0"
    assert one.provenance["imported"]["file"] == "results-imagenet.csv"
    assert one.provenance["model"]["license"] == "Apache-2.0"
    assert one.provenance["model"]["family"] == "resnet"
    assert one.value("macs") == pytest.approx(4.11e9)
    # A count holds for its own input size alone, and an empty one is not known.
    assert found["timm/resnet50.a1_in1k?img_size=288", "published/imagenet"].get("macs") is None
    assert found["timm/no_such_model.tag?img_size=224", "published/imagenet"].get("macs") is None
    giant = found[
        "timm/eva_giant_patch14_336.clip_ft_in1k?img_size=336", "published/imagenet-sketch"
    ]
    assert giant.value("params") == pytest.approx(1013.01e6)
    assert giant.value("accuracy") == pytest.approx(0.79466)


def test_the_same_files_give_the_same_records_and_another_run_is_left_alone(tmp_path: Path) -> None:
    folder, out = write_tables(tmp_path / "t"), tmp_path / "run"
    tables.run([folder], out)
    first = (out / "records.jsonl").read_bytes()
    tables.run([folder / "results-imagenet.csv"], out)
    assert len(store.load(out).records) == 5
    tables.run([folder], out)
    assert (out / "records.jsonl").read_bytes() == first
    (out / "suite.toml").write_text('name = "mine"\nidentity = "mine"\n')
    with pytest.raises(StoreError, match="holds another run"):
        tables.run([folder], out)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("results-imagnet.csv", RESULTS, "Did you mean 'results-imagenet.csv'"),
        ("results-imagenet.csv", "model,top1\na,1\n", "lacks the columns img_size, top5"),
        ("results-imagenet.csv", RESULTS + "a,224,x,0,9,0,1,1,x\n", ":2: top1: expected a number"),
        (
            "results-imagenet.csv",
            RESULTS + 2 * "a,224,9,0,9,0,1,1,x\n",
            "img_size=224 stands in it twice",
        ),
    ],
)
def test_what_is_no_such_table_is_refused(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        tables.run([tmp_path / name], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_gives_a_report_that_says_where_the_numbers_come_from(tmp_path: Path) -> None:
    folder, out = write_tables(tmp_path / "t"), tmp_path / "run"
    invoke = CliRunner().invoke
    done = invoke(main, ["import", "timm", str(folder), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Apache-2.0" in done.output
    done = invoke(main, ["report", str(out)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "Published numbers, not measured here" in said
    assert "pytorch-image-models" in said
    page = (out / "report" / "report.html").read_text()
    assert "zoobench import timm" in page
    assert "Published numbers, not measured here" in page


def test_the_models_are_ranked_over_the_tables(tmp_path: Path) -> None:
    tables.run([write_tables(tmp_path / "t")], tmp_path / "run")
    (overall,) = rank([store.load(tmp_path / "run")]).overall
    assert [d.text for d in overall.datasets] == ["published/imagenet", "published/imagenet-sketch"]
    assert [row.model.id for row in overall.rows][:2] == [
        "timm/eva_giant_patch14_336.clip_ft_in1k",
        "timm/vit_base_patch16_224.augreg_in21k_ft_in1k",
    ]
    assert overall.rows[0].rank_high == 1
