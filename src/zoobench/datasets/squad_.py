"""squad/NAME?path=FILE: questions on texts in SQuAD's JSON (1.1 or 2.0), or in a folder of it.

    {"data": [{"title": "Sky", "paragraphs": [{"context": "By day the sky is blue.", "qas": [
        {"id": "1", "question": "What colour is the sky by day?",
         "answers": [{"text": "blue", "answer_start": 18}]},
        {"id": "2", "question": "And by night?", "answers": [], "is_impossible": true}]}]}]}

A folder holds a file for train and, where there are such, for valid and test: train-v2.0.json,
dev-v2.0.json, test.json. Options: `path`, `group` ("article", or "paragraph": what is split, and
drawn in an interval, together), `allow_unused`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from zoobench.datasets import listing, local, options, regular
from zoobench.datasets.ids import text_id
from zoobench.datasets.questions import TASK, QuestionRow, found
from zoobench.datasets.splits import Found
from zoobench.errors import BadData, one_line, unknown
from zoobench.interfaces import Splits
from zoobench.schema import DatasetCard, Ref, digest

VERSION = 1
"""Counts changes of how a file is read."""
OPTIONS = ("path", "group", "allow_unused")
GROUPS = ("article", "paragraph")
NAMED = 60
"""Characters of a title or id that are said of it."""
_FEW = {
    "article": ". Give files for valid and test, or group the questions by their texts alone: "
    'group = "paragraph"',
    "paragraph": ". Give files for valid and test",
}
LARGEST = 1 << 32
"""Bytes of a file, which is read whole."""


class _Answer(msgspec.Struct):
    text: str
    answer_start: int | None = None


class _Asked(msgspec.Struct):
    question: str
    id: str | int = ""
    answers: list[_Answer] = []
    is_impossible: bool = False


class _Paragraph(msgspec.Struct):
    context: str
    qas: list[_Asked]


class _Article(msgspec.Struct):
    paragraphs: list[_Paragraph]
    title: str = ""


class _File(msgspec.Struct):
    data: list[_Article]


def cards() -> tuple[DatasetCard, ...]:
    return ()


def card(ref: Ref) -> DatasetCard:
    """What the name alone shows: nothing is read, so sizes are 0, not known."""
    return DatasetCard(
        "squad", ref.name, "text", 0, (0, 0, 0), ref.revision, task=TASK, version=VERSION,
        about="questions on texts in SQuAD's JSON",
    )  # fmt: skip


def resolve(ref: Ref, where: str) -> Ref:
    """Revision: a digest of the files and of what is grouped.

    Raises UserError for whatever can be seen in the files: no SQuAD JSON, two files for one split,
    too many answers that stand in no text, too few articles to split.
    """
    options.check(ref, OPTIONS, where)
    options.allow_unused(ref, where)
    if _grouped(ref) not in GROUPS:
        raise unknown(where, "group", _grouped(ref), GROUPS, f"of {ref.id}")
    ref = local.with_path(ref, Path(ref.name).stem)
    return local.resolved(ref, where, partial(_found, ref))


def available(ref: Ref) -> tuple[bool, str]:
    path = options.path_of(ref)
    there = path.exists()
    return there, f"{path}" if there else f"no {path}"


def load(ref: Ref) -> Splits:
    """Raises BadData where the files changed since `ref` was resolved, and for all that is wrong
    with them."""
    return local.loaded(ref, str(options.path_of(ref)), partial(_found, ref))


def _found(ref: Ref) -> tuple[Found, str]:
    path = options.path_of(ref)
    rows: list[QuestionRow] = []
    sums = []
    for split, file in sorted(_files(path).items()):
        raw = _content(file)
        sums.append([split, hashlib.sha256(raw).hexdigest()])
        held = list(_rows(file, raw, split, _grouped(ref)))
        if not held:
            raise BadData(f"{file}: it holds no questions")
        rows += held
    made = found(rows, str(path), options.allow_unused(ref), _FEW[_grouped(ref)])
    return made, digest([_grouped(ref), sums])


def _files(path: Path) -> dict[str, Path]:
    """Split -> its file; the split of a lone file is "". Raises BadData where one is not told."""
    if not path.is_dir():
        return {"": path}
    named: dict[str, Path] = {}
    others = []
    for entry in listing.entries(str(path))[1]:
        file = Path(entry.path)
        if file.suffix.casefold() != ".json":
            continue
        words = re.split(r"[\W\d_]+", file.stem.casefold())
        splits = {options.SPLIT_NAMES[word] for word in words if word in options.SPLIT_NAMES}
        if len(splits) != 1:
            others.append(file.name)
            continue
        split = splits.pop()
        if split in named:
            raise BadData(
                f"{path}: {named[split].name!r} and {file.name!r} are both the {split} split"
            )
        named[split] = file
    if "train" not in named:
        beside = f"; there is {', '.join(map(repr, others[:3]))}" if others else ""
        raise BadData(
            f"{path}: no file is called train, such as train-v2.0.json{beside}. A single file is "
            "named itself, and split"
        )
    return named


def _content(path: Path) -> bytes:
    try:
        return regular.read(str(path), LARGEST)
    except FileNotFoundError:
        raise BadData(f"{path}: there is no such file{options.separated(path)}") from None
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}") from None


def _rows(path: Path, raw: bytes, split: str, grouped: str) -> Iterator[QuestionRow]:
    """Raises BadData for what is no SQuAD JSON."""
    try:
        whole = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"), type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadData(
            f"{path}: not readable as SQuAD JSON, which is data with articles, their paragraphs "
            f"with a context and qas: {one_line(error)}"
        ) from None
    for number, article in enumerate(whole.data, 1):
        for paragraph in article.paragraphs:
            by_text = f"text {text_id(paragraph.context)}"
            # An article without a title is known by how it begins.
            title = article.title or f"article {text_id(article.paragraphs[0].context)}"
            name = f"{path.name}, article {_shown(article.title or number)}"
            for asked in paragraph.qas:
                yield _row(asked, paragraph.context, name, split,
                           title if grouped == "article" else by_text)  # fmt: skip


def _row(asked: _Asked, context: str, name: str, split: str, group: str) -> QuestionRow:
    answers = tuple((one.text, one.answer_start) for one in asked.answers)
    fault = ""
    if asked.is_impossible and answers:
        fault = "is_impossible, and yet it has an answer"
    elif not asked.is_impossible and not answers:
        fault = "it has no answer, and is_impossible does not say that there is none"
    place = f"{name}, question {_shown(asked.id or asked.question)}"
    return QuestionRow(place, asked.question, context, answers, split, group, fault)


def _shown(name: str | int) -> str:
    """A name for people, no longer than they read."""
    return repr(name if isinstance(name, int) or len(name) <= NAMED else f"{name[:NAMED]}...")


def _grouped(ref: Ref) -> str:
    return options.text(ref, "group") or GROUPS[0]
