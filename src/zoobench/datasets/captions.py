"""Pictures with captions, for retrieval: a table's rows, each with a file and what it shows.

A picture may stand in several rows, with a caption each, or in one with a list of captions. Nothing
is learned of them by models that are judged as they are: rows without a split are the test split,
and train may be empty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from zoobench.datasets import options, rows, twins
from zoobench.datasets.faults import check_faults
from zoobench.datasets.readers import Files
from zoobench.datasets.splits import Found
from zoobench.errors import BadData
from zoobench.files import parse_json
from zoobench.interfaces import Split
from zoobench.schema import Ref
from zoobench.tasks.retrieval import Captions

TASK = "retrieval"
NEEDED = ("image", "text")
OPTIONAL: tuple[str, ...] = ()
LISTS = ("text",)
SETTINGS: tuple[str, ...] = ()
MOST = 1000
"""Captions of a picture."""


@dataclass
class _Picture:
    """A file, its split, and its captions; `row` is the first that names it, from 1."""

    file: str
    split: str
    row: int
    captions: list[str] = field(default_factory=list)
    fault: str = ""


def of_rows(columns: Mapping[str, list[str]], splits: Sequence[str], place: str, ref: Ref) -> Found:
    """Rows as a table has them: `image` is a file in the table's folder, `text` a caption, or a
    list of them as JSON. Raises BadData where more are faulty than is allowed."""
    pictures: dict[str, _Picture] = {}
    for i, (name, text) in enumerate(zip(columns["image"], columns["text"], strict=True)):
        one = pictures.setdefault(os.path.normpath(name), _Picture(name, splits[i], i + 1))
        one.fault = one.fault or rows.away(name)
        if one.split != splits[i]:
            raise BadData(
                f"{place}: row {i + 1}: {name!r} is in the split {splits[i]!r}, and in row "
                f"{one.row} in {one.split!r}"
            )
        captions, why = _captions(text)
        one.captions += captions
        one.fault = one.fault or why
    folder = os.path.dirname(place)
    return found(list(pictures.values()), folder, place, options.allow_unused(ref))


def of_files(files: Mapping[str, Sequence[str]], folder: str) -> Found:
    """File of a folder -> its captions, all of the test split. Raises BadData where some are
    damaged."""
    pictures = [
        _Picture(path, "", i + 1, list(texts)) for i, (path, texts) in enumerate(files.items())
    ]
    return found(pictures, folder, folder, None)


def found(pictures: Sequence[_Picture], folder: str, place: str, allowed: bool | None) -> Found:
    """Pictures whose files are named from `folder`; `place` is what errors name."""
    if not pictures:
        raise BadData(f"{place}: the table has no rows")
    paths = ["" if one.fault else os.path.join(folder, one.file) for one in pictures]
    ids, faults, looks = twins.scan(paths, verify=True)
    faults = [one.fault or why for one, why in zip(pictures, faults, strict=True)]
    named = [
        f"row {one.row} ({one.file}): {why}"
        for one, why in zip(pictures, faults, strict=True)
        if why
    ]
    notes = {**check_faults(named, len(pictures), place, "picture", allowed), **looks.notes}

    def split(name: str) -> Split:
        """Rows without a split are in test."""
        sound = [i for i, why in enumerate(faults) if not why]
        at = [i for i in sound if (pictures[i].split or "test") == name]
        targets = Captions(tuple(tuple(pictures[i].captions) for i in at))
        read = Files(tuple(paths[i] for i in at), looks.grey)
        return Split(name, tuple(ids[i] for i in at), targets, read)

    train, valid, test = (split(name) for name in ("train", "valid", "test"))
    if not len(test):
        raise BadData(f"{place}: nothing is in the test split")
    return Found(train, valid, test, (), "image", notes, task=TASK, looks=looks)


def _captions(text: str) -> tuple[list[str], str]:
    """(the captions in a cell, what is wrong with it): of a list each of its texts."""
    texts = [text]
    if text.lstrip().startswith("["):
        try:
            body = parse_json(text)
        except ValueError:
            body = None
        if isinstance(body, list):
            texts = [one if isinstance(one, str) else json.dumps(one) for one in body]
    if len(texts) > MOST:
        return [], f"it has {len(texts)} captions, and {MOST} are the most"
    kept = [one.strip() for one in texts if one.strip()]
    return kept, "" if kept else "the caption is empty"
