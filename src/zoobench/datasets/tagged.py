"""Sentences whose words have a tag each, wherever they come from: one way of writing entities, and
splits of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zoobench.datasets import options, twins
from zoobench.datasets.faults import NAMED, check_faults
from zoobench.datasets.ids import text_id
from zoobench.datasets.readers import Words
from zoobench.datasets.splits import Found
from zoobench.errors import BadData, unknown
from zoobench.files import parse_json
from zoobench.interfaces import Split
from zoobench.schema import Ref
from zoobench.tasks.tagsets import SCHEMES, as_iob2, ordered, parts, scheme_of
from zoobench.tasks.token_classification import Tags

TASK = "token-classification"
NEEDED = ("words", "tags")
OPTIONAL = ("document",)
LISTS = ("words", "tags")
SETTINGS = ("scheme", "names")
AUTO = "auto"
WAYS = (AUTO, *SCHEMES)
"""What the option `scheme` may be."""
MOST_TAGS = 1000
"""Different tags of a dataset; a column of words has more."""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Sentence:
    """Words and as many tags; `document` names what they were cut from, "" where nobody says, and
    `place` where they stand, for people."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    document: str = ""
    place: str = ""


@dataclass(frozen=True)
class Written:
    """What a user says of tags: the way that entities are written in, and whether more than a tenth
    of the sentences may be left out."""

    scheme: str = AUTO
    allow_unused: bool = False


def of_rows(columns: Mapping[str, list[str]], splits: Sequence[str], place: str, ref: Ref) -> Found:
    """Rows of a table or a hub set: `words` and `tags` are JSON lists, `document` names what a
    sentence is from. The options `scheme` and `names` are as of CoNLL files."""
    names = tuple(one.strip() for one in options.text(ref, "names").split(",") if one.strip())
    documents = columns.get("document") or [""] * len(splits)
    parts_of: dict[str, list[Sentence]] = {name or "train": [] for name in ("", *splits)}
    faults = []
    rows = zip(columns["words"], columns["tags"], documents, splits, strict=True)
    for i, (words, tags, document, split) in enumerate(rows):
        at = f"row {i + 1}"
        try:
            one = Sentence(_list(words, "words"), named(_list(tags, "tags"), names), document, at)
            if why := fault(one.words, one.tags):
                raise ValueError(why)
        except ValueError as error:
            faults.append(f"{at}: {error}")
            continue
        parts_of[split or "train"].append(one)
    how = Written(options.text(ref, "scheme") or AUTO, options.allow_unused(ref))
    if how.scheme not in WAYS:
        raise unknown("", "scheme", how.scheme, WAYS, f"of {ref.id}")
    return found(parts_of, faults, how, place, {})


def _list(text: str, what: str) -> tuple[str, ...]:
    """The texts of a JSON list; numbers as they are written. Raises ValueError for another cell."""
    try:
        held = parse_json(text, parse_int=str, parse_float=str)
    except ValueError:
        held = None
    if not isinstance(held, list) or not all(isinstance(one, str) for one in held):
        raise ValueError(f"the {what} are no JSON list of texts")
    return tuple(held)


