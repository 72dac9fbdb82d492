"""How people lay out folders of examples: which folders are splits, and which are classes.

Where a level of folders can be read in two ways, both are said, and the option for each; no way
is ever guessed.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoobench.datasets import labels
from zoobench.datasets.faults import ALLOW, NAMED, REFUSED, WARNED
from zoobench.datasets.listing import (
    PICTURES,
    Kind,
    Unused,
    entries,
    examples,
    holds_examples,
    is_example,
    leads_home,
    leads_nowhere,
    shown,
)
from zoobench.datasets.options import SPLIT_NAMES
from zoobench.datasets.waiting import told
from zoobench.errors import BadData, unknown

UNCLEAR = frozenset(
    ("eval", "evaluation", "holdout", "heldout", "unseen", "fold", "query", "gallery", "unlabeled",
     "unlabelled")
)  # fmt: skip
"""Names of splits of which nobody can say which it is: valid, test, or one of its own."""

ABOUT = frozenset(
    ("set", "sets", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos",
     "split", "folder", "samples")
)  # fmt: skip
"""Words that add nothing to the name of a split: training_set, test-images, train2017."""

PARTS = frozenset(
    ("images", "image", "imgs", "img", "pictures", "photos", "masks", "mask", "labels", "label",
     "annotations", "thumbnails", "thumbs", "previews", "jpegimages", "segmentationclass",
     "segmentationobject", "depth", "groundtruth")
)  # fmt: skip
"""Folders that hold parts of the same examples. Two of them are no two classes."""


@dataclass(frozen=True)
class Layout:
    """What lies in a folder: (split, class, path) of each example, sorted by path.

    `split` is "" where there are no split folders. `empty` are the class folders without an
    example, each with how many files it has that may have been some.
    """

    root: str
    examples: tuple[tuple[str, str, str], ...]
    unused: Unused
    empty: Mapping[str, int]
    notes: Mapping[str, Any]

    @property
    def place(self) -> str:
        return shown(self.root)

    @property
    def share(self) -> float:
        """Of all files that may be examples, the share that is not used."""
        lost = self.unused.lost.total()
        return lost / (lost + len(self.examples))

    @property
    def warns(self) -> bool:
        lost = self.share > WARNED or bool(self.empty) or "linked folder" in self.unused.lost
        return lost or not self.notes.keys().isdisjoint(("merged_labels", "labels_alike"))

    def check_unused(self, *, allowed: bool) -> dict[str, Any]:
        """Notes for the record: `unused` (kind -> count) and `empty_classes`.

        Raises BadData where more than 10% is not used, or a whole class, unless `allowed`.
        """
        lost = self.unused.lost
        first = {
            kind: shown(os.path.relpath(path, self.root))
            for kind, path in self.unused.first.items()
        }
        kinds = "; ".join(
            f"{kind} ({many}, such as {first[kind]!r})" for kind, many in lost.most_common(5)
        )
        gone = [name for name, many in self.empty.items() if many]
        if gone and not allowed:
            raise BadData(f"{self.place}: nothing is read of class {gone[0]!r}: {kinds}. {ALLOW}")
        if self.share > REFUSED and not allowed:
            raise BadData(
                f"{self.place}: {lost.total()} of {lost.total() + len(self.examples)} files that "
                f"may be examples are not used, and {REFUSED:.0%} is the bound: {kinds}. {ALLOW}"
            )
        found: dict[str, Any] = {}
        if lost or self.unused.beside:
            found["unused"] = dict(sorted((lost + self.unused.beside).items()))
        if self.empty:
            found["empty_classes"] = sorted(self.empty)[:NAMED]
        return found


def read(
    root: str, splits: str = "", every: bool = False, words: bool = False, kind: Kind = PICTURES
) -> Layout:
    """The examples in `root`; `splits` and `every` are the options splits and classes = "all",
    `words` is labels = "words".

    Raises BadData where no example is found, or the folders can be read in two ways.
    """
    unused = Unused()
    groups, notes = _groups(root, splits, every, unused, kind)
    spelling = labels.spelt((shown(name) for _, name, _ in groups), words=words)
    found: list[tuple[str, str, str]] = []
    below: defaultdict[str, set[str]] = defaultdict(set)
    empty: Counter[str] = Counter()
    for split, folder, path in groups:
        name = spelling[shown(folder)] or shown(folder)
        before, many = unused.lost.total(), len(found)
        for example in told(examples(path, unused, kind), f"looking through {shown(path)!r}"):
            found.append((split, name, example))
            inside, _, rest = example[len(path) + 1 :].partition(os.sep)
            below[name].add(inside if rest else "")
        if len(found) == many:
            empty[name] += unused.lost.total() - before
    if not found:
        left = ", ".join(f"{kind} ({many})" for kind, many in unused.lost.most_common(5))
        raise BadData(
            f"{shown(root)}: no {kind.noun}s found{f' but {left}' if left else ''}. Expected "
            f"{shown(root)}/CLASS/{kind.example}, or the same inside train, valid and test folders"
        )
    if not every:
        check_names(root, below, kind)
    notes |= labels.notes(spelling)
    gone = {name: many for name, many in empty.items() if name not in below}
    return Layout(root, tuple(sorted(found, key=lambda item: item[2])), unused, gone, notes)


def _groups(
    root: str, splits: str, every: bool, unused: Unused, kind: Kind
) -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
    """(split, class, path) of each class folder, and notes: what other names than ours mean."""
    top = dict(class_folders(root, root, unused, kind))
    chosen = split_folders(root, list(top), splits, every, kind)
    if not chosen:
        return [("", name, path) for name, path in top.items()], {}
    groups = []
    for name, path in top.items():
        if name in chosen:
            groups += [(chosen[name], *group) for group in class_folders(root, path, unused, kind)]
        else:
            for _ in examples(path, unused, kind):
                unused.beside[f"{kind.noun} of a folder that is no split"] += 1
    odd = {
        shown(name): split for name, split in chosen.items() if name.casefold() not in SPLIT_NAMES
    }
    return groups, {"split_folders": odd} if odd else {}


def role(name: str) -> str:
    """The split that a folder's name means: train, valid, test, "?" of `UNCLEAR`, else ""."""
    words = re.findall(r"[^\W\d_]+", name.casefold())
    joined = "".join(word for word in words if word not in ABOUT)
    bare = {joined, *(joined.removesuffix(about) for about in ABOUT)}  # trainset, testdata
    if bare & UNCLEAR:
        return "?"
    return next((SPLIT_NAMES[name] for name in sorted(bare) if name in SPLIT_NAMES), "")


