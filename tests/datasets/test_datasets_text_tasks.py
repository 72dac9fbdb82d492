"""Tables and hub sets of tagged sentences and of questions: the same rows by the same readers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zoobench import datasets
from zoobench.errors import BadData, UserError
from zoobench.tasks.multiple_choice import Choices
from zoobench.tasks.question_answering import AnswerSpan, answers_of
from zoobench.tasks.token_classification import tags_of

SENTENCES = [(["Ana", f"met{i}", "Bo", "Li"], ["B-PER", "O", "B-PER", "I-PER"]) for i in range(30)]
TAGGED = "table/t?path={}&task=token-classification&words=w&tags=t"
ASKED = "table/q?path={}&task=question-answering&question=q&context=c&answer=a"


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def loaded(name: str) -> Any:
    return datasets.load(datasets.resolve(name, "s"))


def test_sentences_of_a_table(tmp_path: Path) -> None:
    rows = [
        {"w": words, "t": tags, "d": f"doc{i // 3}"} for i, (words, tags) in enumerate(SENTENCES)
    ]
    rows += [{"w": ["Ana"], "t": ["B-PER", "O"], "d": "x"}, {"w": "Ana", "t": ["O"], "d": "x"}]
    made = loaded(TAGGED.format(lines(tmp_path / "t.jsonl", rows)) + "&document=d")
    assert made.classes == ("O", "B-PER", "I-PER")
    assert len(made.train) + len(made.valid) + len(made.test) == 30
    assert made.notes["corrupt"] == 2
    assert "row 31: 1 words, but 2 tags" in str(made.notes)
    assert "row 32: the words are no JSON list of texts" in str(made.notes)
    families = [set(split.groups) for split in (made.train, made.valid, made.test)]
    assert not families[0] & families[1] and not families[1] & families[2]  # noqa: PT018
    assert made.train.read(0)[2:] == ("Bo", "Li")
    assert tags_of(made.train).row(0).tolist() == [1, 0, 1, 2]


def test_tags_by_number_are_named(tmp_path: Path) -> None:
    rows = [{"w": words, "t": [1, 0, 1, 2]} for words, _ in SENTENCES]
    path = lines(tmp_path / "t.jsonl", rows)
    with pytest.raises(UserError, match="the tags are numbers, such as '0': say what they mean"):
        loaded(TAGGED.format(path))
    made = loaded(TAGGED.format(path) + "&names=O,B-PER,I-PER")
    assert made.classes == ("O", "B-PER", "I-PER")
    with pytest.raises(UserError, match=r"unknown scheme 'iob7' of table/t\. Did you mean 'iob"):
        loaded(TAGGED.format(path) + "&names=O,B-PER,I-PER&scheme=iob7")
    with pytest.raises(UserError, match="give the option words, the name of a column"):
        loaded(f"table/t?path={path}&task=token-classification&tags=t")
    with pytest.raises(UserError, match="unknown option 'label'"):
        loaded(TAGGED.format(path) + "&label=t")


@pytest.mark.parametrize("no_tag", [-1, -100, "-100", 3, 2.0, "9" * 5000])
def test_a_number_that_is_none_of_the_names_leaves_its_sentence_out(
    no_tag: Any, tmp_path: Path
) -> None:
    rows = [{"w": words, "t": [1, 0, 1, 2]} for words, _ in SENTENCES]
    rows[4]["t"] = [1, 0, no_tag, 2]
    made = loaded(TAGGED.format(lines(tmp_path / "t.jsonl", rows)) + "&names=O,B-PER,I-PER")
    assert made.classes == ("O", "B-PER", "I-PER")
    (said,) = made.notes["corrupt_files"]
    assert said.startswith("row 5: the tag ")
    assert len(said) <= 303


def test_tags_without_names_are_no_negative_numbers(tmp_path: Path) -> None:
    rows = [{"w": words, "t": tags} for words, tags in SENTENCES]
    rows[4]["t"] = ["B-PER", "O", "-100", "O"]
    made = loaded(TAGGED.format(lines(tmp_path / "t.jsonl", rows)))
    assert made.notes["corrupt_files"] == ["row 5: tag 3 is -100, which is no tag"]
    numbers = [{"w": words, "t": [1, 0, 1.5, 2]} for words, _ in SENTENCES]
    with pytest.raises(UserError, match="the tags are numbers, such as '0': say what they mean"):
        loaded(TAGGED.format(lines(tmp_path / "t.jsonl", numbers)))


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ("token-classification&words=a&tags=a", "words and tags are the same column, 'a'"),
        ("question-answering&question=a&context=b&answer=b", "context and answer are the same"),
        ("multiple-choice&choices=b&label=b", "choices and label are the same column, 'b'"),
    ],
)
@pytest.mark.parametrize("source", ["table/t?path={}&", "hf/me/x?"])
def test_a_column_is_not_its_own_answer(
    columns: str, why: str, source: str, tmp_path: Path
) -> None:
    path = lines(tmp_path / "t.jsonl", [{"a": ["x"], "b": ["y"]}] * 9)
    with pytest.raises(UserError, match=why):
        datasets.resolve(source.format(path) + f"task={columns}", "s")


def test_questions_of_a_table(tmp_path: Path) -> None:
    text = "Ana lives in Ulm. Bo lives in Bonn."
    rows: list[dict[str, Any]] = [
        {"q": f"Where does Ana live, {i}?", "c": text, "a": "Ulm", "g": f"g{i}"} for i in range(9)
    ]
    rows += [
        {"q": "Who lives?", "c": text, "a": json.dumps(["Ana", "Bo"]), "g": "a"},
        {"q": "Where does Cy live?", "c": text, "a": "", "g": "b"},
        {"q": "What?", "c": text, "a": {"text": ["lives"], "answer_start": [21]}, "g": "c"},
    ]
    made = loaded(ASKED.format(lines(tmp_path / "q.jsonl", rows)) + "&group=g")
    golds = {
        split.read(i).question: answers_of(split).golds[i]
        for split in (made.train, made.valid, made.test)
        for i in range(len(split))
    }
    assert golds["Where does Ana live, 3?"] == (AnswerSpan("Ulm", 13),)
    assert golds["Who lives?"] == (AnswerSpan("Ana", 0), AnswerSpan("Bo", 18))
    assert golds["Where does Cy live?"] == ()
    assert golds["What?"] == (AnswerSpan("lives", 21),)
    rows[0]["a"] = "Paris"
    made = loaded(ASKED.format(lines(tmp_path / "q.jsonl", rows)) + "&group=g")
    assert "row 1: the answer 'Paris' is not in its context" in str(made.notes)


@pytest.mark.parametrize(
    ("answer", "start", "why"),
    [
        (["Ulm", "Bonn"], [13], "2 answers, but 1 starts"),
        ({"text": "Ulm"}, "", "the answers are no list of texts"),
        ([["a"], "b"], "", "the answers are no list of texts"),
        ("Ulm", "x", "a start is no whole number"),
        ("Ulm", True, "a start is no whole number"),
        ("Ulm", "9" * 5000, "a start is a number of more than 18 digits"),
        (["Ulm"], ["9" * 5000], "a start is a number of more than 18 digits"),
    ],
)
def test_answers_that_are_none(answer: Any, start: Any, why: str, tmp_path: Path) -> None:
    row = {"q": "Where?", "c": "Ana lives in Ulm.", "a": answer, "s": start}
    path = lines(tmp_path / "q.jsonl", [row] * 3)
    with pytest.raises(UserError, match=why):
        loaded(ASKED.format(path) + "&start=s")


library = pytest.importorskip("datasets")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Any]], None]:
    """Make the library give these tables."""

    def give(tables: Mapping[str, Any]) -> None:
        builder = SimpleNamespace(
            config=SimpleNamespace(data_files=None), download_and_prepare=lambda: None,
            as_dataset=lambda: library.DatasetDict(dict(tables)),
        )  # fmt: skip
        monkeypatch.setattr(library, "load_dataset_builder", lambda *_, **__: builder)

    return give


def sentences(many: int, start: int = 0) -> Any:
    names = ["O", "B-PER", "I-PER"]
    features = library.Features(
        {
            "tokens": library.Sequence(library.Value("string")),
            "ner_tags": library.Sequence(library.ClassLabel(names=names)),
        }
    )
    rows = {
        "tokens": [["Ana", f"met{start + i}", "Bo", "Li"] for i in range(many)],
        "ner_tags": [[1, 0, 1, 2]] * many,
    }
    return library.Dataset.from_dict(rows, features=features)


def test_sentences_of_the_hub(serve: Callable[[Mapping[str, Any]], None]) -> None:
    serve({"train": sentences(30), "test": sentences(9, 30)})
    made = loaded("hf/me/ner?task=token-classification&words=tokens&tags=ner_tags")
    assert made.task == "token-classification"
    assert made.classes == ("O", "B-PER", "I-PER")
    assert (len(made.train), len(made.valid), len(made.test)) == (27, 3, 9)
    assert made.flags == ("derived-valid",)
    assert tags_of(made.test).row(3).tolist() == [1, 0, 1, 2]
    gap = sentences(30).to_dict()
    gap["ner_tags"] = [[1, 0, 1, 2]] * 29 + [[1, -1, 1, 2]]
    serve({"train": library.Dataset.from_dict(gap, features=sentences(1).features)})
    lacking = loaded("hf/me/ner?task=token-classification&words=tokens&tags=ner_tags")
    assert lacking.classes == ("O", "B-PER", "I-PER")
    assert lacking.notes["corrupt_files"] == ["row 30: tag 2 is -1, which is no tag"]
    serve({"train": sentences(30), "test": sentences(9, 30)})
    known = loaded("hf/wnut-17")
    assert known.test.read(0) == ("Ana", "met30", "Bo", "Li")
    with pytest.raises(BadData, match=r"unknown column 'token'.* Did you mean 'tokens'"):
        loaded("hf/me/ner?task=token-classification&words=token&tags=ner_tags")


def test_questions_and_choices_of_the_hub(serve: Callable[[Mapping[str, Any]], None]) -> None:
    squad = {
        "question": [f"Where, {i}?" for i in range(12)], "context": ["Ana lives in Ulm."] * 12,
        "answers": [{"text": ["Ulm", "in Ulm"], "answer_start": [13, 10]}] * 12,
        "title": [f"t{i}" for i in range(12)],
    }  # fmt: skip
    serve(
        {"train": library.Dataset.from_dict(squad), "validation": library.Dataset.from_dict(squad)}
    )
    with pytest.raises(
        BadData, match=r"train has 0 different examples, once .* and 2 are needed"
    ):  # all of it stands in test
        loaded("hf/squad")
    other = {**squad, "question": [f"Who, {i}?" for i in range(12)]}
    serve(
        {"train": library.Dataset.from_dict(other), "validation": library.Dataset.from_dict(squad)}
    )
    made = loaded("hf/squad")
    assert answers_of(made.test).golds[0] == (AnswerSpan("Ulm", 13), AnswerSpan("in Ulm", 10))
    assert sorted(made.test.groups) == sorted(f"t{i}" for i in range(12))
    arc = {
        "question": [f"Which, {i}?" for i in range(12)], "answerKey": ["B"] * 12,
        "choices": [{"text": [f"x{i}", f"y{i}"], "label": ["A", "B"]} for i in range(12)],
    }  # fmt: skip
    serve({"train": library.Dataset.from_dict(arc), "test": library.Dataset.from_dict(
        {**arc, "question": [f"What, {i}?" for i in range(12)]})})  # fmt: skip
    chosen = loaded("hf/arc-easy")
    assert chosen.test.read(0) == Choices("What, 0?", ("x0", "y0"))
    assert set(chosen.test.targets.strata.tolist()) == {1}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("hf/me/x?task=token-classification&words=tokens", "give the option tags"),
        ("hf/me/x?task=token-clasification&words=w&tags=t", "unknown"),
        ("hf/wnut-17?text=tokens", "unknown option 'text'"),
        ("hf/squad?task=token-classification&words=w", "give the option tags"),
    ],
)
def test_names_that_are_refused(name: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        datasets.resolve(name, "s")
