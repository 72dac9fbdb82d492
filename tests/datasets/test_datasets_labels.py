"""One class, one name: numbers as numbers, NFC, blanks, truth values; case counts."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoobench import datasets
from zoobench.datasets.labels import notes, number, order, spelt
from zoobench.errors import UserError
from zoobench.schema import Ref
from zoobench.tasks.classification import labels_of

MakeFolder = Callable[[Mapping[str, int]], Path]

NFD = unicodedata.normalize("NFD", "café")


@pytest.mark.parametrize(
    ("spellings", "classes"),
    [
        (["0", "1", "0.0", "1.0"], ["0", "1"]),
        (["1", "01", "+1", "1e0", "1.00", "2"], ["1", "2"]),
        (["0", "-0", "0.0", "-0.0", "1"], ["0", "1"]),
        (["1.10", "1.1", "1.2"], ["1.1", "1.2"]),
        (["10.0", "9.0", "2.0"], ["2.0", "9.0", "10.0"]),
        (["9" * 5000, "1", "2"], ["1", "2", "9" * 5000]),
        (["1e9999", "1e99999999999999", "1"], ["1", "1e9999", "1e99999999999999"]),
        (["--5", "1", "2"], ["1", "2", "--5"]),
        (["1_0", "10"], ["10", "1_0"]),
        (["inf", "Infinity", "1"], ["1", "Infinity", "inf"]),
        (["nan", "0", "1"], ["0", "1"]),
        (["NaN", "0.5", "1.5", ""], ["0.5", "1.5"]),
        (["nan", "cmn", "yue"], ["cmn", "nan", "yue"]),
        (["True", "TRUE", "true", "False"], ["False", "TRUE"]),
        (["True", "true", "maybe"], ["True", "maybe", "true"]),
        (["café", NFD, "dog"], ["café", "dog"]),
        ([" a", "a\u00a0", "\ufeffa", "a\u200b", "b"], ["a", "b"]),
        (["ice  cream", "ice cream", "tea"], ["ice cream", "tea"]),
        (["Red", "red", "RED"], ["RED", "Red", "red"]),
        (["", " ", "\u00a0", "\u200b", "a", "b"], ["a", "b"]),
        (["None", "null", "NA", "-"], ["-", "NA", "None", "null"]),
        (["١", "1", "2"], ["1", "2"]),
    ],
)
def test_spellings_of_one_class(spellings: list[str], classes: list[str]) -> None:
    named = spelt(spellings)
    assert list(named) == list(dict.fromkeys(spellings))
    assert sorted({name for name in named.values() if name}, key=order) == classes


def test_what_was_merged_and_what_only_looks_alike_is_noted() -> None:
    assert notes(spelt(["cat", "dog", " dog"])) == {}, "blanks alone are not worth a note"
    assert notes(spelt(["1", "1.0", "2"])) == {"merged_labels": ["'1' = '1.0'"]}
    assert notes(spelt(["Red", "red", "blue"])) == {"labels_alike": ["'Red', 'red'"]}
    assert notes(spelt(["nan", "cmn"])) == {"labels_alike": ["'nan'"]}


@given(st.lists(st.text(max_size=8) | st.from_regex(r"[-+]?\d{1,3}(\.\d{1,2})?", fullmatch=True)))
def test_a_name_is_its_own_class_and_the_order_of_rows_says_nothing(spellings: list[str]) -> None:
    named = spelt(spellings)
    assert spelt(spellings[::-1]) == named
    names = {name for name in named.values() if name}
    assert spelt(names) == {name: name for name in names}, "names are classes of their own"
    assert all(number(a) != number(b) for a in names for b in names - {a} if number(a) is not None)
    sorted(names, key=order)


def table(folder: Path, labels: list[str]) -> Ref:
    lines = [f"word{i} thing {i * 7},{labels[i % len(labels)]}\n" for i in range(240)]
    (folder / "t.csv").write_text("text,label\n" + "".join(lines), encoding="utf-8")
    return Ref("table", "t").with_options(path=str(folder / "t.csv"), text="text", label="label")


def test_codes_are_words_where_that_is_asked(tmp_path: Path, make_folder: MakeFolder) -> None:
    codes = ["1.1", "1.10", "01", "1", NFD, "café", "True", "true", "nan"]
    assert sorted(set(spelt(codes, words=True).values())) == sorted({*codes} - {NFD})
    ref = table(tmp_path, ["1.1", "1.10", " 1.1"])
    assert len(datasets.load(datasets.resolve(ref.with_options(labels="words"))).classes) == 2
    with pytest.raises(UserError, match="only one class"):
        datasets.resolve(ref)
    root = make_folder({"1.1": 9, "1.10": 9, "2": 9})
    folder = Ref("folder", "pets").with_options(path=str(root))
    assert datasets.load(datasets.resolve(folder)).classes == ("1.1", "2")
    made = datasets.load(datasets.resolve(folder.with_options(labels="words")))
    assert (made.classes, "merged_labels" in made.notes) == (("1.1", "1.10", "2"), False)
    for odd in (ref, folder, Ref.parse("hf/imdb")):
        with pytest.raises(UserError, match=r"s\.toml: unknown labels 'word'.*n 'words'\?"):
            datasets.resolve(odd.with_options(labels="word"), "s.toml")


def test_a_table_has_the_classes_that_its_labels_mean(tmp_path: Path) -> None:
    made = datasets.load(datasets.resolve(table(tmp_path, ["0", "1", "0.0", "1.0"])))
    assert made.classes == ("0", "1")
    assert made.notes["merged_labels"] == ["'0' = '0.0'", "'1' = '1.0'"]
    for i in range(len(made.test)):
        row = int(str(made.test.read(i)).split()[0].removeprefix("word"))
        assert labels_of(made.test)[i] == row % 2
    assert datasets.load(datasets.resolve(table(tmp_path, ["Red", "red"]))).notes["labels_alike"]
    with pytest.raises(UserError, match=r"80 of 240 rows cannot be used.*the label is empty"):
        datasets.resolve(table(tmp_path, ["0", "1", "nan"]))


def test_what_was_merged_is_said_before_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    datasets.resolve(table(tmp_path, ["a", "b"]))
    assert not caplog.messages
    datasets.resolve(table(tmp_path, ["1", "1.0", "2"]))
    said = "table/t: read as one class (labels=words keeps them apart): '1' = '1.0'"
    assert caplog.messages == [said]
    caplog.clear()
    datasets.resolve(table(tmp_path, ["Red", "red"]))
    assert caplog.messages == ["table/t: classes that look alike: 'Red', 'red'"]


def test_a_revision_moves_only_where_the_classes_did(tmp_path: Path) -> None:
    import hashlib

    for labels, same in [
        (["a", "b"], True), (["8", "9", "10", "-1"], True), (["0.0", "1.0"], True),
        (["1", "1.0", "2"], False), (["2.0", "10.0"], False), (["True", "TRUE", "False"], False),
    ]:  # fmt: skip
        pinned = datasets.resolve(table(tmp_path, labels))
        file = hashlib.sha256((tmp_path / "t.csv").read_bytes()).hexdigest()[:16]
        assert (pinned.revision == file) is same, labels
        assert datasets.load(pinned).classes


def test_what_arrow_calls_missing_is_no_class(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    labels = [None if i == 7 else float("nan") if i == 9 else float(i % 2) for i in range(300)]
    texts = [f"word{i} thing" for i in range(300)]
    rows = pyarrow.table({"text": texts, "label": pyarrow.array(labels)})
    parquet.write_table(rows, tmp_path / "t.parquet")
    ref = Ref("table", "t").with_options(
        path=str(tmp_path / "t.parquet"), text="text", label="label"
    )
    made = datasets.load(datasets.resolve(ref))
    assert (made.classes, made.notes["corrupt"]) == (("0.0", "1.0"), 2)
