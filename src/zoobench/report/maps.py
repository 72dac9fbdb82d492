"""What answers to the same test examples rest on, model by model: the maps that `explain` kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.errors import ZoobenchError
from zoobench.interfaces import Split, Splits
from zoobench.methods.audit import WORDS
from zoobench.methods.example_parts import word_runs
from zoobench.ranking.nouns import Ranking, SectionRanking
from zoobench.report.text import dataset_labels, labels, section_method
from zoobench.report.worst import data_of, jpeg_uri, places_of
from zoobench.schema import Record
from zoobench.store import Run
from zoobench.tasks.classification import labels_of

if TYPE_CHECKING:
    from PIL import Image

MODELS = 10
"""The best of a section, whose maps are shown."""
SIDE = 96
"""Pixels of a picture's longer side."""
MOST_TILES = 4096
STRONG = 0.7
"""How opaque the most important tile is."""
OF_ALL = frozenset({"place", "said", "map"})
"""What a map of a text has; one of a picture says besides where its tiles lie."""
MOST_LETTERS = 40
"""Shown of a word, or of a run of words."""
COLOURS = {1: (230, 60, 30), -1: (40, 90, 220)}
"""Of tiles that speak for the class, and against it."""


@dataclass(frozen=True)
class ShownMap:
    """A data URI, and what stands below it."""

    picture: str
    caption: str


@dataclass(frozen=True)
class ReadText:
    """What `model` says of a text: a class, and the text's words, each with how much it speaks for
    that class, in percent of the weightiest."""

    model: str
    said: str
    words: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ExplainedExamples:
    """Of one section: the test pictures, and below them each model's maps of them, None where it
    has none; or the class of each test text, and how the models read it. `about` says how they were
    made, or why there are none."""

    title: str
    about: str
    pictures: tuple[ShownMap, ...] = ()
    rows: tuple[tuple[str, tuple[ShownMap | None, ...]], ...] = ()
    texts: tuple[tuple[str, tuple[ReadText, ...]], ...] = ()


def explained_examples(ranking: Ranking, runs: Sequence[Run]) -> list[ExplainedExamples]:
    """One for each section whose records hold maps. Data that are not at hand are not fetched, and
    it is said."""
    places, made = places_of(runs), []
    on = dataset_labels(section.dataset for section in ranking.sections)
    for section in ranking.sections:
        held = {row.model: maps for row in section.rows if (maps := maps_of(row.records[0]))}
        if not held:
            continue
        title = f"{on[section.dataset]}, {section_method(section)}"
        first = next(row for row in section.rows if row.model in held).records[0]
        try:
            splits = data_of(places.get(section.dataset.located.text), first)
            made.append(_section(section, title, splits, held))
        except (ZoobenchError, OSError) as error:
            made.append(ExplainedExamples(title, f"No maps: {error}"))
    return made


def _section(
    section: SectionRanking, title: str, splits: Splits, held: dict[Any, dict[int, dict[str, Any]]]
) -> ExplainedExamples:
    if splits.modality not in ("image", "text"):
        return ExplainedExamples(title, "No maps: they are of pictures or of texts")
    rows = [row for row in section.rows if row.model in held][:MODELS]
    names = labels(row.model for row in section.rows)
    at = [i for i in held[rows[0].model] if i < len(splits.test)]
    truth, classes = labels_of(splits.test), splits.classes
    own = [classes[int(truth[i])] for i in at]
    gain = rows[0].records[0].get("explanation_gain")
    how = str(gain.detail.get("attribution", "")) if gain else ""
    what, place = (
        ("texts", "before it") if splits.modality == "text" else ("pictures", "below its map")
    )
    about = (
        f"The same test {what} of every model, by {how}: red speaks for the class that the model "
        f"says ({place}), blue against it."
    )
    more = len(held) - len(rows)
    about += f" {more} more models have maps." if more else ""
    of = [(names[row.model], held[row.model]) for row in rows]
    if what == "texts":
        read = tuple(
            tuple(one for name, maps in of if (one := _read(splits, i, name, maps.get(i))))
            for i in at
        )
        return ExplainedExamples(title, about, texts=tuple(zip(own, read, strict=True)))
    shown = tuple(
        ShownMap(jpeg_uri(_whole(splits.test, i), SIDE), name)
        for i, name in zip(at, own, strict=True)
    )
    below = tuple((name, tuple(_shown(splits, i, maps.get(i)) for i in at)) for name, maps in of)
    return ExplainedExamples(title, about, shown, below)


