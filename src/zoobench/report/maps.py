"""What answers to the same test pictures rest on, model by model: the maps that `explain` kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.errors import ZoobenchError
from zoobench.interfaces import Split, Splits
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
COLOURS = {1: (230, 60, 30), -1: (40, 90, 220)}
"""Of tiles that speak for the class, and against it."""


@dataclass(frozen=True)
class ShownMap:
    """A data URI, and what stands below it."""

    picture: str
    caption: str


@dataclass(frozen=True)
class ExplainedPictures:
    """Of one section: the test pictures, and below them each model's maps of them, None where it
    has none. `about` says how they were made, or why there are none."""

    title: str
    about: str
    pictures: tuple[ShownMap, ...] = ()
    rows: tuple[tuple[str, tuple[ShownMap | None, ...]], ...] = ()


def explained_pictures(ranking: Ranking, runs: Sequence[Run]) -> list[ExplainedPictures]:
    """One for each section whose records hold maps of pictures. Data that are not at hand are not
    fetched, and it is said."""
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
            made.append(ExplainedPictures(title, f"No maps: {error}"))
    return made


def _section(
    section: SectionRanking, title: str, splits: Splits, held: dict[Any, dict[int, dict[str, Any]]]
) -> ExplainedPictures:
    rows = [row for row in section.rows if row.model in held][:MODELS]
    names = labels(row.model for row in section.rows)
    at = [i for i in held[rows[0].model] if i < len(splits.test)]
    truth, classes = labels_of(splits.test), splits.classes
    shown = tuple(
        ShownMap(jpeg_uri(_whole(splits.test, i), SIDE), classes[int(truth[i])]) for i in at
    )
    below = tuple(
        (names[row.model], tuple(_shown(splits, i, held[row.model].get(i)) for i in at))
        for row in rows
    )
    gain = rows[0].records[0].get("explanation_gain")
    how = str(gain.detail.get("attribution", "")) if gain else ""
    about = (
        f"The same test pictures of every model, by {how}: red speaks for the class that the model "
        "says (below its map), blue against it."
    )
    more = len(held) - len(rows)
    return ExplainedPictures(
        title, about + (f" {more} more models have maps." if more else ""), shown, below
    )


def maps_of(record: Record) -> dict[int, dict[str, Any]]:
    """The maps of pictures in a record, by the place of the picture in the test split. What is of
    another form than `methods/explain.py` gives is left out: a run may be a stranger's."""
    gain = record.get("explanation_gain")
    found = gain.detail.get("maps") if gain else None
    return {one["place"]: one for one in found if _sound(one)} if isinstance(found, list) else {}


def _sound(one: Any) -> bool:
    if not isinstance(one, dict) or not {"place", "said", "map", "across", "frame"} <= one.keys():
        return False
    counts = [one[name] for name in ("place", "said", "across")]
    if not all(type(count) is int and count >= 0 for count in counts) or not one["across"]:
        return False
    for name, most in (("map", 100), ("frame", 1)):
        values = one[name]
        if not isinstance(values, list) or not 0 < len(values) <= MOST_TILES:
            return False
        if not all(type(v) in (int, float) and abs(v) <= most for v in values):
            return False
    return len(one["map"]) % one["across"] == 0 and len(one["frame"]) == 4


def _whole(split: Split, i: int) -> Image.Image:
    picture: Image.Image = split.read(i)
    return picture.convert("RGB")


def _shown(splits: Splits, i: int, one: dict[str, Any] | None) -> ShownMap | None:
    if one is None or one["said"] >= len(splits.classes):
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
