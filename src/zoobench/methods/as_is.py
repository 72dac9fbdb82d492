"""Complete models, judged untouched (PROTOCOL section 2, `as-is`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zoobench.errors import Unsupported, UserError
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.predictor import Predictor
from zoobench.tasks.segmentation import IGNORED, LabelMaps, Mask

SYNONYMS = (
    ("aeroplane", "airplane"), ("motorbike", "motorcycle"), ("tvmonitor", "tv", "television"),
    ("sofa", "couch"), ("person", "people", "human"), ("car", "automobile"), ("bicycle", "bike"),
    ("background", "bg", "unlabelled", "unlabeled"),
)  # fmt: skip
"""Names of one thing, without blanks."""


@dataclass(frozen=True)
class AsIs:
    """A complete segmenter with its own head; its labels are matched with the classes by name.

    `labels` says what the names do not, as "THEIR LABEL=CLASS". What it calls by a name that is no
    class of the data is none of them, and wrong wherever it stands.
    """

    labels: tuple[str, ...] = ()

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    view: ClassVar[str] = "segment"

    def __post_init__(self) -> None:
        for text in self.labels:
            if not all(part.strip() for part in text.partition("=")):
                raise ValueError(f"labels are written THEIRS=CLASS, not {text!r}")

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Raises Unsupported for a model without a head, and where none of the classes is known."""
        model = getattr(backbone, "backbone", backbone)
        if not hasattr(model, "segment"):
            raise Unsupported("it is no complete segmenter: as-is needs a head of its own")
        numbers = mapping(model.labels, splits.classes, self.labels)
        known = sorted(set(numbers) - {IGNORED})
        if not known:
            ours, theirs = (", ".join(names[:8]) for names in (splits.classes, model.labels))
            raise Unsupported(f"it knows none of the classes {ours}; its own labels are {theirs}")
        table = np.asarray(numbers, dtype=np.uint8)

        def label(split: Split) -> LabelMaps:
            return LabelMaps(_masks(backbone, model, split, table))

        unknown = len(known) < len(splits.classes)
        facts = {"classes_known": float(len(known)), "trainable_params": 0.0}
        return Predictor(label, splits.valid, label, {}, facts, ("classes-unknown",) * unknown)


def _masks(source: Any, model: Any, split: Split, table: np.ndarray) -> Iterator[Mask]:
    import torch

    model.module.eval()
    for i in range(len(split)):
        with torch.inference_mode(), source.autocast(source.precision):
            found = model.segment(split.read(i)).cpu().numpy()
        # A universal segmenter may leave a pixel to nobody, which it writes as -1 or 255.
        inside = (found >= 0) & (found < len(table))
        yield np.where(inside, table[np.where(inside, found, 0)], IGNORED).astype(np.uint8)


def mapping(theirs: Sequence[str], classes: Sequence[str], said: Sequence[str] = ()) -> list[int]:
    """For each of a model's labels the number of the class that it means, or IGNORED.

    Names are compared in lower case, without blanks, marks and what follows a comma or semicolon.
    Raises UserError for a pair of `said` that names no label, or no class.
    """
    own: Mapping[str, int] = {_plain(name): number for number, name in enumerate(classes)}
    numbers = [_number(name, own) for name in theirs]
    for text in said:
        label, _, name = (part.strip() for part in text.partition("="))
        if label not in theirs or name not in classes:
            missing, known = (label, theirs) if label not in theirs else (name, classes)
            raise UserError(f"labels: {missing!r} is none of {', '.join(map(repr, known[:12]))}")
        numbers[list(theirs).index(label)] = list(classes).index(name)
    return numbers


def _number(name: str, own: Mapping[str, int]) -> int:
    plain = _plain(name)
    if plain in own:
        return own[plain]
    same = next((group for group in SYNONYMS if plain in group), ())
    return next((own[other] for other in same if other in own), IGNORED)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", re.split("[,;]", name, maxsplit=1)[0].casefold())
