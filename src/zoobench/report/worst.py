"""The pictures that the best model gets most wrong, drawn with their truth from the data at hand.

A run keeps of a picture what its metrics follow from, not what was predicted, so that beside the
truth stands in words what the model made of it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoobench import datasets
from zoobench.errors import UserError, ZoobenchError
from zoobench.interfaces import Split, Splits
from zoobench.ranking.nouns import Ranking
from zoobench.ranking.outcomes import Book
from zoobench.report.text import dataset_labels, labels, section_method
from zoobench.schema import Outcomes, Record, Ref
from zoobench.store import Run
from zoobench.tasks import name_of
from zoobench.tasks.detection import boxes_of
from zoobench.tasks.segmentation import IGNORED, masks_of, mean_iou

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

WORST = 6
"""Pictures of a section."""
MOST = 12
"""Pictures of a page, each shown twice."""
SIDE = 256
"""Pixels of the longer side: what is shared is no copy of the data."""
SURE = 0.5
"""Detections with a lower score count for nothing here."""
COLOURS = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000",
    "#f032e6", "#000075", "#800000", "#ffe119",
)  # fmt: skip
"""Of classes."""


@dataclass(frozen=True)
class WorstPicture:
    """`picture` and `truth` are data URIs, `key` (colour, class) of what the truth shows."""

    caption: str
    picture: str
    truth: str
    key: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class WorstPictures:
    """Of one section; `about` says of what, or why there are none."""

    title: str
    about: str
    pictures: tuple[WorstPicture, ...]


def worst_pictures(book: Book, ranking: Ranking, runs: Sequence[Run]) -> list[WorstPictures]:
    """One for each section of a dense task. What is not at hand is not fetched, and said."""
    left = MOST

    def drawn(splits: Splits, kept: Outcomes, record: Record) -> tuple[WorstPicture, ...]:
        nonlocal left
        pictures = _drawn(splits, kept, record, min(WORST, left))
        left -= len(pictures)
        return pictures

    return [WorstPictures(*one) for one in of_best(book, ranking, runs, DRAWN, "pictures", drawn)]


def of_best(
    book: Book, ranking: Ranking, runs: Sequence[Run], asked: Container[str], what: str,
    shown: Callable[[Splits, Outcomes, Record], tuple[T, ...]],
) -> Iterator[tuple[str, str, tuple[T, ...]]]:  # fmt: skip
    """(title, about, what is `shown` of the best record) for each section of one of the tasks that
    are `asked` for; where there is nothing to show, `about` says why there is no `what`."""
    places = places_of(runs)
    on = dataset_labels(section.dataset for section in ranking.sections)
    for section in ranking.sections:
        if not section.rows or name_of(section.rows[0].records[0].cell) not in asked:
            continue
        record = section.rows[0].records[0]
        title = f"{on[section.dataset]}, {section_method(section)}"
        name = labels(row.model for row in section.rows)[section.rows[0].model]
        found: tuple[T, ...] = ()
        try:
            splits = data_of(places.get(section.dataset.located.text), record)
            kept = book.outcomes(record)
            if kept is None:
                raise UserError("the run has no predictions.")
            found = shown(splits, kept, record)
            about = f"What {name}, the best here, gets most wrong, the worst first."
        except (ZoobenchError, OSError) as error:
            about = f"No {what}: {error}"
        yield title, about, found


def places_of(runs: Sequence[Run]) -> dict[str, Ref]:
    """The datasets of runs as their suites name them, with the places of their files, by what
    records call them."""
    named = (Ref.parse(text) for run in runs for text in run.suite.get("datasets", []))
    return {ref.located.text: ref for ref in named}


def data_of(ref: Ref | None, record: Record) -> Splits:
    """Raises UserError where the data are not at hand, or others than those of the record."""
    if ref is None:
        raise UserError("the run's suite.toml does not say where the data lie.")
    there, why = datasets.available(ref)
    if not there:
        raise UserError(f"the data are not at hand ({why}).")
    splits = datasets.load(ref)
    if splits.test.fingerprint != (record.provenance.get("splits") or {}).get("test"):
        raise UserError("the data at hand are not those of the run.")
    return splits


def _drawn(splits: Splits, kept: Outcomes, record: Record, most: int) -> tuple[WorstPicture, ...]:
    badness, words, draw = DRAWN[name_of(record.cell)]
    order = np.argsort(-badness(kept), kind="stable")[:most]
    made = []
    for i in order.tolist():
        picture = splits.test.read(i).convert("RGB")
        truth, colours = draw(splits.test, i, picture)
        key = tuple((colour, splits.classes[c]) for c, colour in colours.items())
        shown, true = jpeg_uri(picture, SIDE), jpeg_uri(truth, SIDE)
        made.append(WorstPicture(words(kept, i, splits.classes), shown, true, key))
    return tuple(made)


def jpeg_uri(picture: Image.Image, side: int) -> str:
    """The picture, at most `side` pixels wide and high, as a data URI."""
    small = picture.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _colours(found: Sequence[int], classes: int) -> dict[int, str]:
    """Class -> its colour: the same in every picture, where the colours suffice."""
    few = classes <= len(COLOURS)
    return {c: COLOURS[c if few else k % len(COLOURS)] for k, c in enumerate(found)}


def masked_badness(kept: Outcomes) -> NDArray[np.float64]:
    """(n,) one minus the mIoU of each picture, over its own classes."""
    counts = (kept.arrays[name] for name in ("intersection", "predicted", "true"))
    return np.asarray(1 - mean_iou(*counts))


def masked_words(kept: Outcomes, i: int, classes: Sequence[str]) -> str:
    """The picture's mIoU, and the classes of which it is given too much or too little most."""
    true, said = (kept.arrays[name][i].astype(float) for name in ("true", "predicted"))
    share = 100 / max(true.sum(), 1)
    apart = np.argsort(-np.abs(said - true), kind="stable")[:3]
    parts = [
        f"{classes[c]} {true[c] * share:.0f}% in truth, {said[c] * share:.0f}% predicted"
        for c in apart
        if true[c] != said[c]
    ]
    score = f"mIoU {100 * (1 - masked_badness(kept)[i]):.1f}%"
    return "; ".join([score, *parts])


