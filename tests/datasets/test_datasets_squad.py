"""Questions on texts: where answers stand, and SQuAD's JSON with all that may be wrong with it."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from zoobench import datasets
from zoobench.datasets.questions import QuestionRow, found, located
from zoobench.errors import BadData, UserError
from zoobench.interfaces import Split
from zoobench.tasks.question_answering import answers_of

SKY = "Ciel é: by day the sky is blue, by night 🌙 it is black; the sea is blue."


def asked(number: str, answer: str | None, context: str = SKY, off: int = 0) -> dict[str, Any]:
    if answer is None:
        return {
            "id": number,
            "question": f"What of {number}?",
            "answers": [],
            "is_impossible": True,
        }
    start = context.find(answer) + off
    return {
        "id": number,
        "question": f"What colour is {number}?",
        "answers": [{"text": answer, "answer_start": start}],
    }


def article(title: str, rows: Sequence[dict[str, Any]], context: str = SKY) -> dict[str, Any]:
    return {"title": title, "paragraphs": [{"context": context, "qas": list(rows)}]}


def written(path: Path, articles: Sequence[Any], version: str = "v2.0") -> Path:
    path.write_text(json.dumps({"version": version, "data": list(articles)}), encoding="utf-8")
    return path


def many(n: int = 12) -> list[dict[str, Any]]:
    colours = ("blue", "black", "sky")
    return [
        article(f"Title {i}", [asked(f"{i}-{k}", one) for k, one in enumerate(colours)])
        for i in range(n)
    ]


def loaded(path: Path, options: str = "") -> Any:
    return datasets.load(datasets.resolve(f"squad/mine?path={path}{options}"))


def spans(split: Split) -> list[tuple[str, str]]:
    """What stands in each context where the first answer says, and that answer."""
    rows = [(split.read(i).context, gold) for i, gold in enumerate(answers_of(split).golds)]
    return [(text[one.start : one.end], one.text) for text, gold in rows for one in gold]


def test_a_single_file_is_split_by_whole_articles(tmp_path: Path) -> None:
    splits = loaded(written(tmp_path / "sky.json", many()))
    parts = [set(split.groups) for split in (splits.train, splits.valid, splits.test)]
    assert [len(part) for part in parts] == [9, 1, 2]
    assert len(parts[0] | parts[1] | parts[2]) == 12
    assert splits.flags == ("derived-test", "derived-valid")
    assert splits.task == "question-answering"
    assert splits.test.read(0).question.startswith("What colour is")
    assert len(spans(splits.train)) == 27
    assert all(inside == text for inside, text in spans(splits.train))


def test_a_folder_names_its_splits_as_squad_does(tmp_path: Path) -> None:
    written(tmp_path / "train-v2.0.json", many(4))
    written(tmp_path / "dev-v2.0.json", [article("Dev", [asked("d", "black"), asked("e", None)])])
    written(tmp_path / "My_test.json", [article("Test", [asked("t", "sky")])])
    (tmp_path / "notes.txt").write_text("not read")
    splits = loaded(tmp_path)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (12, 2, 1)
    assert splits.flags == ()
    assert answers_of(splits.valid).answerable.tolist() == [True, False]
    assert set(splits.test.groups) == {"Test"}


def test_offsets_are_characters_of_the_text_as_it_is(tmp_path: Path) -> None:
    odd = "e\u0301\u200d\u00a0x 🇩🇪 \r\n\tdef\u0301 東京\u3000ﬁ"
    rows = [asked(str(i), odd[i:j], odd) for i in range(len(odd)) for j in (i + 1, i + 3)]
    for row in rows:
        row["answers"][0]["answer_start"] = int(row["id"])
    data = [article("A", rows, odd), *many()]
    splits = loaded(written(tmp_path / "odd.json", data))
    for split in (splits.train, splits.valid, splits.test):
        assert all(inside == text for inside, text in spans(split))
        assert "answers_moved" not in splits.notes
    whole = {
        split.read(i).context for split in (splits.train, splits.test) for i in range(len(split))
    }
    assert odd in whole


def test_an_answer_is_found_at_the_place_nearest_to_what_is_said() -> None:
    draw = random.Random(1)
    for _ in range(500):
        text = "".join(draw.choices("ab ", k=30))
        answer = "".join(draw.choices("ab ", k=draw.randint(1, 4)))
        start = draw.choice([None, *range(-2, 33)])
        places = [i for i in range(len(text)) if text.startswith(answer, i)]
        at = located(text, answer, start)
        assert (at is None) == (not places)
        if at is not None:
            wanted = min(max(0, start or 0), len(text))
            assert text[at : at + len(answer)] == answer
            assert abs(at - wanted) == min(abs(place - wanted) for place in places)


def test_an_offset_that_is_off_by_one_is_mended_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = [article("Off", [asked("1", "black", off=1), asked("2", "night", off=-1)]), *many()]
    splits = loaded(written(tmp_path / "off.json", data))
    assert splits.notes["answers_moved"] == 2
    assert "squad/mine: answers that stand elsewhere than is said: 2" in caplog.text
    for split in (splits.train, splits.valid, splits.test):
        assert all(inside == text for inside, text in spans(split))


def test_answers_that_stand_nowhere_are_counted_and_named(tmp_path: Path) -> None:
    lost = asked("7", "blue")
    lost["answers"] = [{"text": "green", "answer_start": 3}]
    half = asked("8", "blue")
    half["answers"].append({"text": "azure", "answer_start": 3})
    data = [article("Odd", [lost, half]), *many()]
    splits = loaded(written(tmp_path / "odd.json", data))
    assert splits.notes["corrupt"] == 1
    name = "odd.json, article 'Odd', question '7': the answer 'green' is not in its context"
    assert splits.notes["corrupt_files"] == [name]
    assert splits.notes["answers_not_in_text"] == 1
    ten = [dict(lost, id=str(i), question=f"{i}?") for i in range(9)]
    path = written(tmp_path / "bad.json", [article("Odd", ten), *many()])
    with pytest.raises(UserError, match=r"9 of 45 questions cannot be used.*allow_unused = true"):
        loaded(path)
    assert loaded(path, "&allow_unused=true").notes["corrupt"] == 9


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"question": " "}, "the question is empty"),
        ({"answers": [{"text": "", "answer_start": 0}]}, "the answer is empty"),
        ({"answers": []}, "is_impossible does not say that there is none"),
        ({"is_impossible": True}, "is_impossible, and yet it has an answer"),
    ],
)
def test_what_is_wrong_with_a_question_is_said(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    path = written(tmp_path / "a.json", [article("A", [{**asked("1", "blue"), **change}]), *many()])
    (said,) = loaded(path).notes["corrupt_files"]
    assert said == f"a.json, article 'A', question '1': {said.rpartition(': ')[2]}"
    assert why in said


def test_too_few_articles_can_be_split_by_paragraph(tmp_path: Path) -> None:
    texts = [SKY + f" {i}" for i in range(12)]
    one = {
        "title": "One",
        "paragraphs": [
            {"context": t, "qas": [asked(t, t.split()[int(t.split()[-1])], t)]} for t in texts
        ],
    }
    path = written(tmp_path / "one.json", [one])
    with pytest.raises(UserError, match=r'of 1 group,.*group = "paragraph"'):
        loaded(path)
    splits = loaded(path, "&group=paragraph")
    with pytest.raises(UserError, match=r"of 1 group, .*test$"):
        loaded(written(tmp_path / "text.json", many()), "&group=paragraph")
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 12
    three = loaded(written(tmp_path / "three.json", many(3)))
    assert [len(set(s.groups)) for s in (three.train, three.valid, three.test)] == [1, 1, 1]


def test_the_same_question_on_the_same_text_stands_once(tmp_path: Path) -> None:
    twin = asked("again", "blue")
    twin["question"] = "What colour  is 0-0?"
    other = asked("other", "blue")
    other["question"] = "What colour is 1-1?"
    splits = loaded(written(tmp_path / "twin.json", [article("Twin", [twin, other]), *many()]))
    assert splits.notes["duplicates"] == 1
    assert splits.notes["conflicting_labels"] == 1
    every = [
        s.read(i).question for s in (splits.train, splits.valid, splits.test) for i in range(len(s))
    ]
    assert len(every) == 35
    assert "What colour is 1-1?" not in every


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "not readable as SQuAD JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"data": [{"paragraphs": [{"qas": []}]}]}', "missing required field `context`"),
        (b'{"data": [{"paragraphs": [{"context": 3, "qas": []}]}]}', "Expected `str`"),
        (b'{"data": []}', "it holds no questions"),
        (b"\xff\xfe{}", "not readable as SQuAD JSON"),
        (b'{"data": ' + b"[" * 100_000, "not readable as SQuAD JSON"),
    ],
)
def test_what_is_no_squad_json_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=why):
        loaded(path)


def test_names_of_files_splits_and_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        loaded(tmp_path / "absent.json")
    written(tmp_path / "questions.json", many())
    with pytest.raises(UserError, match=r"no file is called train.*'questions.json'"):
        loaded(tmp_path)
    written(tmp_path / "train.json", many())
    written(tmp_path / "train-v1.1.json", many())
    with pytest.raises(UserError, match="are both the train split"):
        loaded(tmp_path)
    with pytest.raises(UserError, match="Did you mean 'paragraph'"):
        loaded(tmp_path / "train.json", "&group=paragraphs")
    with pytest.raises(UserError, match="unknown option 'split'"):
        loaded(tmp_path / "train.json", "&split=train")


def test_a_file_that_changed_is_not_what_was_pinned(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", many())
    ref = datasets.resolve(f"squad/mine?path={path}")
    assert datasets.resolve(f"squad/{path}").revision == ref.revision
    written(path, many(11))
    with pytest.raises(BadData, match="is not what"):
        datasets.load(ref)


def test_a_split_without_a_sound_question_is_an_error() -> None:
    rows = [QuestionRow(f"row {i}", f"q{i}", "the sky", (("sky", 4),)) for i in range(30)]
    rows.append(QuestionRow("row 31", "q31", "the sky", (("sea", 0),), split="test"))
    with pytest.raises(BadData, match="no question of the test split can be used"):
        found(rows, "here", allowed=False)


def rows_of(path: Path, rows: Sequence[dict[str, Any]], options: str = "") -> Any:
    path.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8"
    )
    name = f"table/mine?path={path}&task=question-answering&question=q&context=c&answer=a{options}"
    return datasets.load(datasets.resolve(name))


def lines(n: int = 30) -> list[dict[str, Any]]:
    texts = [f"{SKY} {i}" for i in range(n)]
    return [
        {
            "q": f"{i}?",
            "c": text,
            "a": ("blue", "black", "")[i % 3],
            "s": (text.find("blue"), text.find("black"), None)[i % 3],
            "g": f"g{i % 10}",
        }
        for i, text in enumerate(texts)
    ]


def test_a_table_has_an_answer_a_list_of_them_or_none(tmp_path: Path) -> None:
    rows = lines()
    rows[0]["a"] = ["blue", "sky is blue"]
    rows[1]["a"] = json.dumps(["black", "it is black"])
    rows[2]["a"] = []
    rows[3]["a"], rows[3]["c"] = "[1, 2]", "The list [1, 2] has two. "
    splits = rows_of(tmp_path / "rows.jsonl", rows)
    golds = {
        split.read(i).question: [one.text for one in gold]
        for split in (splits.train, splits.valid, splits.test)
        for i, gold in enumerate(answers_of(split).golds)
    }
    assert golds["0?"] == ["blue", "sky is blue"]
    assert golds["1?"] == ["black", "it is black"]
    assert golds["2?"] == golds["5?"] == []
    assert golds["3?"] == ["[1, 2]"]
    for split in (splits.train, splits.valid, splits.test):
        assert all(inside == text for inside, text in spans(split))
    assert len(set(splits.train.groups)) == len(splits.train), "each text is its own group"


def test_a_table_says_where_answers_begin_and_what_is_split_together(tmp_path: Path) -> None:
    rows = lines()
    second = SKY.rindex("blue")
    rows[0]["s"] = second
    splits = rows_of(tmp_path / "rows.jsonl", rows, "&start=s&group=g")
    starts = {
        split.read(i).question: gold[0].start
        for split in (splits.train, splits.valid, splits.test)
        for i, gold in enumerate(answers_of(split).golds)
        if gold
    }
    assert starts["0?"] == second
    assert starts["3?"] == SKY.index("blue")
    groups = [set(s.groups) for s in (splits.train, splits.valid, splits.test)]
    assert not groups[0] & groups[2]
    assert set.union(*groups) == {f"g{i}" for i in range(10)}
    rows[1]["s"], rows[4]["s"] = "here", [1, 2]
    notes = rows_of(tmp_path / "bad.jsonl", rows, "&start=s").notes
    assert notes["corrupt_files"] == [
        "row 2: a start is no whole number", "row 5: 1 answers, but 2 starts",
    ]  # fmt: skip


def test_a_csv_and_the_hub_s_form_of_answers_are_read_alike(tmp_path: Path) -> None:
    import csv

    rows = lines()
    hub = [
        dict(
            row,
            a={
                "text": [row["a"]] if row["a"] else [],
                "answer_start": [row["s"]] if row["a"] else [],
            },
        )
        for row in rows
    ]
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["q", "c", "a", "s", "g"])
        writer.writeheader()
        writer.writerows(rows)
    name = f"table/mine?path={path}&task=question-answering&question=q&context=c&answer=a&start=s"
    plain = datasets.load(datasets.resolve(name))
    nested = rows_of(tmp_path / "hub.jsonl", hub)
    assert plain.fingerprints == nested.fingerprints
    with pytest.raises(UserError, match="give the option answer"):
        datasets.resolve(f"table/mine?path={path}&task=question-answering&question=q&context=c")
    with pytest.raises(UserError, match="column 'nothing'"):
        datasets.resolve(name.replace("answer=a", "answer=nothing"))
