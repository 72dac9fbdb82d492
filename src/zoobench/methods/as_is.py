"""Complete models, judged untouched (PROTOCOL section 2, `as-is`)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import Unsupported, UserError
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.predictor import Predictor
from zoobench.tasks.detection import Detections
from zoobench.tasks.evaluate import UNKNOWN_CLASSES
from zoobench.tasks.segmentation import IGNORED, LabelMaps, Mask

SYNONYMS = (
    ("aeroplane", "airplane"), ("motorbike", "motorcycle"), ("tvmonitor", "tv", "television"),
    ("sofa", "couch"), ("person", "people", "human"), ("car", "automobile"), ("bicycle", "bike"),
    ("background", "bg", "unlabelled", "unlabeled"), ("positive", "pos"), ("negative", "neg"),
    ("neutral", "neu"),
)  # fmt: skip
"""Names of one thing, without blanks."""
UNKNOWN = -1
"""In place of a class: a label that means none of the data's."""


def headed(model: Any, task: str) -> Any:
    """`model`, which has a head of its own for `task`. Raises Unsupported where it has none."""
    if getattr(model, "task", "") != task:
        raise Unsupported(f"it is no complete model for {task}: as-is needs a head")
    return model


@dataclass(frozen=True)
class AsIs:
    """A complete model with its own head; its labels are matched with the classes by name.

    `labels` says what the names do not, as "THEIR LABEL=CLASS". What a segmenter calls by a name
    that is no class of the data is none of them, and wrong wherever it stands; what a detector
    calls so is left out, as nobody looked for it.
    """

    labels: tuple[str, ...] = ()

    version: ClassVar[int] = 2
    needs: ClassVar[str] = "features"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "detection")
    view: ClassVar[str] = "answer"

    def __post_init__(self) -> None:
        check_pairs(self.labels, "labels are written THEIRS=CLASS")

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Raises Unsupported for a model without a head, and where none of the classes is known."""
        model = headed(getattr(backbone, "backbone", backbone), splits.task)
        numbers = mapping(model.labels, splits.classes, self.labels)
        known = known_of(numbers, splits.classes, model.labels)
        table = np.asarray(numbers, dtype=np.int64)

        def answer(split: Split) -> Any:
            said = _answers(backbone, model, split)
            if splits.task == "detection":
                return [_detections(one, table, size) for one, size in said]
            return LabelMaps(_mask(found, table) for found, _ in said)

        return Predictor(answer, splits.valid, answer, *facts_of(splits.classes, known))


def check_pairs(texts: Sequence[str], rule: str) -> None:
    """Raises ValueError, with the `rule`, for one of `texts` that has not something on either side
    of its first equals sign."""
    for text in texts:
        if not all(part.strip() for part in text.partition("=")):
            raise ValueError(f"{rule}, not {text!r}")


def known_of(numbers: Sequence[int], classes: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The classes that a model has a label for, in their order, from the `numbers` of classes that
    its `labels` mean. Raises Unsupported where there are none."""
    known = [name for k, name in enumerate(classes) if k in set(numbers)]
    if not known:
        ours, theirs = (", ".join(names[:8]) for names in (classes, labels))
        raise Unsupported(f"it knows none of the classes {ours}; its own labels are {theirs}")
    return known


def facts_of(
    classes: Sequence[str], known: Collection[str]
) -> tuple[dict[str, Any], dict[str, float], tuple[str, ...]]:
    """What a complete model's Predictor says beside its answers: what it chose, facts, flags."""
    unknown = [name for name in classes if name not in known]
    chosen = {UNKNOWN_CLASSES: unknown} if unknown else {}
    facts = {"classes_known": float(len(known)), "trainable_params": 0.0}
    return chosen, facts, ("classes-unknown",) * bool(unknown)


def _answers(source: Any, model: Any, split: Split) -> Iterator[tuple[Any, tuple[int, int]]]:
    """What the model says of each picture, and the picture's (width, height)."""
    import torch

    model.module.eval()
    for i in range(len(split)):
        picture = split.read(i)
        with torch.inference_mode(), source.autocast(source.precision):
            said = model.answer(picture)
        yield said, picture.size


