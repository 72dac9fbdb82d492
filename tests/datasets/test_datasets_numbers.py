"""Numbers in place of classes: tables, folders with targets.csv, and suites of either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cells import write_suite
from zoobench import datasets
from zoobench.errors import BadData, UserError
from zoobench.runs import planning, suite
from zoobench.schema import Ref
from zoobench.tasks.regression import numbers_of


def table(folder: Path, rows: list[str], **options: str) -> Ref:
    file = folder / "prices.csv"
    file.write_text("text,price\n" + "\n".join(rows) + "\n")
    return Ref("table", "prices").with_options(
        path=str(file), text="text", label="price", task="regression", **options
    )


def rows(count: int = 200) -> list[str]:
    return [f"thing number {i},{i / 7:.3f}" for i in range(count)]


def test_a_column_of_numbers_is_read_and_split_by_its_quantiles(tmp_path: Path) -> None:
    ref = datasets.resolve(table(tmp_path, rows()))
    assert datasets.card(ref).task == "regression"
    made = datasets.load(ref)
    assert (made.task, made.classes) == ("regression", ())
    assert [len(s) for s in (made.train, made.valid, made.test)] == [144, 16, 40]
    truth = {f"thing number {i}": round(i / 7, 3) for i in range(200)}
    for split in (made.train, made.valid, made.test):
        for i, number in enumerate(numbers_of(split)):
            assert number == truth[split.read(i)]
    deciles = np.searchsorted(np.quantile(list(truth.values()), np.arange(1, 10) / 10),
                              numbers_of(made.test))  # fmt: skip
    assert np.bincount(deciles, minlength=10).min() >= 3, "a fifth of every tenth is tested"
    few = datasets.load(ref.with_options(max_train=30))
    assert len(few.train) == 30


@pytest.mark.parametrize(
    ("bad", "named"),
    [("a lot", "'a lot' is no number"), ("nan", "'nan' is not finite"), ("", "label is empty")],
)
def test_what_is_no_number_is_named_with_its_row(tmp_path: Path, bad: str, named: str) -> None:
    with pytest.raises(UserError, match=f"row 4: .*{named}"):
        datasets.resolve(table(tmp_path, [*rows(3), *[f"odd,{bad}"] * 3, *rows(20)[4:]]))
    few = datasets.load(datasets.resolve(table(tmp_path, [*rows(), f"odd,{bad}"])))
    assert few.notes["corrupt"] == 1, "up to a tenth is counted and left out"


def test_twins_that_disagree_are_left_out(tmp_path: Path) -> None:
    made = datasets.load(datasets.resolve(table(tmp_path, [*rows(), "thing number 5,99"])))
    assert made.notes["conflicting_labels"] == 1
    assert sum(map(len, (made.train, made.valid, made.test))) == 199


def test_mistakes_about_tasks_are_the_users(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task 'regresion'.*Did you mean 'regression'"):
        datasets.resolve(table(tmp_path, rows()).with_options(task="regresion"), "here")
    with pytest.raises(UserError, match="no classes to keep 3 of"):
        datasets.resolve(table(tmp_path, rows()).with_options(classes=3))
    with pytest.raises(UserError, match="fewer than two different targets"):
        datasets.resolve(table(tmp_path, [f"thing {i},1.5" for i in range(40)]))


def pictures(folder: Path, count: int = 40) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_a_folder_with_targets(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    ref = Ref("folder", "apples").with_options(path=str(folder), task="regression")
    with pytest.raises(UserError, match=r"targets\.csv: there is no such file.*file and target"):
        datasets.resolve(ref)
    lines = [f"{i}.png,{i * 1.5},{'test' if i % 4 == 0 else 'train'}" for i in range(40)]
    (folder / "targets.csv").write_text("file,target,split\n" + "\n".join(lines) + "\n")
    found = datasets.resolve(ref)
    made = datasets.load(found)
    assert made.modality == "image"
    assert made.flags == ("derived-valid",), "the test split is the file's"
    assert sorted(numbers_of(made.test)) == [i * 1.5 for i in range(0, 40, 4)]
    assert made.test.read(0).size == (8, 8)
    (folder / "targets.csv").write_text("file,target\n" + "absent.png,1\n" * 5 + "\n".join(
        line.rpartition(",")[0] for line in lines) + "\n")  # fmt: skip
    with pytest.raises(UserError, match=r"absent\.png"):
        datasets.resolve(ref)
    (folder / "targets.csv").write_text("file,value\n0.png,1\n")
    with pytest.raises(UserError, match="'target'"):
        datasets.resolve(ref)
    (folder / "targets.csv").write_text("file,target,split\n" + "\n".join(lines[1:]) + "\n")
    with pytest.raises(BadData, match="not what"):
        datasets.load(found)


def test_pictures_that_targets_do_not_name_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures(tmp_path)
    (tmp_path / "notes.txt").write_text("no example")
    ref = Ref("folder", "p").with_options(path=str(tmp_path), task="regression")

    def name(count: int) -> None:
        rows = [f"./{i}.png,{i / 7}" for i in range(count)]
        (tmp_path / "targets.csv").write_text("\n".join(["file,target", *rows]) + "\n")

    name(38)
    made = datasets.load(datasets.resolve(ref))
    kind = "picture that targets.csv does not name"
    assert made.notes["unused"] == {kind: 2, ".csv file": 1, ".txt file": 1}
    assert f"{kind} (2)" in caplog.text
    name(30)
    with pytest.raises(UserError, match=rf"10 of 40 files .* {kind} \(10, such as '30.png'\)"):
        datasets.resolve(ref)
    allowed = datasets.resolve(ref.with_options(allow_unused=True))
    assert datasets.load(allowed).notes["unused"][kind] == 10


def test_a_suite_pairs_methods_with_tasks_and_says_what_is_left_out(tmp_path: Path) -> None:
    words = "synthetic/phrases?task=regression"

    def read(**change: object) -> suite.Suite:
        return suite.read(str(write_suite(tmp_path / "s.toml", **change)))  # type: ignore[arg-type]

    both = read(
        models=["synthetic/bag"], datasets=[words, "synthetic/phrases"], methods=["knn", "ridge"],
        controls="true",
    )  # fmt: skip
    asked = {(c.method, c.dataset.option("task", "")) for c in planning.plan(both)}
    assert asked == {
        ("mean", "regression"), ("raw-input", "regression"), ("ridge", "regression"),
        ("chance", ""), ("majority", ""), ("raw-input", ""), ("ridge", ""), ("knn", ""),
    }  # fmt: skip
    served = "knn serves classification, segmentation"
    assert planning.left_out(both) == [f"{served}, {words} asks regression"]
    with pytest.raises(UserError, match=rf"methods\[0\]: {served}"):
        read(models=["synthetic/bag"], datasets=[words])
    with pytest.raises(UserError, match=r"datasets\[0\]: shots take some examples of each class"):
        read(models=["synthetic/bag"], datasets=[words], methods=["ridge"], rest="shots = [2]\n")


@pytest.mark.parametrize(
    "header", ['"file","target","split"', "file,target, split", "\ufefffile,target,split", "split"]
)
def test_an_official_split_is_found_however_the_header_is_written(
    tmp_path: Path, header: str
) -> None:
    pictures(tmp_path)
    named = ["train", "valid", "test", "train"]
    rows = [f"{i}.png,{i / 7},{named[i % 4]}" for i in range(40)]
    if header == "split":
        header = "split,file,target"
        rows = [f"{named[i % 4]},{i}.png,{i / 7}" for i in range(40)]
    (tmp_path / "targets.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    ref = Ref("folder", "p").with_options(path=str(tmp_path), task="regression")
    made = datasets.load(datasets.resolve(ref))
    assert made.flags == ()
    assert [len(s) for s in (made.train, made.valid, made.test)] == [20, 10, 10]


@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(";", "utf-8"), ("\t", "utf-16"), (",", "utf-8")]
)
@pytest.mark.parametrize("first", ["", "sep=;\r\n", "\n"])
def test_an_official_split_is_found_in_other_encodings(
    delimiter: str, encoding: str, first: str, tmp_path: Path
) -> None:
    pictures(tmp_path)
    delimiter = ";" if first.startswith("sep") else delimiter
    named = ["train", "valid", "test", "train"]
    rows = [
        ["file", "target", "split"],
        *([f"{i}.png", str(i / 7), named[i % 4]] for i in range(40)),
    ]
    text = first + "".join(delimiter.join(row) + "\n" for row in rows)
    (tmp_path / "targets.csv").write_bytes(text.encode(encoding))
    ref = Ref("folder", "p").with_options(path=str(tmp_path), task="regression")
    assert datasets.load(datasets.resolve(ref)).flags == ()


@pytest.mark.parametrize("name", ["Split", "splits", "spilt", "the split"])
def test_a_column_that_is_nearly_called_split_is_refused(tmp_path: Path, name: str) -> None:
    pictures(tmp_path)
    rows = [f"{i}.png,{i},{i % 2}" for i in range(40)]
    ref = Ref("folder", "p").with_options(path=str(tmp_path), task="regression")
    (tmp_path / "targets.csv").write_text("\n".join([f"file,target,{name}", *rows]))
    with pytest.raises(UserError, match=f"column '{name}'.*split"):
        datasets.resolve(ref, "here")
    (tmp_path / "targets.csv").write_text("\n".join(["file,target,site", *rows]))
    assert "derived-test" in datasets.load(datasets.resolve(ref)).flags
