"""The folders of pictures that are judged: what each holds, and what of it cannot be used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zoobench.datasets import listing, twins
from zoobench.datasets.faults import NAMED, REFUSED, raised_as
from zoobench.datasets.options import separated
from zoobench.datasets.readers import Files
from zoobench.datasets.waiting import told
from zoobench.errors import UserError
from zoobench.files import expanded, lies_in
from zoobench.interfaces import Split
from zoobench.tasks.classification import Labels

SAMPLES, REFERENCE, TRAIN = "samples", "reference", "train"
ASKED = {SAMPLES: "SAMPLES", REFERENCE: "--reference", TRAIN: "--train"}
"""What the command calls each folder."""


@dataclass(frozen=True)
class FolderFacts:
    """What is told of a folder: its `place`, how many `pictures` of it are used, how many of those
    have the pixels of an earlier one (`repeated`).

    `left_out` cannot be decoded, `damaged` names some of them with reasons; `unused` counts by
    kind what else lies there and was not read.
    """

    place: str
    pictures: int
    repeated: int = 0
    left_out: int = 0
    damaged: tuple[str, ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PictureFolder:
    """The N pictures of a folder that can be decoded, at any depth, in the order of their names.

    `names` are relative to the folder; `contents` are equal where the decoded pixels are. `lost`
    are the names of those that cannot be decoded.
    """

    facts: FolderFacts
    names: tuple[str, ...]
    contents: tuple[str, ...]
    split: Split
    lost: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def read(given: Mapping[str, Path]) -> dict[str, PictureFolder]:
    """The folders by what they are for: SAMPLES, REFERENCE and perhaps TRAIN.

    Every picture is decoded once. Raises UserError for what is no folder, a folder in another
    one, no pictures, and more than a tenth of them damaged.
    """
    roots = {name: _root(path, ASKED[name]) for name, path in given.items()}
    for name, root in roots.items():
        if name != SAMPLES:
            _check_apart(roots[SAMPLES], root, ASKED[name])
    unused = {name: listing.Unused() for name in roots}
    paths = {name: _pictures(root, ASKED[name], unused[name]) for name, root in roots.items()}
    # In one scan: pictures of more than 8 bits have one range in all folders.
    every = [path for some in paths.values() for path in some]
    ids, faults, looks = twins.scan(every, verify=True)
    contents = looks.contents(ids)
    found, start = {}, 0
    for name, root in roots.items():
        rows = range(start, start + len(paths[name]))
        start = rows.stop
        relative = {i: listing.shown(os.path.relpath(every[i], root)) for i in rows}
        whole = [i for i in rows if not faults[i]]
        damaged = [f"{relative[i]}: {faults[i]}" for i in rows if faults[i]]
        _check_damaged(damaged, len(rows), f"{ASKED[name]} {listing.shown(root)}")
        targets = Labels(np.zeros(len(whole), dtype=np.int64))
        files = Files(tuple(every[i] for i in whole), looks.grey)
        split = Split(name, tuple(ids[i] for i in whole), targets, files, looks.grey.text)
        same = tuple(contents[i] for i in whole)
        facts = FolderFacts(
            listing.shown(root), len(whole), len(same) - len(set(same)), len(damaged),
            tuple(damaged[:NAMED]), dict(unused[name].lost + unused[name].beside),
        )  # fmt: skip
        lost = tuple(relative[i] for i in rows if faults[i])
        names = tuple(relative[i] for i in whole)
        found[name] = PictureFolder(facts, names, same, split, lost)
    return found


def _root(path: Path, what: str) -> str:
    root = expanded(path)
    if not root.is_dir():
        why = "is a file, not a folder" if root.exists() else "there is no such folder"
        raise UserError(f"{what} {root}: {why}{separated(root)}")
    return str(root)


def _check_apart(samples: str, other: str, what: str) -> None:
    if lies_in(Path(samples), other) or lies_in(Path(other), samples):
        raise UserError(
            f"SAMPLES {listing.shown(samples)} and {what} {listing.shown(other)}: one lies in the "
            "other, and its pictures would stand on both sides"
        )


def _pictures(root: str, what: str, unused: listing.Unused) -> list[str]:
    with raised_as(UserError, what):
        walked = listing.examples(root, unused)
        paths = sorted(told(walked, f"looking through {listing.shown(root)!r}"))
    if not paths:
        left = (unused.lost + unused.beside).most_common(5)
        but = f" but {', '.join(f'{kind} ({many})' for kind, many in left)}" if left else ""
        raise UserError(f"{what} {listing.shown(root)}: no pictures found{but}")
    return paths


def _check_damaged(damaged: list[str], total: int, place: str) -> None:
    if len(damaged) > REFUSED * total:
        more = "; ..." if len(damaged) > 3 else ""
        raise UserError(
            f"{place}: {len(damaged)} of {total} pictures cannot be used, and {REFUSED:.0%} is the "
            f"bound: {'; '.join(damaged[:3])}{more}. Mend or remove them"
        )