def masked(split: Split, i: int, picture: Image.Image) -> tuple[Image.Image, dict[int, str]]:
    """Each class of the mask in a colour over the grey picture; what is ignored stays grey."""
    from PIL import Image, ImageColor

    masks = masks_of(split)
    mask = masks.read(i)
    found = [int(c) for c in np.unique(mask) if c != IGNORED]
    colours = _colours(found, masks.classes)
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float64)
    for c, colour in colours.items():
        grey[mask == c] = 0.4 * grey[mask == c] + 0.6 * np.array(ImageColor.getrgb(colour))
    return Image.fromarray(grey.astype(np.uint8)), colours


def boxed_counts(kept: Outcomes) -> NDArray[np.int64]:
    """(3, n) objects, those that no sure detection finds at IoU 0.50, and sure false alarms."""
    rows = {name: kept.arrays[name] for name in ("owner", "score", "hit", "ignored")}
    sure = rows["score"] >= SURE
    hit, out = ((rows[name][:, 0] & 1) == 1 for name in ("hit", "ignored"))
    found, wrong = (
        np.bincount(rows["owner"][which], minlength=kept.n)
        for which in (sure & hit & ~out, sure & ~hit & ~out)
    )
    true = kept.arrays["true"][:, 0].sum(axis=1).astype(np.int64)
    return np.stack([true, true - found, wrong])


def boxed_badness(kept: Outcomes) -> NDArray[np.float64]:
    """(n,) objects missed and false alarms."""
    return np.asarray(boxed_counts(kept)[1:].sum(axis=0), dtype=np.float64)


def boxed_words(kept: Outcomes, i: int, classes: Sequence[str]) -> str:
    true, missed, wrong = boxed_counts(kept)[:, i]
    return f"{missed} of {true} objects missed, {wrong} false alarms (score {SURE:.1f} or more)"


def boxed(split: Split, i: int, picture: Image.Image) -> tuple[Image.Image, dict[int, str]]:
    """The boxes of the truth over the picture, each class in a colour; crowds are left out."""
    from PIL import ImageDraw

    truth, drawn = boxes_of(split).pictures[i], picture.copy()
    labels = truth.labels[~truth.crowd].tolist()
    colours = _colours(sorted(set(labels)), boxes_of(split).classes)
    pen, width = ImageDraw.Draw(drawn), max(1, round(max(picture.size) / 100))
    for box, label in zip(truth.boxes[~truth.crowd].tolist(), labels, strict=True):
        pen.rectangle(box, outline=colours[label], width=width)
    return drawn, colours


DRAWN = {
    "segmentation": (masked_badness, masked_words, masked),
    "detection": (boxed_badness, boxed_words, boxed),
}