def split_folders(
    root: str, names: Sequence[str], given: str, every: bool, kind: Kind = PICTURES
) -> dict[str, str]:
    """Folder -> split; empty where the folders `names` of `root` are the classes.

    `given` is the option splits, `every` says that each folder is a class. Raises BadData
    where neither is told and both could be meant.
    """
    if given:
        return _given(root, names, given)
    if every:
        return {}
    if not any(role(name) for name in names):
        return {}
    full = [name for name in names if holds_examples(os.path.join(root, name), kind)]
    roles = {name: role(name) for name in full if role(name)}
    others = [name for name in full if name not in roles]
    if not roles:
        return {}
    if not others and not any(_classes_in(os.path.join(root, name)) for name in roles):
        raise BadData(_flat(root, full, kind))
    found = list(roles.values())
    if others or "train" not in found or "?" in found or len(set(found)) < len(found):
        raise BadData(_two_readings(root, roles, others))
    return roles


def class_folders(
    root: str, folder: str, unused: Unused, kind: Kind = PICTURES
) -> list[tuple[str, str]]:
    """(name, path) of each class folder in `folder`; what lies beside them is counted.

    Raises BadData where one cannot be reached: a class less is another question.
    """
    folders, files = entries(folder)
    for entry in files:
        if leads_nowhere(entry):
            raise BadData(
                f"{shown(folder)}: {shown(entry.name)!r} is a link that leads nowhere, and may "
                "have been a class. Mend or remove it"
            )
        if is_example(entry, unused, kind):
            unused.lose(f"{kind.noun} outside of a class folder", entry.path)
    found = []
    for entry in folders:
        if entry.is_symlink() and leads_home(entry.path, root):
            unused.lose("linked folder", entry.path)
        else:
            found.append((entry.name, entry.path))
    return found