def _mask(said: Any, table: NDArray[np.int64]) -> Mask:
    found = said.cpu().numpy()
    # A universal segmenter may leave a pixel to nobody, which it writes as -1 or 255.
    classes = _classes(found, table)
    return np.where(classes == UNKNOWN, IGNORED, classes).astype(np.uint8)


def _detections(said: Sequence[Any], table: NDArray[np.int64], size: tuple[int, int]) -> Detections:
    """In the picture, and of its data's classes."""
    corners, values, found = (one.float().cpu().numpy() for one in said)
    corners = np.clip(corners.astype(np.float64), 0, [*size, *size])
    labels = _classes(found.astype(np.int64), table)
    solid = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    # What is no number is kept, so that it is said.
    kept = (labels != UNKNOWN) & (solid | np.isnan(corners).any(axis=1))
    return Detections.of(corners[kept], values[kept], labels[kept])


def _classes(numbers: NDArray[np.int64], table: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class that each number of a label means, or UNKNOWN."""
    inside = (numbers >= 0) & (numbers < len(table))
    return np.where(inside, table[np.where(inside, numbers, 0)], UNKNOWN)


def mapping(
    theirs: Sequence[str],
    classes: Sequence[str],
    said: Sequence[str] = (),
    synonyms: Sequence[Sequence[str]] = SYNONYMS,
) -> list[int]:
    """For each of a model's labels the number of the class that it means, or UNKNOWN.

    A label is the class of the same text, else of the same text in lower case (NFC, blanks
    collapsed), else of the same plain name: in lower case, without what follows a comma or
    semicolon, blanks and marks; else of a synonym. By a plain name it means a class only where one
    class alone has it, and none that another label names by its whole text: "Cardigan, a corgi" is
    no cardigan beside one. Raises UserError for a pair of `said` that names no label, or no class.
    """
    exact = {name: number for number, name in enumerate(classes)}
    folded, plain = _of_one(map(_folded, classes)), _of_one(map(_plain, classes))
    numbers = [exact.get(name, folded.get(_folded(name), UNKNOWN)) for name in theirs]
    named = set(numbers)
    for place, name in enumerate(theirs):
        if numbers[place] == UNKNOWN:
            numbers[place] = _loosely(_plain(name), plain, named, synonyms)
    for text in said:
        label, _, name = (part.strip() for part in text.partition("="))
        if label not in theirs or name not in classes:
            missing, known = (label, theirs) if label not in theirs else (name, classes)
            raise UserError(f"labels: {missing!r} is none of {', '.join(map(repr, known[:12]))}")
        numbers[list(theirs).index(label)] = exact[name]
    return numbers


def _loosely(
    plain: str, own: Mapping[str, int], named: Collection[int], synonyms: Sequence[Sequence[str]]
) -> int:
    """The class of a plain name, but for those that are `named`, else the one of its synonyms."""
    if plain in own:
        return UNKNOWN if own[plain] in named else own[plain]
    same = next((group for group in synonyms if plain in group), ())
    found = [own[other] for other in same if other in own]
    return found[0] if len(found) == 1 else UNKNOWN


def _of_one(names: Iterable[str]) -> dict[str, int]:
    """Name -> its place, of those that stand once and are not empty."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    return {name: one[0] for name, one in places.items() if name and len(one) == 1}


def names_of(label: str) -> list[str]:
    """The names that commas and semicolons part, but for those between digits (1,500)."""
    return re.split(r"(?<!\d)[,;]|[,;](?!\d)", label)


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _plain(name: str) -> str:
    """The first name's letters, digits, + and # (C is not C++); a number or a smiley, without
    letters, stays whole."""
    first = _folded(names_of(name)[0])
    if not any(map(str.isalpha, first)):
        return first
    return "".join(s for s in first if s in "+#" or unicodedata.category(s)[0] in "LMN")
