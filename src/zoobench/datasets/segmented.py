"""folder/NAME?path=DIR&task=segmentation: pictures, and a mask for each.

    DIR/classes.txt                     one name a line: the first is pixel value 0
    DIR/images/a.jpg   DIR/masks/a.png  or the same inside train, valid and test folders

A picture's mask has its name, whatever the suffix. 255 is ignored.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from zoobench.datasets import dense, listing, masks, options, ranges, regular, twins
from zoobench.datasets.faults import check_faults
from zoobench.datasets.layouts import Layout, role
from zoobench.datasets.listing import Unused, entries, examples, shown
from zoobench.datasets.readers import Files
from zoobench.datasets.splits import Found
from zoobench.errors import BadData
from zoobench.interfaces import Split
from zoobench.schema import Ref, digest
from zoobench.tasks.segmentation import MOST_CLASSES, Masks

IMAGES, MASKS, CLASSES = "images", "masks", "classes.txt"
MOST_BYTES = 1 << 20
"""Bytes of a classes.txt that are read at most."""


@dataclass(frozen=True)
class MaskedPictures:
    """(split, picture, mask) of each example, sorted by the picture's path; `classes` by number.

    `values` say which class a number of the masks is of, where that is another one.
    """

    root: str
    classes: tuple[str, ...]
    examples: tuple[tuple[str, str, str], ...]
    unused: Unused = field(default_factory=Unused)
    values: tuple[int, ...] = ()

    @property
    def layout(self) -> Layout:
        """The same as of other folders, whose rule is of what may go unused."""
        used = tuple((split, "", picture) for split, picture, _ in self.examples)
        return Layout(self.root, used, self.unused, {}, {})


def read(root: str) -> MaskedPictures:
    """The pairs in the folder `root`. Raises BadData for what its names show to be wrong."""
    classes, unused = classes_of(root), Unused()
    parts = {entry.name: entry.path for entry in entries(root)[0]}
    if IMAGES in parts:
        examples = _pairs(root, "", root, unused)
    else:
        roles = {name: role(name) for name in parts}
        found = [name for name in parts if roles[name] in ("train", "valid", "test")]
        splits = [roles[name] for name in found]
        if "train" not in splits or len(set(splits)) < len(splits):
            raise BadData(
                f"{shown(root)}: no folder {IMAGES!r}, and none called train that holds one. "
                f"Expected {shown(root)}/{IMAGES} and {MASKS}, or the same inside train, valid "
                "and test"
            )
        examples = [one for name in found for one in _pairs(parts[name], roles[name], root, unused)]
    return MaskedPictures(root, classes, tuple(sorted(examples, key=lambda one: one[1])), unused)


def classes_of(root: str) -> tuple[str, ...]:
    """The names of the classes, by number. Raises BadData where they are absent or too many."""
    path = os.path.join(root, CLASSES)
    try:
        lines = regular.read(path, MOST_BYTES).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise BadData(
            f"{shown(path)}: {error.strerror}; it names the classes, one a line, the first that of "
            "pixel value 0"
        ) from error
    except UnicodeDecodeError as error:
        raise BadData(f"{shown(path)}: it is no UTF-8 (byte {error.start})") from error
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if not 2 <= len(names) <= MOST_CLASSES:
        raise BadData(f"{shown(path)}: {len(names)} classes; from 2 to {MOST_CLASSES} are read")
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise BadData(f"{shown(path)}: line {number} is empty")
        if name in seen:
            raise BadData(f"{shown(path)}: lines {seen[name]} and {number} are both {name!r}")
        seen[name] = number
    return tuple(names)


def _pairs(folder: str, split: str, root: str, unused: Unused) -> list[tuple[str, str, str]]:
    """The pictures of one part, and their masks. Raises BadData where one lacks the other."""
    sides = []
    for name in (IMAGES, MASKS):
        path = os.path.join(folder, name)
        if not os.path.isdir(path):
            raise BadData(f"{shown(folder)}: there is no folder {name!r} in it")
        by_stem: dict[str, str] = {}
        for picture in examples(path, unused):
            stem = os.path.splitext(os.path.relpath(picture, path))[0]
            if stem in by_stem:
                raise BadData(f"{shown(path)}: two files are called {shown(stem)!r}")
            by_stem[stem] = picture
        sides.append(by_stem)
    images, labels = sides
    for what, ours, theirs in (("mask", images, labels), ("picture", labels, images)):
        lone = sorted(ours.keys() - theirs.keys())
        if lone:
            more = f" (and {len(lone) - 1} more)" if len(lone) > 1 else ""
            first = shown(os.path.relpath(ours[lone[0]], root))
            raise BadData(f"{shown(root)}: {first!r} has no {what} of its name{more}")
    if not images:
        raise BadData(f"{shown(folder)}: no pictures found in {IMAGES!r}")
    return [(split, images[stem], labels[stem]) for stem in images]


def found(pairs: MaskedPictures, ref: Ref, *, verify: bool) -> tuple[Found, str]:
    """The sound pairs as splits, and the revision; decodes each picture under `verify`, and each
    mask in any case.

    Raises BadData where more of them cannot be used than is allowed, or masks hold no two classes.
    """
    splits, images, labels = zip(*pairs.examples, strict=True)
    ids, wrong, looks = twins.scan(images, verify=verify, grey=ranges.range_of(ref))
    seen, faults = masks.scan(labels, images, len(pairs.classes), pairs.values)
    named = [
        f"{listing.shown(os.path.relpath(path, pairs.root))}: {why}"
        for side, whys in ((images, wrong), (labels, faults))
        for path, why in zip(side, whys, strict=True)
        if why
    ]
    place = shown(pairs.root)
    allowed = options.allow_unused(ref)
    notes = pairs.layout.check_unused(allowed=allowed)
    notes |= check_faults(named, len(ids), place, "example", allowed)
    notes |= looks.notes
    sound = [i for i in range(len(ids)) if not wrong[i] and not faults[i]]

    def split(name: str, *parts: str) -> Split:
        rows = [i for i in sound if splits[i] in parts]
        read = masks.MaskFiles(tuple(labels[i] for i in rows), pairs.values)
        targets = Masks(read, tuple(seen[i] for i in rows), len(pairs.classes))
        files = Files(tuple(images[i] for i in rows), looks.grey)
        return Split(name, tuple(ids[i] for i in rows), targets, files)

    valid = split("valid", "valid") if "valid" in splits else None
    test = split("test", "test") if "test" in splits else None
    train = split("train", "", "train")
    notes |= dense.notes(train, pairs.classes)
    relative = [shown(os.path.relpath(path, pairs.root)) for path in images]
    content = sorted(zip(relative, ids, (one.digest for one in seen), strict=True))
    revision = digest([list(pairs.classes), content])
    made = Found(
        train, valid, test, pairs.classes, "image", notes, task="segmentation", looks=looks
    )
    return made, revision