def found(
    parts_of: Mapping[str, Sequence[Sentence]],
    faults: Sequence[str],
    how: Written,
    where: str,
    notes: Mapping[str, Any],
) -> Found:
    """The splits of sentences by their names, "train" among them, with tags in IOB2, or plain.

    Sentences of one document are one unit. One whose tags are none of the scheme is left out, as
    those of the `faults` already are: up to a tenth. Raises BadData above that, and where train
    holds fewer than two tags.
    """
    scheme = how.scheme
    if scheme == AUTO:
        scheme = scheme_of(one.tags for all_ in parts_of.values() for one in all_)
    written: dict[str, list[Sentence]] = {name: [] for name in parts_of}
    wrong, repaired = list(faults), []
    for name, one in ((name, one) for name, all_ in parts_of.items() for one in all_):
        try:
            tags, broken = as_iob2(one.tags, scheme)
        except ValueError as error:
            wrong.append(f"{one.place}: {error}")
            continue
        if broken:
            repaired.append(one.place)
        written[name].append(replace(one, tags=tuple(tags)))
    total = len(faults) + sum(map(len, parts_of.values()))
    damaged = check_faults(wrong, total, where, "sentence", how.allow_unused)
    seen = {tag for all_ in written.values() for one in all_ for tag in one.tags}
    names = ordered(seen, scheme)
    _check(written, names, scheme, where)
    learned = {tag for one in written["train"] for tag in one.tags}
    absent = [name for name in names if name in seen - learned]
    made = {
        **notes,
        **damaged,
        "scheme": scheme,
        **({"repaired": len(repaired), "repaired_tags": repaired[:NAMED]} if repaired else {}),
        **({"classes_not_in_train": absent} if absent else {}),
    }
    splits = {name: _split(name, sentences, names) for name, sentences in written.items()}
    texts = ("\n".join(one.words) for all_ in written.values() for one in all_)
    return Found(
        splits["train"], splits.get("valid"), splits.get("test"), names, "text", made, task=TASK,
        looks=twins.of_texts(texts),
    )  # fmt: skip


def _check(
    written: Mapping[str, Sequence[Sentence]], names: Sequence[str], scheme: str, where: str
) -> None:
    if not written.get("train"):
        raise BadData(f"{where}: no sentence is in the train split")
    seen = {tag for one in written["train"] for tag in one.tags}
    if len(seen) < 2:
        raise BadData(f"{where}: train holds only the tag {seen.pop() if seen else ''!r}")
    if len(names) > MOST_TAGS:
        raise BadData(
            f"{where}: {len(names)} different tags, such as {names[1]!r}; {MOST_TAGS} are read at "
            "most. Is it the column of tags?"
        )
    if all(_NUMBER.fullmatch(name) for name in names):
        raise BadData(
            f"{where}: the tags are numbers, such as {names[0]!r}: say what they mean, as in "
            "names=O,B-PER,I-PER"
        )
    if scheme == "plain" and all(name == "O" or parts(name)[0] in ("B", "I") for name in names):
        raise BadData(f"{where}: the tags are IOB's, such as {names[-1]!r}, and not plain")


def _split(name: str, sentences: Sequence[Sentence], names: tuple[str, ...]) -> Split:
    words = tuple(one.words for one in sentences)
    ids = tuple(text_id("\n".join(one)) for one in words)
    groups: tuple[str, ...] = ()
    if any(one.document for one in sentences):
        groups = tuple(one.document or own for one, own in zip(sentences, ids, strict=True))
    targets = Tags.of([one.tags for one in sentences], names)
    return Split(name, ids, targets, Words(words), groups=groups)


def named(tags: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Tags by their `names`, where they are numbers of those. Raises ValueError for another."""
    out = []
    for tag in tags:
        if names and _NUMBER.fullmatch(tag):
            at = int(tag) if tag.isdecimal() and len(tag) <= len(str(MOST_TAGS)) else len(names)
            if at >= len(names):
                raise ValueError(f"the tag {tag} is none of the {len(names)} names")
            tag = names[at]
        out.append(tag)
    return tuple(out)


def fault(words: Sequence[str], tags: Sequence[str]) -> str:
    """What is wrong with a sentence; "" where nothing is."""
    if not words:
        return "it has no words"
    if len(words) != len(tags):
        return f"{len(words)} words, but {len(tags)} tags"
    for what, texts in (("word", words), ("tag", tags)):
        if (at := next((i for i, text in enumerate(texts) if not text), None)) is not None:
            return f"{what} {at + 1} is empty"
    # What says that a word has no tag, as -100 of its later pieces, is no tag of its own.
    if (at := next((i for i, tag in enumerate(tags) if _is_negative(tag)), None)) is not None:
        return f"tag {at + 1} is {tags[at]}, which is no tag"
    return ""


def _is_negative(tag: str) -> bool:
    return tag.startswith("-") and _NUMBER.fullmatch(tag) is not None