def check_names(root: str, classes: Mapping[str, set[str]], kind: Kind = PICTURES) -> None:
    """Raises BadData where the folders taken for classes are none by their names.

    `classes` maps each class to the folders in it that hold its examples, "" for itself.
    """
    if len(classes) == 1:
        ((name, inside),) = classes.items()
        if len(inside) > 1 and "" not in inside:
            raise BadData(
                f"{shown(root)}: only one class ({name!r}). If its folders "
                f"{_list(sorted(inside))} are meant: path = {shown(os.path.join(root, name))!r}"
            )
        return
    parts = sorted(name for name in classes if _plain(name) in PARTS)
    if len(parts) > 1:
        raise BadData(
            f"{shown(root)}: the folders {_list(parts)} look like parts of the same examples, "
            'not like classes. Pictures and their masks are task = "segmentation". To read '
            "one of them alone, give its classes' folder as path; if they are the classes: "
            'classes = "all"'
        )
    below = set().union(*classes.values())
    if all(role(name) for name in below) and "train" in map(role, below):
        raise BadData(
            f"{shown(root)}: each class folder holds folders called {_list(sorted(below))}. If "
            f"these are splits, put them above the classes: train/CLASS/{kind.example}; if their "
            f'{kind.noun}s belong together, to be split anew: classes = "all"'
        )


def _given(root: str, names: Sequence[str], given: str) -> dict[str, str]:
    """What the option splits says: "train=FOLDER,test=FOLDER"; a split may have several."""
    found: dict[str, str] = {}
    for part in given.split(","):
        split, equals, folder = (text.strip() for text in part.partition("="))
        where = f"{shown(root)}: splits = {given!r}"
        if not equals:
            raise BadData(f"{where}: expected train=FOLDER, valid=FOLDER or test=FOLDER")
        if split not in SPLIT_NAMES:
            raise BadData(str(unknown(where, "split", split, ("train", "valid", "test"))))
        if folder not in names:
            raise BadData(str(unknown(where, "folder", folder, map(shown, names))))
        if folder in found:
            raise BadData(f"{where}: the folder {folder!r} is named twice")
        found[folder] = SPLIT_NAMES[split]
    if "train" not in found.values():
        raise BadData(f"{shown(root)}: splits = {given!r} names no train folder")
    return found


def _classes_in(folder: str) -> bool:
    return bool(entries(folder)[0])


def _flat(root: str, names: Sequence[str], kind: Kind) -> str:
    shows = "holds" if kind.sound else "shows"
    return (
        f"{shown(root)}: no class folders in {_list(names)}, so that nothing says what a "
        f"{kind.noun} {shows}. Expected train/CLASS/{kind.example}; where a file's name says its "
        f"class, give a table of files and labels; if {_list(names)} are the classes: "
        'classes = "all"'
    )


def _two_readings(root: str, roles: Mapping[str, str], others: Sequence[str]) -> str:
    named = dict(roles)
    if "train" not in named.values():
        first = next(
            (n for n, split in named.items() if split in ("?", "valid")), next(iter(named))
        )
        named[first] = "train"
    free = [split for split in ("test", "valid") if split not in named.values()]
    for name, split in named.items():
        if split == "?":
            named[name] = free.pop(0) if free else "test"
    order = sorted(named, key=lambda name: ("train", "valid", "test").index(named[name]))
    splits = ",".join(f"{named[name]}={shown(name)}" for name in order)
    left = f" (without {_list(others)})" if others else ""
    return (
        f"{shown(root)}: its folders {_list([*order, *others])} can be read in two ways. As splits"
        f'{left}: splits = "{splits}"; each as a class: classes = "all"'
    )


def _plain(name: str) -> str:
    return re.sub(r"[\W\d_]+", "", name.casefold())


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(shown(name)) for name in names[:5]) + more
