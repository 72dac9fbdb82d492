"""folder/NAME?path=DIR&masks=NAME: where in a picture its class is to be seen.

    birds/pictures/train/owl/1.jpg     path = "birds/pictures", masks = "masks"
    birds/masks/train/owl/1.png

The folder of masks lies beside that of the pictures. A mask has its picture's name, whatever the
suffix, and is not 0 where the class is; a picture may have none. Nothing learns from them: they are
what an explanation is held against (the pointing game).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from zoobench.datasets import masks, options
from zoobench.datasets.listing import Unused, examples, shown
from zoobench.errors import BadData
from zoobench.schema import Ref, digest
from zoobench.tasks.segmentation import IGNORED, Mask

OPTION = "masks"


@dataclass(frozen=True)
class EvidenceFiles:
    """Of picture i: what its mask's file holds, None where its path is ""."""

    paths: tuple[str, ...] = field(repr=False)

    def __call__(self, i: int) -> Mask | None:
        return masks.decode(self.paths[i]) if self.paths[i] else None


@dataclass(frozen=True)
class MasksBeside:
    """`mask_of` maps the path of a picture to that of its mask; `digest` is of all that they hold,
    "" where no masks are asked for."""

    mask_of: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""

    def of(self, pictures: Sequence[str]) -> EvidenceFiles | None:
        """Of the pictures at these paths, None where there are no masks at all."""
        if not self.digest:
            return None
        return EvidenceFiles(tuple(self.mask_of.get(path, "") for path in pictures))


def beside(ref: Ref, root: str, pictures: Sequence[str]) -> MasksBeside:
    """The masks that `ref` asks for, of the `pictures` in the folder `root`. Each is decoded once.

    Raises BadData where the folder is absent, holds no mask of a picture, or one that cannot be
    used.
    """
    name = options.text(ref, OPTION)
    if not name:
        return MasksBeside()
    if name != os.path.basename(name) or name in (os.curdir, os.pardir):
        raise BadData(
            f"masks = {name!r} must be the name alone of a folder that lies beside {shown(root)}"
        )
    folder = os.path.join(os.path.dirname(os.path.abspath(root)), name)
    if not os.path.isdir(folder):
        raise BadData(f"{shown(root)}: there is no folder {name!r} beside it to hold masks")
    by_stem: dict[str, str] = {}
    for path in sorted(examples(folder, Unused())):
        stem = os.path.splitext(os.path.relpath(path, folder))[0]
        if stem in by_stem:
            raise BadData(f"{shown(folder)}: two files are called {shown(stem)!r}")
        by_stem[stem] = path
    stems = {path: os.path.splitext(os.path.relpath(path, root))[0] for path in pictures}
    mask_of = {path: by_stem[stem] for path, stem in stems.items() if stem in by_stem}
    if not mask_of:
        first = shown(os.path.relpath(pictures[0], root))
        raise BadData(
            f"{shown(folder)}: it holds no mask of a picture. Expected one of the name of "
            f"{first!r}, whatever the suffix"
        )
    seen, faults = masks.scan([*mask_of.values()], [*mask_of], IGNORED)
    for path, why in zip(mask_of.values(), faults, strict=True):
        if why:
            raise BadData(f"{shown(folder)}: {shown(os.path.relpath(path, folder))!r}: {why}")
    held = sorted((stems[path], one.digest) for path, one in zip(mask_of, seen, strict=True))
    return MasksBeside(mask_of, digest(held))
