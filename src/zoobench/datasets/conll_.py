"""conll/NAME?path=FILE_OR_FOLDER: a word and its tag a line, sentences parted by blank lines.

    -DOCSTART- O

    Ana B-PER
    lives O

A folder holds a file each of train, valid and test. Options: `word` and `column`, the columns of
the words and of the tags, counted from 1, or from -1 at the end; `scheme`, how entities are
written; `encoding`.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from zoobench.datasets import delimited, listing, local, options, regular, tagged
from zoobench.datasets.ids import text_id
from zoobench.datasets.layouts import role
from zoobench.datasets.splits import Found
from zoobench.datasets.tagged import Sentence
from zoobench.errors import BadData, UserError, opening, unknown
from zoobench.interfaces import Splits
from zoobench.schema import DatasetCard, Ref, digest

VERSION = 1
"""Counts changes of how a file is read."""
OPTIONS = ("path", "word", "column", "scheme", "encoding", "allow_unused")
SUFFIXES = (".conll", ".conllu", ".txt", ".iob", ".iob2", ".tsv", ".bio")
LARGEST = 2**30
"""Bytes of a file, which is read whole."""
DOCUMENT = "-DOCSTART-"
_COMMENT = re.compile(r"#\s*[\w.:-]+\s*=")
_RANGE = re.compile(r"\d+[-.]\d+")
"""A number of CoNLL-U's that is no word's: of several words written as one, or of none."""


@dataclass(frozen=True)
class Columns:
    """Which columns hold the words and the tags: from 1, or from -1 at the end. `ragged`: lines
    need not have as many as each other."""

    word: int = 1
    tag: int = -1
    ragged: bool = False

    def of(self, cells: Sequence[str]) -> tuple[str, str]:
        word, tag = (cells[at - 1 if at > 0 else at] for at in (self.word, self.tag))
        return word, tag


@dataclass
class Parsed:
    """The sentences of a file, and what is wrong with those that cannot be used."""

    sentences: list[Sentence] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def cards() -> tuple[DatasetCard, ...]:
    return ()


def card(ref: Ref) -> DatasetCard:
    """What the name alone shows: classes and sizes are 0, not known."""
    return DatasetCard(
        "conll", ref.name, "text", 0, (0, 0, 0), ref.revision, task=tagged.TASK,
        version=VERSION, about="words and tags in columns",
    )  # fmt: skip


def resolve(ref: Ref, where: str) -> Ref:
    """Revision: a digest of the files. Raises UserError for whatever can be seen in them."""
    options.check(ref, OPTIONS, where)
    options.allow_unused(ref, where)
    _columns(ref, where)
    if (scheme := str(ref.option("scheme", tagged.AUTO))) not in tagged.WAYS:
        raise unknown(where, "scheme", scheme, tagged.WAYS, f"of {ref.id}")
    ref = local.with_path(ref, Path(ref.name).stem)
    return local.resolved(ref, where, partial(_found, ref))


def available(ref: Ref) -> tuple[bool, str]:
    path = options.path_of(ref)
    return path.exists(), f"{path}" if path.exists() else f"no file or folder {path}"


def load(ref: Ref) -> Splits:
    """Raises BadData when a file changed since it was resolved, or cannot be read."""
    return local.loaded(ref, str(options.path_of(ref)), partial(_found, ref))


def _columns(ref: Ref, where: str = "") -> Columns:
    given = {"word": ref.option("word", 1), "column": ref.option("column", -1)}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < abs(value) < 1000:
            raise UserError(
                f"{opening(where)}{name} of {ref.id} is the number of a column, from 1 or "
                f"from -1 at the end, not {value!r}"
            )
    if given["word"] == given["column"]:
        raise UserError(f"{opening(where)}{ref.id}: word and column are the same column")
    return Columns(given["word"], given["column"])


def _found(ref: Ref) -> tuple[Found, str]:
    path, columns = options.path_of(ref), _columns(ref)
    files, notes = _files(path)
    read: dict[str, Parsed] = {}
    content: list[Any] = []
    for split, file in files.items():
        try:
            raw = regular.read(str(file), LARGEST)
        except OSError as error:
            raise BadData(f"{listing.shown(str(file))}: {error.strerror}") from error
        text = delimited.decoded(file, raw, options.text(ref, "encoding"))
        read[split] = parsed(text, listing.shown(str(file)), columns)
        content.append([split, digest([text], 40)])
    faults = [fault for one in read.values() for fault in one.faults]
    named = {split: one.sentences for split, one in read.items()}
    how = tagged.Written(str(ref.option("scheme", tagged.AUTO)), options.allow_unused(ref))
    found = tagged.found(named, faults, how, listing.shown(str(path)), notes)
    return found, digest(sorted(content))


def _files(path: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """The file of each split, and notes. Raises BadData where it is not told which is which."""
    if not path.is_dir():
        if not path.exists():
            raise BadData(f"{path}: there is no such file or folder{options.separated(path)}")
        return {"train": path}, {}
    place, others = listing.shown(str(path)), 0
    files: dict[str, Path] = {}
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.name.startswith(".") or Path(entry.name).suffix.casefold() not in SUFFIXES:
            continue
        split = _role(Path(entry.name).stem)
        if split in files:
            both = f"{files[split].name!r} and {entry.name!r}"
            raise BadData(f"{place}: {both} are both {split}, to go by their names")
        if split:
            files[split] = Path(entry.path)
        else:
            others += 1
    if "train" not in files:
        named = ", ".join(repr(one.name) for one in files.values()) or "none"
        raise BadData(
            f"{place}: no file called train with a suffix of {', '.join(SUFFIXES)} (found: {named})"
        )
    return files, {"unused": {"file that names no split": others}} if others else {}


def _role(stem: str) -> str:
    """The split that a name means, as in train, testset, en_ewt-ud-dev; "" where it means none, or
    two."""
    whole = role(stem)
    if whole in ("train", "valid", "test"):
        return whole
    words = re.split(r"[\W_]+", stem.casefold())
    named = {options.SPLIT_NAMES[word] for word in words if word in options.SPLIT_NAMES}
    return named.pop() if len(named) == 1 else ""


def parsed(text: str, name: str, columns: Columns) -> Parsed:
    """The sentences in `text`, the content of the file `name`.

    Columns are parted by tabs where most lines hold one, else by blanks. A line that begins with
    "#" before a sentence's first word is a comment where it reads "# key = value", or has another
    number of columns than most lines. Raises BadData where there is no such column, or one
    sentence alone.
    """
    lines = re.split(r"\r*\n|\r", text)
    full = [line for line in lines if line.strip(" \t")]
    tabs = 2 * sum("\t" in line for line in full) > len(full)
    cells = [
        (line.split("\t") if tabs else re.split(r"[ \t]+", line.strip(" \t")))
        if line.strip(" \t")
        else []
        for line in lines
    ]
    usual = Counter(len(row) for row in cells if row and row[0] != DOCUMENT).most_common(1)
    wide = usual[0][0] if usual else 0
    if not full:
        raise BadData(f"{name}: it holds no words")
    if max(abs(columns.word), abs(columns.tag)) > wide or wide < 2:
        raise BadData(
            f"{name}: most of its lines have {wide} column{'s' * (wide > 1)}; the words are asked "
            f"of column {columns.word} and the tags of column {columns.tag}"
        )
    made = _Reading(name, columns, wide)
    for number, row in enumerate(cells, start=1):
        made.line(number, row, lines[number - 1])
    made.end()
    made.name_documents()
    if len(made.found.sentences) + len(made.found.faults) == 1:
        raise BadData(f"{name}: it is a single sentence; blank lines part sentences")
    return made.found


class _Reading:
    """Line after line into sentences."""

    def __init__(self, name: str, columns: Columns, wide: int) -> None:
        self.name, self.columns, self.wide = name, columns, wide
        self.found = Parsed()
        self.documents = 0
        self.begins, self.fault = 0, ""
        self.words: list[str] = []
        self.tags: list[str] = []

    def line(self, number: int, row: Sequence[str], text: str) -> None:
        """The columns of the next line, none of a blank one, and its text."""
        if not row:
            self.end()
            return
        if not self.begins and text.startswith("#") and self._is_comment(row, text):
            self.documents += text[1:].split()[:1] == ["newdoc"]
            return
        if DOCUMENT in (row[0], row[min(len(row), abs(self.columns.word)) - 1]):
            self.end()
            self.documents += 1
            return
        if self.columns.word != 1 and _RANGE.fullmatch(row[0]):
            return
        self.begins = self.begins or number
        if len(row) != self.wide and not self.columns.ragged:
            self._wrong(number, f"{len(row)} columns, where most lines have {self.wide}")
            return
        word, tag = (one.strip(" ") for one in self.columns.of(row))
        if not word or not tag:
            self._wrong(number, f"the {'tag' if word else 'word'} is empty")
        self.words.append(word)
        self.tags.append(tag)

    def _is_comment(self, row: Sequence[str], text: str) -> bool:
        return len(row) != self.wide or _COMMENT.match(text) is not None

    def _wrong(self, number: int, why: str) -> None:
        self.fault = self.fault or f"{self.name}: line {number}: {why}"

    def end(self) -> None:
        """What was read since the last blank line is a sentence, or faulty."""
        if self.fault:
            self.found.faults.append(self.fault)
        elif self.words:
            document = str(self.documents) if self.documents else ""
            place = f"{self.name}, line {self.begins}"
            words, tags = tuple(self.words), tuple(self.tags)
            self.found.sentences.append(Sentence(words, tags, document, place))
        self.begins, self.fault = 0, ""
        self.words, self.tags = [], []

    def name_documents(self) -> None:
        """Each document by what is in it, wherever its file lies and whatever else is there: its
        name decides which split it is in."""
        inside: dict[str, list[str]] = defaultdict(list)
        for one in self.found.sentences:
            inside[one.document].append("\n".join(one.words))
        names = {
            number: f"document {text_id(chr(0).join(texts))}" if number else ""
            for number, texts in inside.items()
        }
        self.found.sentences = [
            replace(one, document=names[one.document]) for one in self.found.sentences
        ]
