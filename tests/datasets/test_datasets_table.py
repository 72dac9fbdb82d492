"""CSV, TSV and Parquet: columns, encodings, splits, and every mistake with its message."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from zoobench import datasets
from zoobench.errors import BadData, MissingExtra, UserError
from zoobench.schema import Ref, Value
from zoobench.tasks.classification import labels_of

Picture = Callable[..., Image.Image]
Rows = Sequence[Sequence[str]]


def reviews(many: int = 30) -> list[list[str]]:
    return [[f"review number {i}, so it is", "good" if i % 3 else "bad"] for i in range(many)]


def write(path: Path, rows: Rows, header: Sequence[str] = ("review", "stars"), **how: str) -> Path:
    with path.open("w", newline="", encoding=how.get("encoding", "utf-8")) as file:
        csv.writer(file, delimiter=how.get("delimiter", ",")).writerows([header, *rows])
    return path


def ref_to(path: Path, **options: Value) -> Ref:
    return Ref("table", "reviews").with_options(
        **{"path": str(path), "text": "review", "label": "stars", **options}
    )


def refused(path: Path, **options: Value) -> str:
    with pytest.raises(UserError) as caught:
        datasets.resolve(ref_to(path, **options), "s.toml: datasets[0]")
    assert str(caught.value).startswith("s.toml: datasets[0]: ")
    return str(caught.value)


def test_text_and_label(tmp_path: Path) -> None:
    ref = datasets.resolve(ref_to(write(tmp_path / "r.csv", reviews())))
    made = datasets.load(ref)
    assert made.classes == ("bad", "good")
    assert made.modality == "text" == datasets.card(ref).modality
    assert (len(made.train), len(made.valid), len(made.test)) == (21, 3, 6)
    texts = {made.train.read(i): int(labels_of(made.train)[i]) for i in range(len(made.train))}
    truth = {text: int(label == "good") for text, label in reviews()}
    assert texts.items() <= truth.items()


def test_row_order_changes_the_revision_and_no_split(tmp_path: Path) -> None:
    first = datasets.resolve(ref_to(write(tmp_path / "a.csv", reviews())))
    second = datasets.resolve(ref_to(write(tmp_path / "b.csv", reviews()[::-1])))
    assert first.revision != second.revision
    assert datasets.load(first).fingerprints == datasets.load(second).fingerprints


@pytest.mark.parametrize(
    ("name", "how", "options"),
    [
        ("r.csv", {"encoding": "utf-8-sig"}, {}),
        ("r.tsv", {"delimiter": "\t"}, {}),
        ("r.csv", {"encoding": "latin-1"}, {"encoding": "latin-1"}),
        ("r.csv", {"encoding": "utf-16"}, {"encoding": "utf-16"}),
    ],
)
def test_spellings_of_the_same_table_give_the_same_splits(
    tmp_path: Path, name: str, how: dict[str, str], options: dict[str, Value]
) -> None:
    rows = [[f"café {text}", label] for text, label in reviews()]
    (tmp_path / "plain").mkdir()
    plain = datasets.load(datasets.resolve(ref_to(write(tmp_path / "plain" / "r.csv", rows))))
    other = datasets.load(datasets.resolve(ref_to(write(tmp_path / name, rows, **how), **options)))
    assert other.fingerprints == plain.fingerprints


def test_parquet_gives_the_same_splits_as_csv(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts, labels = zip(*reviews(), strict=True)
    table = pyarrow.table({"review": texts, "stars": labels, "other": list(range(30))})
    parquet.write_table(table, tmp_path / "r.parquet")
    made = datasets.load(datasets.resolve(ref_to(tmp_path / "r.parquet")))
    plain = datasets.load(datasets.resolve(ref_to(write(tmp_path / "r.csv", reviews()))))
    assert made.fingerprints == plain.fingerprints
    assert "Did you mean 'review'" in refused(tmp_path / "r.parquet", text="reviev")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    assert "not a readable Parquet file" in refused(tmp_path / "bad.parquet")


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.parquet").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'zoobench\[parquet\]'"):
        datasets.resolve(ref_to(tmp_path / "r.parquet"))


def test_number_labels_are_in_numeric_order(tmp_path: Path) -> None:
    rows = [[f"t{i}", str(8 + i % 4)] for i in range(40)]
    made = datasets.load(datasets.resolve(ref_to(write(tmp_path / "r.csv", rows))))
    assert made.classes == ("8", "9", "10", "11")


def test_a_column_may_be_called_by_a_number(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", reviews(), ("review", "2020"))
    text = str(ref_to(path, label=2020))
    assert len(datasets.load(datasets.resolve(text)).classes) == 2


def test_a_split_column(tmp_path: Path) -> None:
    names = ["train", "Validation", "test"]
    rows = [[*row, names[i % 3]] for i, row in enumerate(reviews(30))]
    rows = [[text, "good" if i % 2 else "bad", split] for i, (text, _, split) in enumerate(rows)]
    path = write(tmp_path / "r.csv", rows, ("review", "stars", "part"))
    made = datasets.load(datasets.resolve(ref_to(path, split="part")))
    assert made.flags == ()
    assert [len(s) for s in (made.train, made.valid, made.test)] == [10, 10, 10]
    rows[4][2] = "tset"
    message = refused(write(path, rows, ("review", "stars", "part")), split="part")
    assert "unknown split 'tset'. Did you mean 'test'?" in message


def test_very_long_text_is_read_whole(tmp_path: Path) -> None:
    rows = [*reviews(), ["long " * 200_000, "good"]]
    made = datasets.load(datasets.resolve(ref_to(write(tmp_path / "r.csv", rows))))
    splits = (made.train, made.valid, made.test)
    assert max(len(s.read(i)) for s in splits for i in range(len(s))) == 1_000_000


def test_empty_texts_are_counted_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [*reviews(250), ["  ", "good"], ["fine", ""]]
    made = datasets.load(datasets.resolve(ref_to(write(tmp_path / "r.csv", rows))))
    assert caplog.messages == ["table/reviews: damaged: 2"]
    assert made.notes["corrupt"] == 2
    assert made.notes["corrupt_files"] == [
        "row 251: the text is empty", "row 252: the label is empty",
    ]  # fmt: skip
    assert len(made.train) + len(made.valid) + len(made.test) == 250


def test_more_than_a_tenth_that_cannot_be_used_is_an_error_unless_allowed(tmp_path: Path) -> None:
    tenth = write(tmp_path / "tenth.csv", [*reviews(45), *[["", "good"]] * 5])
    assert datasets.load(datasets.resolve(ref_to(tenth))).notes["corrupt"] == 5
    more = write(tmp_path / "more.csv", [*reviews(45), *[["", "good"]] * 6])
    told = refused(more)
    assert "6 of 51 rows cannot be used, and 10% is the bound: row 46: the text is empty" in told
    assert told.endswith("allow_unused = true")
    ref = datasets.resolve(ref_to(more, allow_unused=True))
    assert datasets.load(ref).notes["corrupt"] == 6
    none = write(tmp_path / "none.csv", [["", "good"]] * 9)
    assert "9 of 9 rows cannot be used" in refused(none, allow_unused=True)
    assert "must be true or false" in refused(more, allow_unused="yes")


def test_a_header_that_is_repeated_is_no_example(tmp_path: Path) -> None:
    rows = [*reviews(30), ["review", "stars"], *reviews(60)[30:]]
    made = datasets.load(datasets.resolve(ref_to(write(tmp_path / "r.csv", rows))))
    assert made.notes["corrupt_files"] == ["row 31: it repeats the header"]
    assert "stars" not in made.classes


def test_a_path_as_on_windows_is_explained() -> None:
    for ref in (Ref("table", "t").with_options(text="a", label="b"), Ref("folder", "f")):
        with pytest.raises(UserError, match=r"there is no such .*; folders are parted by / here"):
            datasets.resolve(ref.with_options(path="C:\\data\\t.csv"))


def test_twins_and_contradictions_are_counted(tmp_path: Path) -> None:
    rows = [*reviews(), *reviews(5), ["both", "good"], ["both", "bad"]]
    made = datasets.load(datasets.resolve(ref_to(write(tmp_path / "r.csv", rows))))
    assert (made.notes["duplicates"], made.notes["conflicting_labels"]) == (5, 1)


def test_mistakes_are_found_before_any_work(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", reviews())
    assert "there is no such file" in refused(tmp_path / "absent.csv")
    assert "is a folder, not a table" in refused(tmp_path)
    assert "unknown column 'star'. Did you mean 'stars'? Known: review, stars" in refused(
        path, label="star"
    )
    assert "Did you mean 'label'" in refused(path, lable="x")
    assert "give one of the options text, image and audio" in refused(path, image="x")
    assert "unknown encoding 'utf-9'" in refused(path, encoding="utf-9")
    assert "the table has no rows" in refused(write(tmp_path / "e.csv", []))
    assert "unknown column" in refused_empty(tmp_path)
    one = write(tmp_path / "one.csv", [[text, "good"] for text, _ in reviews()])
    assert "only one class ('good')" in refused(one)
    few = write(tmp_path / "few.csv", [*reviews(), ["x", "rare"]])
    assert "class 'rare' has 1 rows, fewer than the 3" in refused(few)
    each = write(tmp_path / "each.csv", [[f"t{i}", f"c{i}"] for i in range(5)])
    assert "(and so have 4 more classes)" in refused(each)
    assert "has 2 classes, not 5" in refused(path, classes=5)


def refused_empty(tmp_path: Path) -> str:
    (tmp_path / "nothing.csv").write_bytes(b"")
    return refused(tmp_path / "nothing.csv")


def test_label_option_is_required(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", reviews())
    with pytest.raises(UserError, match="give the option label"):
        datasets.resolve(ref_to(path).without("label"))


def test_what_is_not_utf8_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", [*reviews(5), ["café", "good"]], encoding="latin-1")
    message = refused(path)
    assert "line 7 is not utf-8" in message
    assert "encoding=latin-1" in message


def test_ragged_and_unclosed_lines_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", [*reviews(3), ["a", "good", "more"]])
    assert "line 5 has 3 fields, the header has 2" in refused(path)
    path.write_text('review,stars\n"never closed,good\n', encoding="utf-8")
    assert "unexpected end of data" in refused(path)


def test_pictures_named_by_a_column(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "pics").mkdir()
    rows = []
    for i in range(120):
        picture(i).save(tmp_path / "pics" / f"{i}.png")
        rows.append([f"pics/{i}.png", "ab"[i % 2]])
    path = write(tmp_path / "t.csv", rows, ("file", "stars"))
    ref = ref_to(path, image="file").without("text")
    pinned = datasets.resolve(ref)
    made = datasets.load(pinned)
    assert made.modality == "image" == datasets.card(ref).modality
    assert made.train.read(0).size == (12, 12)
    picture(999).save(tmp_path / "pics" / "0.png")
    with pytest.raises(BadData, match="its content is not what"):
        datasets.load(pinned)
    (tmp_path / "pics" / "1.png").unlink()
    made = datasets.load(datasets.resolve(ref))
    assert made.notes["corrupt_files"][0].startswith("row 2 (pics/1.png): cannot be read")
    for i in range(2, 14):
        (tmp_path / "pics" / f"{i}.png").unlink()
    with pytest.raises(UserError, match="13 of 120 rows cannot be used"):
        datasets.resolve(ref)


def test_a_table_that_changed_is_not_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", reviews())
    ref = datasets.resolve(ref_to(path))
    write(path, reviews(31))
    with pytest.raises(BadData, match="its content is not what"):
        datasets.load(ref)
    path.unlink()
    with pytest.raises(BadData, match="no such file"):
        datasets.load(ref)
    assert datasets.available(ref)[0] is False