def maps_of(record: Record) -> dict[int, dict[str, Any]]:
    """The maps in a record, by the place of the example in the test split. What is of another form
    than `methods/explain.py` gives is left out: a run may be a stranger's."""
    gain = record.get("explanation_gain")
    found = gain.detail.get("maps") if gain else None
    if gain is None or not isinstance(found, list):
        return {}
    sound = [one for one in found if _sound(one)]
    if gain.detail.get("attribution") == WORDS:
        return {one["place"]: {name: one[name] for name in OF_ALL} for one in sound}
    return {one["place"]: one for one in sound if _has_frame(one)}


def _sound(one: Any) -> bool:
    if not isinstance(one, dict) or not one.keys() >= OF_ALL:
        return False
    if not all(type(one[name]) is int and one[name] >= 0 for name in ("place", "said")):
        return False
    return _numbers(one["map"], 100)


def _has_frame(one: dict[str, Any]) -> bool:
    across: Any = one.get("across")
    frame: Any = one.get("frame")
    if type(across) is not int or across < 1 or len(one["map"]) % across:
        return False
    return isinstance(frame, list) and len(frame) == 4 and _numbers(frame, 1)


def _numbers(values: Any, most: float) -> bool:
    """Whether it is a list of numbers of at most that size."""
    if not isinstance(values, list) or not 0 < len(values) <= MOST_TILES:
        return False
    return all(type(v) in (int, float) and abs(v) <= most for v in values)


def _read(splits: Splits, i: int, model: str, one: dict[str, Any] | None) -> ReadText | None:
    if one is None or one["said"] >= len(splits.classes):
        return None
    runs = word_runs(str(splits.test.read(i)))
    if len(runs) != len(one["map"]):
        return None
    short = (run if len(run) <= MOST_LETTERS else f"{run[: MOST_LETTERS - 1]}…" for run in runs)
    weights = (round(weight) for weight in one["map"])
    return ReadText(model, splits.classes[one["said"]], tuple(zip(short, weights, strict=True)))


def _whole(split: Split, i: int) -> Image.Image:
    picture: Image.Image = split.read(i)
    return picture.convert("RGB")


def _shown(splits: Splits, i: int, one: dict[str, Any] | None) -> ShownMap | None:
    if one is None or one["said"] >= len(splits.classes) or "frame" not in one:
        return None
    return ShownMap(jpeg_uri(drawn(_whole(splits.test, i), one), SIDE), splits.classes[one["said"]])


def drawn(picture: Image.Image, one: dict[str, Any]) -> Image.Image:
    """The map over the part of the picture that the network reads, in grey."""
    from PIL import Image

    left, top, right, bottom = one["frame"]
    w, h = picture.size
    ends = [sorted((a * n, b * n)) for a, b, n in ((left, right, w), (top, bottom, h))]
    (x0, x1), (y0, y1) = ends
    part = picture.crop(
        (int(x0), int(y0), max(int(x0) + 1, round(x1)), max(int(y0) + 1, round(y1)))
    )
    scale = SIDE / max(part.size)
    width, height = (max(1, round(side * scale)) for side in part.size)
    grey = np.asarray(part.resize((width, height)).convert("L").convert("RGB"), dtype=np.float64)
    tiles = np.array(one["map"], dtype=np.float64).reshape(-1, one["across"]) / 100
    tiles = tiles[:: -1 if bottom < top else 1, :: -1 if right < left else 1]
    rows = np.arange(grey.shape[0]) * tiles.shape[0] // grey.shape[0]
    columns = np.arange(grey.shape[1]) * tiles.shape[1] // grey.shape[1]
    values = tiles[rows][:, columns][:, :, None]
    colour = np.where(values > 0, COLOURS[1], COLOURS[-1])
    strength = STRONG * np.abs(values)
    return Image.fromarray(((1 - strength) * grey + strength * colour).astype(np.uint8))
