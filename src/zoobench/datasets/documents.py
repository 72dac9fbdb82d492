"""Documents of language modelling: the texts of a table's column, or the files of a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from zoobench.datasets import listing, options, regular, twins
from zoobench.datasets.faults import check_faults
from zoobench.datasets.ids import text_id
from zoobench.datasets.readers import Texts
from zoobench.datasets.rows import parted
from zoobench.datasets.splits import Found
from zoobench.datasets.waiting import told
from zoobench.errors import BadData
from zoobench.interfaces import Raw, Split
from zoobench.schema import Ref, digest
from zoobench.tasks.language_modelling import Documents, size_of

TASKS = ("language-modelling", "masked-language-modelling")
NEEDED = ("text",)
OPTIONAL: tuple[str, ...] = ()
LISTS: tuple[str, ...] = ()
SETTINGS: tuple[str, ...] = ()
SUFFIXES = (".txt", ".md", ".rst")
"""Files of a folder that are documents."""
LARGEST = 2**26
"""Bytes of one document."""


@dataclass(frozen=True)
class TextFiles:
    """Example i is a document in a file, read when it is asked for."""

    paths: tuple[str, ...] = field(repr=False)

    def __call__(self, i: int) -> Raw:
        try:
            return _decoded(regular.read(self.paths[i], LARGEST))
        except OSError as error:
            raise BadData(f"{self.paths[i]} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise BadData(f"{self.paths[i]}: {error}") from error


def of_rows(columns: Mapping[str, list[str]], splits: Sequence[str], place: str, ref: Ref) -> Found:
    """Each row's text is a document, as it stands, blanks and line breaks and all."""
    texts = columns["text"]
    faults = ["" if text.strip() else "the text is empty" for text in texts]
    return of_texts(texts, splits, faults, place, ref, options.allow_unused(ref))


def of_texts(
    texts: Sequence[str],
    splits: Sequence[str],
    faults: Sequence[str],
    place: str,
    ref: Ref,
    allowed: bool | None,
) -> Found:
    """Documents that are in memory. Raises BadData where more are faulty than is `allowed`."""
    named = [f"row {i + 1}: {why}" for i, why in enumerate(faults) if why]
    if not texts:
        raise BadData(f"{place}: the table has no rows")
    notes = check_faults(named, len(texts), place, "row", allowed)
    ids = [text_id(text) for text in texts]

    def split(name: str, rows: list[int]) -> Split:
        inside = tuple(texts[i] for i in rows)
        return Split(name, tuple(ids[i] for i in rows), Documents.of(inside), Texts(inside))

    parts = parted(splits, [not why for why in faults], split, place)
    return Found(*parts, (), "text", notes, looks=twins.of_texts(texts), task=_task(ref))


def of_folder(root: str, ref: Ref) -> tuple[Found, str]:
    """The files of `SUFFIXES` below the folder `root`, each a document, and a revision: a digest
    of their paths and contents. Folders in it called train, valid and test are splits.

    Raises BadData where there are no documents, where more than a tenth of them are empty or no
    UTF-8, and where some lie beside folders that are splits.
    """
    place = listing.shown(root)
    paths, unused = _files(root)
    if not paths:
        raise BadData(f"{place}: it holds no document, no file of {', '.join(SUFFIXES)}")
    inside = [os.path.relpath(path, root) for path in paths]
    relative = [listing.shown(path) for path in inside]
    splits = _splits(inside, place)
    ids, sizes, faults, looks = [], [], [], dict[str, str]()
    for path in told(paths, "reading files", len(paths)):
        text, why = _text(path)
        ids.append(text_id(text))
        sizes.append(size_of(text))
        faults.append(why)
        looks |= twins.of_texts([text]).content
    named = [f"{name}: {why}" for name, why in zip(relative, faults, strict=True) if why]
    notes = check_faults(named, len(paths), place, "file", options.allow_unused(ref))
    if unused:
        notes["unused"] = dict(sorted(unused.items()))

    def split(name: str, rows: list[int]) -> Split:
        documents = Documents(np.asarray([sizes[i] for i in rows], dtype=np.int64))
        read = TextFiles(tuple(paths[i] for i in rows))
        return Split(name, tuple(ids[i] for i in rows), documents, read)

    parts = parted(splits, [not why for why in faults], split, place)
    found = Found(*parts, (), "text", notes, looks=twins.Looks(looks), task=_task(ref))
    return found, digest(sorted(zip(relative, ids, strict=True)))


def _task(ref: Ref) -> str:
    return str(ref.option("task", TASKS[0]))


def _files(root: str) -> tuple[list[str], Counter[str]]:
    """The documents below `root` by path, and how many other files there are by kind. Links to
    folders are not followed, since they may lead round in a ring."""
    found: list[str] = []
    unused: Counter[str] = Counter()
    waiting = [root]
    while waiting:
        below, files = listing.entries(waiting.pop())
        for entry in below:
            if entry.is_symlink():
                unused["linked folder"] += 1
            else:
                waiting.append(entry.path)
        for entry in files:
            suffix = os.path.splitext(entry.name)[1].casefold()
            if suffix in SUFFIXES:
                found.append(entry.path)
            else:
                kind = suffix if suffix.isascii() and suffix[1:].isalnum() else ""
                unused[f"{kind} file" if kind else "file without a suffix"] += 1
    return sorted(found), unused


def _splits(inside: Sequence[str], place: str) -> list[str]:
    """The split of each document by its first folder; "" of all where no folder is a split."""
    firsts = [path.split(os.sep)[0].casefold() if os.sep in path else "" for path in inside]
    splits = [options.SPLIT_NAMES.get(first, "") for first in firsts]
    beside = next((path for path, one in zip(inside, splits, strict=True) if not one), "")
    if any(splits) and beside:
        raise BadData(
            f"{place}: some of its folders are splits, and {listing.shown(beside)!r} lies in none"
        )
    return splits


def _text(path: str) -> tuple[str, str]:
    """(the document in a file, what is wrong with it)."""
    try:
        text = _decoded(regular.read(path, LARGEST))
    except OSError as error:
        return "", f"cannot be read: {error.strerror or error}"
    except ValueError as error:
        return "", str(error)
    return text, "" if text.strip() else "the document is empty"


def _decoded(raw: bytes) -> str:
    """UTF-8 text, a byte order mark left out. Raises ValueError with the line that is none."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 (byte 0x{raw[error.start]:02x})") from error
