"""Documents from tables and folders, and questions with options: what is read, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zoobench import datasets
from zoobench.errors import BadData, UserError
from zoobench.tasks.language_modelling import documents_of
from zoobench.tasks.multiple_choice import right_options_of

PROSE = [f"Document {i} has\n{i * i} words, and ünïcödé." for i in range(20)]


def texts_of(splits: Any) -> list[str]:
    return sorted(
        s.read(i) for s in (splits.train, splits.valid, splits.test) for i in range(len(s))
    )


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def load(name: str) -> Any:
    return datasets.load(datasets.resolve(name))


@pytest.mark.parametrize("task", ["language-modelling", "masked-language-modelling"])
def test_a_column_of_texts_needs_no_label(task: str, tmp_path: Path) -> None:
    path = table(tmp_path / "prose.jsonl", [{"body": text} for text in PROSE])
    splits = load(f"table/prose?path={path}&text=body&task={task}")
    assert texts_of(splits) == sorted(PROSE)
    assert splits.task == task
    assert splits.classes == ()
    sizes = [len(splits.test.read(i).encode()) for i in range(len(splits.test))]
    assert documents_of(splits.test).tolist() == sizes
    assert {"derived-test", "derived-valid"} == set(splits.flags)


def test_delimited_text_of_one_column_and_of_splits(tmp_path: Path) -> None:
    path = tmp_path / "prose.csv"
    path.write_text("body\n" + "\n".join(f'"line one, of {i}\nline two"' for i in range(8)))
    assert len(texts_of(load(f"table/prose?path={path}&text=body&task=language-modelling"))) == 8
    path.write_text(
        "body,part\n" + "\n".join(f"text {i},{('train', 'test')[i % 2]}" for i in range(9))
    )
    splits = load(f"table/p?path={path}&text=body&split=part&task=language-modelling")
    assert [splits.test.read(i) for i in range(4)] == [f"text {i}" for i in (1, 3, 5, 7)]
    assert splits.flags == ("derived-valid",)


def test_empty_texts_are_faults_and_a_missing_column_is_said(tmp_path: Path) -> None:
    path = table(tmp_path / "t.jsonl", [{"body": text} for text in [*PROSE, " \n"]])
    splits = load(f"table/t?path={path}&text=body&task=language-modelling")
    assert splits.notes["corrupt_files"] == ["row 21: the text is empty"]
    table(path, [{"body": text} for text in [*PROSE, *[""] * 4]])
    with pytest.raises(UserError, match=r"4 of 24 rows cannot be used.*row 21: the text is empty"):
        datasets.resolve(f"table/t?path={path}&text=body&task=language-modelling")
    with pytest.raises(UserError, match="give the option text, the name of a column"):
        datasets.resolve(f"table/t?path={path}&task=language-modelling")
    with pytest.raises(UserError, match=r"unknown task 'language_modelling' of table"):
        datasets.resolve(f"table/t?path={path}&text=body&task=language_modelling")
    with pytest.raises(UserError, match="unknown option 'label'"):
        datasets.resolve(f"table/t?path={path}&text=body&label=x&task=language-modelling")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, text in enumerate(PROSE):
        path = tmp_path / f"part{i % 3}" / f"{i}{('.txt', '.md', '.rst')[i % 3]}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_files_of_a_folder_are_documents(folder: Path) -> None:
    (folder / "part0" / "paper.pdf").write_bytes(b"%PDF")
    splits = load(f"folder/prose?path={folder}&task=language-modelling")
    assert texts_of(splits) == sorted(PROSE)
    assert splits.notes["unused"] == {".pdf file": 1}
    assert datasets.card(f"folder/prose?path={folder}&task=language-modelling").modality == "text"


def test_folders_of_splits_are_splits(folder: Path) -> None:
    (folder / "part0").rename(folder / "train")
    (folder / "part1").rename(folder / "test")
    with pytest.raises(UserError, match=r"'part2/11.rst' lies in none"):
        datasets.resolve(f"folder/prose?path={folder}&task=language-modelling")
    (folder / "part2").rename(folder / "val")
    splits = load(f"folder/prose?path={folder}&task=language-modelling")
    assert [len(s) for s in (splits.train, splits.valid, splits.test)] == [7, 6, 7]
    assert splits.flags == ()


def test_damaged_documents_are_named(folder: Path) -> None:
    (folder / "part0" / "latin.txt").write_bytes("ok\nza\xe9\n".encode("latin-1"))
    (folder / "part0" / "none.md").write_text("  \n")
    splits = load(f"folder/prose?path={folder}&task=language-modelling")
    assert splits.notes["corrupt_files"] == [
        "part0/latin.txt: line 2 is not UTF-8 (byte 0xe9)",
        "part0/none.md: the document is empty",
    ]
    assert texts_of(splits) == sorted(PROSE)


def test_a_folder_that_changed_or_holds_none_is_said(folder: Path, tmp_path: Path) -> None:
    ref = datasets.resolve(f"folder/prose?path={folder}&task=language-modelling")
    (folder / "part0" / "0.txt").write_text("another text")
    with pytest.raises(BadData, match="its files are not those"):
        datasets.load(ref)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=r"no file of .txt, .md, .rst"):
        datasets.resolve(f"folder/bare?path={tmp_path / 'bare'}&task=language-modelling")


QUESTIONS = [
    {"q": f"What is {i} + 1?", "c": [str(i), str(i + 1), str(i + 2)], "a": str(i + 1)}
    for i in range(12)
]


@pytest.mark.parametrize("way", ["texts", "numbers", "letters", "labels"])
def test_options_are_read_however_the_right_one_is_called(way: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [dict(row) for row in QUESTIONS]
    for row in rows:
        row["a"] = {"texts": row["a"], "numbers": 1, "letters": "B", "labels": "y"}[way]
        if way == "labels":
            row["c"] = {"text": row["c"], "label": ["x", "y", "z"]}
    path = table(tmp_path / "q.jsonl", rows)
    splits = load(f"table/q?path={path}&question=q&choices=c&label=a&task=multiple-choice")
    for split in (splits.train, splits.valid, splits.test):
        assert set(right_options_of(split).right) == {1}
        one = split.read(0)
        assert one.question.startswith("What is ")
        assert len(one.options) == 3
    assert splits.task == "multiple-choice"


def test_options_stand_as_json_in_delimited_text_and_need_no_question(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    lines = [f'"[""it is {i}"", ""{i} is it""]",{i % 2}' for i in range(12)]
    path.write_text("\n".join(["pair,right", *lines]))
    splits = load(f"table/q?path={path}&choices=pair&label=right&task=multiple-choice")
    assert splits.train.read(0).question == ""
    assert {len(splits.train.read(i).options) for i in range(len(splits.train))} == {2}


@pytest.mark.parametrize(
    ("choices", "label", "why"),
    [
        ("no list", "0", "the choices are no JSON list"),
        ('{"a": 1}', "0", "the choices are no list of texts"),
        ('["one"]', "0", "it has 1 choices, 2 to 100 are read"),
        ('["one", " "]', "0", "a choice is empty"),
        ('["one", null]', "0", "the choices are no list of texts"),
        ('["one", "two"]', "2", "the label '2' is none of its numbers from 0"),
    ],
)
def test_rows_that_cannot_be_used_are_named(
    choices: str, label: str, why: str, tmp_path: Path
) -> None:
    good = [{"c": ["yes", f"no {i}"], "a": "0"} for i in range(19)]
    path = table(tmp_path / "q.jsonl", [*good, {"c": choices, "a": label}])
    splits = load(f"table/q?path={path}&choices=c&label=a&task=multiple-choice")
    assert splits.notes["corrupt_files"] == [f"row 20: {why}"]


@pytest.mark.xdist_group("docstrings")  # whose source files a worker parses once
def test_the_prose_of_docstrings_is_sentences_in_whole_modules() -> None:
    splits = load("packaged/docstrings")
    texts = texts_of(splits)
    assert len(texts) > 300
    assert all(len(text) >= 250 and text.endswith(".") for text in texts)
    assert not [text for text in texts if ">>>" in text or "::" in text or "`" in text]
    train, test = set(splits.train.groups), set(splits.test.groups)
    assert not train & test
    assert splits.test.read(0) != splits.test.read(1)


def test_a_train_split_of_which_test_holds_all_is_said(tmp_path: Path) -> None:
    rows = [{"body": text, "part": part} for text in PROSE for part in ("train", "test")]
    path = table(tmp_path / "t.jsonl", rows)
    with pytest.raises(UserError, match="train has 0 different examples, once twins"):
        datasets.resolve(f"table/t?path={path}&text=body&split=part&task=language-modelling")
