"""Questions on texts as splits, whatever they were read from: where their answers stand, and which
rows cannot be used.

Offsets are characters (code points) of the context as it was given, which nothing normalises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoobench.datasets import options, twins
from zoobench.datasets.faults import check_faults
from zoobench.datasets.ids import text_id
from zoobench.datasets.splits import Found
from zoobench.errors import BadData
from zoobench.files import parse_json
from zoobench.interfaces import Split
from zoobench.schema import Ref
from zoobench.tasks.question_answering import Answers, AnswerSpan, TextQuestion

TASK = "question-answering"
NEEDED = ("question", "context", "answer")
OPTIONAL = ("start", "group")
LISTS = ("answer", "start")
SETTINGS: tuple[str, ...] = ()
DIGITS = 18
"""Of the start of an answer in a table."""


@dataclass(frozen=True)
class QuestionRow:
    """One question as a file has it. `place` names it to people; `answers` are (text, start), the
    start None where it is not said; `fault` is what is wrong with it already, "" where nothing is.
    `split` is "" where there are none, and so is `group` where each question is its own unit.
    """

    place: str
    question: str
    context: str
    answers: tuple[tuple[str, int | None], ...]
    split: str = ""
    group: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Questions:
    """Example i is a question with its context, already in memory."""

    rows: tuple[TextQuestion, ...] = field(repr=False)

    def __call__(self, i: int) -> TextQuestion:
        return self.rows[i]


def located(context: str, text: str, start: int | None) -> int | None:
    """The character of `context` at which `text` stands: at `start`, else at the place nearest to
    it, the first of all where no start is said; None where it stands nowhere."""
    at = min(max(0, start or 0), len(context))
    after = context.find(text, at)
    before = context.rfind(text, 0, max(0, at + len(text) - 1)) if after != at else -1
    places = [place for place in (before, after) if place >= 0]
    return min(places, key=lambda place: abs(place - at)) if places else None


def of_rows(columns: Mapping[str, list[str]], splits: Sequence[str], place: str, ref: Ref) -> Found:
    """Rows of a table or a hub set.

    An `answer` is a text, a JSON list of texts, or a JSON table of `text` and `answer_start` as
    hub sets have it, and empty where the context holds none; `start` is its first character, or a
    list of them, and empty where nobody says. Without a `group` questions on one context are one.
    """
    starts = columns.get("start") or [""] * len(splits)
    groups = columns.get("group") or [""] * len(splits)
    read = zip(
        columns["question"], columns["context"], columns["answer"], starts, splits, groups,
        strict=True,
    )  # fmt: skip
    rows = []
    for i, (question, context, answer, start, split, group) in enumerate(read):
        # What stands in the context is an answer, even where it could be read as a list.
        answers, why = _answers(answer, start, plain=bool(answer) and answer in context)
        group = group.strip() or f"text {text_id(context)}"
        rows.append(QuestionRow(f"row {i + 1}", question, context, answers, split, group, why))
    few = ": name no group, or give the option split" if "group" in columns else ""
    return found(rows, place, options.allow_unused(ref), few)


def _answers(
    answer: str, start: str, *, plain: bool
) -> tuple[tuple[tuple[str, int | None], ...], str]:
    """((text, start) of each answer of a cell, what is wrong with them)."""
    held, said = answer if plain else _json(answer), _json(start)
    if isinstance(held, dict):
        said = held.get("answer_start", said)
        held = held.get("text")
        if not isinstance(held, list):
            return (), "the answers are no list of texts"
    texts = held if isinstance(held, list) else [answer] if answer else []
    places = said if isinstance(said, list) else [said] * len(texts)
    if not all(isinstance(text, str) for text in texts):
        return (), "the answers are no list of texts"
    if len(places) != len(texts):
        return (), f"{len(texts)} answers, but {len(places)} starts"
    written = [str(at) for at in places]  # a table's numbers are texts, in its lists too
    if not all(at == "" or at.isdecimal() for at in written):
        return (), "a start is no whole number"
    if any(len(at) > DIGITS for at in written):
        return (), f"a start is a number of more than {DIGITS} digits"
    pairs = zip(texts, written, strict=True)
    return tuple((text, int(at) if at else None) for text, at in pairs), ""


def _json(cell: str) -> Any:
    """The list, table or whole number that a cell is in JSON, else the cell itself."""
    try:
        value = parse_json(cell)
    except ValueError:
        return cell.strip()
    return value if isinstance(value, (list, dict, int)) else cell.strip()


def found(rows: Sequence[QuestionRow], place: str, allowed: bool | None, few: str = "") -> Found:
    """The sound rows as splits. A row of which no answer stands in its context is faulty; `few`
    says what helps where there are too few groups to split.

    The notes count answers that stand elsewhere than was said (`answers_moved`), and those that
    stand nowhere of questions that have others (`answers_not_in_text`). Raises BadData where more
    rows are faulty than is allowed, and where none is in train.
    """
    if not rows:
        raise BadData(f"{place}: it holds no questions")
    counts: Counter[str] = Counter()
    golds, faults = [], []
    for row in rows:
        answers = _standing(row, counts)
        golds.append(answers)
        faults.append(row.fault or _fault(row, answers))
    named = [f"{row.place}: {why}" for row, why in zip(rows, faults, strict=True) if why]
    notes: dict[str, Any] = {name: many for name, many in sorted(counts.items()) if many}
    notes |= check_faults(named, len(rows), place, "question", allowed)
    texts = ["\0".join((row.question, row.context)) for row in rows]
    ids = [text_id(text) for text in texts]
    sound = [i for i, why in enumerate(faults) if not why]

    def split(name: str, *parts: str) -> Split | None:
        own = [i for i in sound if rows[i].split in parts]
        if not own:
            if name == "train" or any(row.split in parts for row in rows):
                raise BadData(f"{place}: no question of the {name} split can be used")
            return None
        read = Questions(tuple(TextQuestion(rows[i].question, rows[i].context) for i in own))
        targets = Answers(tuple(golds[i] for i in own))
        return Split(name, tuple(ids[i] for i in own), targets, read)

    train = split("train", "", "train")
    assert train is not None  # it has raised
    groups = {ids[i]: rows[i].group for i in sound if rows[i].group}
    looks = twins.of_texts(texts[i] for i in sound)
    valid, test = split("valid", "valid"), split("test", "test")
    _check_groups(train, groups, 1 + (valid is None) + (test is None), place, few)
    return Found(train, valid, test, (), "text", notes, groups, TASK, looks)


def _check_groups(train: Split, groups: dict[str, str], needed: int, place: str, few: str) -> None:
    """Raises BadData where train has fewer groups than splits are to be made of it."""
    many = len({groups.get(one, one) for one in train.ids})
    if many < needed:
        raise BadData(
            f"{place}: its questions are of {many} group{'s' * (many > 1)}, and whole ones are "
            f"split into train, valid and test{few}"
        )


def _standing(row: QuestionRow, counts: Counter[str]) -> tuple[AnswerSpan, ...]:
    """The answers of `row` that stand in its context, each text and place once."""
    answers: dict[AnswerSpan, None] = {}
    lost = moved = 0
    for text, start in row.answers:
        at = located(row.context, text, start) if text else None
        if at is None:
            lost += 1
            continue
        moved += start is not None and at != start
        answers[AnswerSpan(text, at)] = None
    if answers:
        counts["answers_not_in_text"] += lost
        counts["answers_moved"] += moved
    return tuple(answers)


def _fault(row: QuestionRow, answers: Sequence[AnswerSpan]) -> str:
    """What is wrong with a row; "" where nothing is."""
    if not row.question.strip():
        return "the question is empty"
    if not row.context.strip():
        return "the context is empty"
    if row.answers and not answers:
        text = row.answers[0][0]
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        return f"the answer {shown!r} is not in its context" if text else "the answer is empty"
    return ""
