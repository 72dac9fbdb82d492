"""Three tiny deterministic datasets, the source `synthetic`: for tests, and for a first plug-in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zoobench.datasets import (
    synthetic_captions,
    synthetic_questions,
    synthetic_sounds,
    synthetic_speech,
    synthetic_text,
    synthetic_words,
)
from zoobench.errors import UserError, unknown
from zoobench.interfaces import Raw, Split, Splits
from zoobench.models.synthetic_ import SIDE, check
from zoobench.schema import DatasetCard, Modality, Ref, Value
from zoobench.tasks.classification import Labels
from zoobench.tasks.detection import Annotation, Boxes
from zoobench.tasks.regression import Numbers
from zoobench.tasks.segmentation import IGNORED, Mask, Masks

WIDE = 96
"""Side of a picture whose pixels or boxes are asked for."""
DENSE = ("segmentation", "detection")
TAGGING, ASKING = "token-classification", "question-answering"
SPEAKING = synthetic_speech.TASK
DESCRIBING = synthetic_captions.TASK


@dataclass(frozen=True)
class Stripes:
    """Reads picture i: stripes whose direction is the class, in noise."""

    seed: int
    directions: tuple[int, ...]
    classes: int
    noise: float

    def __call__(self, i: int) -> Raw:
        from PIL import Image

        rng = np.random.default_rng([self.seed, i])
        angle = math.pi * self.directions[i] / self.classes
        y, x = np.mgrid[0:SIDE, 0:SIDE]
        wave = np.sin(
            0.9 * (x * math.cos(angle) + y * math.sin(angle)) + rng.uniform(0, 2 * math.pi)
        )
        grey = 128 + 60 * wave + self.noise * rng.standard_normal((SIDE, SIDE))
        pixels = np.clip(np.repeat(grey[:, :, None], 3, axis=2), 0, 255).astype(np.uint8)
        return Image.fromarray(pixels)


@dataclass(frozen=True)
class Phrases:
    """Reads text i: three words of its class among five that every class uses."""

    seed: int
    topics: tuple[int, ...]

    def __call__(self, i: int) -> Raw:
        rng = np.random.default_rng([self.seed, i])
        own = [f"topic{self.topics[i]}word{k}" for k in rng.integers(0, 20, 3)]
        common = [f"common{k}" for k in rng.integers(0, 50, 5)]
        return " ".join(rng.permutation(own + common).tolist())


@dataclass(frozen=True)
class Patchwork:
    """Reads picture i: two halves with stripes of different directions; `halves` is its mask."""

    seed: int
    classes: int
    noise: float

    def __call__(self, i: int) -> Raw:
        from PIL import Image

        rng = np.random.default_rng([self.seed, i, 1])
        y, x = np.mgrid[0:WIDE, 0:WIDE]
        mask = self.halves(i)
        angle, phase = math.pi * mask / self.classes, rng.uniform(0, 2 * math.pi)
        wave = np.sin(0.9 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        grey = 128 + 60 * wave + self.noise * rng.standard_normal((WIDE, WIDE))
        pixels = np.clip(np.repeat(grey[:, :, None], 3, axis=2), 0, 255).astype(np.uint8)
        return Image.fromarray(pixels)

    def halves(self, i: int) -> Mask:
        """(WIDE, WIDE): parted somewhere in the middle, beside or below each other; a strip along
        an edge is ignored."""
        rng = np.random.default_rng([self.seed, i])
        first, other = rng.permutation(self.classes)[:2]
        mask = np.full((WIDE, WIDE), first, dtype=np.uint8)
        mask[:, int(rng.integers(WIDE // 4, 3 * WIDE // 4)) :] = other
        mask[:, -2:] = IGNORED
        return mask if rng.random() < 0.5 else np.ascontiguousarray(mask.T)


@dataclass(frozen=True)
class Rectangles:
    """Reads picture i: the `boxes` of it, of stripes of a direction each, on grey noise."""

    seed: int
    classes: int
    noise: float

    def __call__(self, i: int) -> Raw:
        from PIL import Image

        y, x = np.mgrid[0:WIDE, 0:WIDE]
        truth = self.boxes(i)
        rng = np.random.default_rng([self.seed, i, 1])
        grey = np.full((WIDE, WIDE), 128.0)
        for (left, top, right, bottom), label in zip(truth.boxes, truth.labels, strict=True):
            angle, inside = math.pi * label / self.classes, (x >= left) & (x < right)
            inside &= (y >= top) & (y < bottom)
            wave = np.sin(0.9 * (x * math.cos(angle) + y * math.sin(angle)))
            grey[inside] += 100 * wave[inside]
        grey += 0.2 * self.noise * rng.standard_normal((WIDE, WIDE))
        pixels = np.clip(np.repeat(grey[:, :, None], 3, axis=2), 0, 255).astype(np.uint8)
        return Image.fromarray(pixels)

    def boxes(self, i: int) -> Annotation:
        """One in each half, or in one alone; every seventh picture has none."""
        rng = np.random.default_rng([self.seed, i])
        boxes, labels = [], []
        for half in range(0 if i % 7 == 6 else int(rng.integers(1, 3))):
            width, height = rng.integers(24, 44, 2)
            left = int(rng.integers(WIDE // 2 - width + 1)) + half * WIDE // 2
            top = int(rng.integers(WIDE - height + 1))
            boxes.append((left, top, left + width, top + height))
            labels.append(int(rng.integers(self.classes)))
        return Annotation.of((WIDE, WIDE), boxes, labels)


@dataclass(frozen=True)
class Shuffled:
    """Mask i is that of another picture."""

    read: Patchwork
    order: tuple[int, ...]

    def __call__(self, i: int) -> Mask:
        return self.read.halves(self.order[i])


class Datasets:
    """The source `synthetic` of datasets.

    Options: classes, train, valid, test, noise, shuffled; `task` "regression" asks for the
    class's number and a fraction that tells no two examples' numbers alike, and "segmentation" of
    stripes for the direction at each pixel, "detection" for rectangles of stripes and their
    direction, "token-classification" of phrases for the entities in them, "question-answering" for
    the words of a topic, "speech-recognition" for phrases that are spoken in tones, "retrieval" of
    stripes for their captions.
    """

    DEFAULTS: Mapping[str, Value] = {
        "classes": 4, "train": 160, "valid": 40, "test": 100, "noise": 150.0, "shuffled": False,
        "task": "classification",
    }  # fmt: skip
    CARDS = (
        DatasetCard("synthetic", "stripes", "image", 4, (160, 40, 100), "1", nature="rendered",
                    license="CC0-1.0", about="directions of stripes in noise"),
        DatasetCard("synthetic", "phrases", "text", 4, (160, 40, 100), "1", nature="rendered",
                    license="CC0-1.0", about="which vocabulary a phrase draws on"),
        DatasetCard("synthetic", "tones", "audio", 4, (160, 40, 100), "1", nature="rendered",
                    license="CC0-1.0", about="how fast a tone rises or falls, in noise"),
    )  # fmt: skip

    @classmethod
    def cards(cls) -> tuple[DatasetCard, ...]:
        return cls.CARDS

    @classmethod
    def card(cls, ref: Ref) -> DatasetCard:
        """Raises UserError for an unknown name."""
        names = [card.name for card in cls.CARDS]
        if ref.name not in names:
            raise unknown("", "dataset", ref.id, [f"synthetic/{name}" for name in names])
        task = str(ref.option("task", "classification"))
        known = cls.CARDS[names.index(ref.name)]
        if task in DENSE:
            return replace(known, task=task)
        if task == SPEAKING:
            return replace(known, task=task, classes=0, modality="audio")
        if task == TAGGING:
            return replace(known, task=task, classes=len(synthetic_words.names(known.classes)))
        return known if task == known.task else replace(known, task=task, classes=0)

    @classmethod
    def resolve(cls, ref: Ref, where: str) -> Ref:
        check(ref, where, "dataset", [card.name for card in cls.CARDS], cls.DEFAULTS)
        return ref.at("1")

    @classmethod
    def available(cls, ref: Ref) -> tuple[bool, str]:
        return True, "made on the spot"

    @classmethod
    def load(cls, ref: Ref) -> Splits:
        """Three splits; labels carry no information where `shuffled`."""
        options: dict[str, Any] = {**cls.DEFAULTS, **dict(ref.options)}
        train, valid, test = (
            cls._split(ref.name, name, int(options[name]), seed, options)
            for seed, name in enumerate(("train", "valid", "test"))
        )
        needs = "stripes" if options["task"] in (*DENSE, DESCRIBING) else "phrases"
        of_texts = (TAGGING, ASKING, SPEAKING, *synthetic_text.TASKS)
        if options["task"] in (*DENSE, DESCRIBING, *of_texts) and ref.name != needs:
            what = "pictures" if needs == "stripes" else "texts"
            raise UserError(f"{ref.id}: a {options['task']} needs {what}")
        unclassed = ("regression", ASKING, SPEAKING, DESCRIBING, *synthetic_text.TASKS)
        numbers = options["task"] in unclassed
        names = () if numbers else tuple(f"class{c}" for c in range(int(options["classes"])))
        if options["task"] == TAGGING:
            names = synthetic_words.names(len(names))
        modality: Modality = cls.card(Ref(ref.source, ref.name)).modality
        if options["task"] == SPEAKING:
            modality = "audio"
        return Splits(train, valid, test, names, modality, task=str(options["task"]))

    @staticmethod
    def _split(name: str, split: str, n: int, seed: int, options: Mapping[str, Any]) -> Split:
        classes = int(options["classes"])
        if options["task"] == "segmentation":
            return _masked(split, n, seed, options)
        if options["task"] == "detection":
            return _boxed(split, n, seed, options)
        if options["task"] == TAGGING:
            return synthetic_words.tagged(split, n, seed, options)
        if options["task"] == ASKING:
            return synthetic_questions.asked(split, n, seed, options)
        if options["task"] == SPEAKING:
            return synthetic_speech.spoken(split, n, seed, options)
        if options["task"] in synthetic_text.TASKS:
            return synthetic_text.split_of(split, n, seed, options)
        truth = tuple(i % classes for i in range(n))
        labels = np.array(truth, dtype=np.int64)
        if options["shuffled"]:
            labels = np.random.default_rng(seed).permutation(labels)
        noise = float(options["noise"])
        read: Stripes | Phrases | synthetic_sounds.Tones = Phrases(seed, truth)
        if name == "stripes":
            read = Stripes(seed, truth, classes, noise)
        elif name == "tones":
            read = synthetic_sounds.Tones(seed, truth, classes, noise)
        ids = tuple(f"{name}-{options['noise']}-{classes}-{split}-{i}" for i in range(n))
        if options["task"] == DESCRIBING:
            return synthetic_captions.described(split, n, seed, read, options)
        if options["task"] == "regression":
            return Split(split, ids, Numbers(labels + 0.1 * np.linspace(-1, 1, n)), read)
        return Split(split, ids, Labels(labels), read)


def _masked(split: str, n: int, seed: int, options: Mapping[str, Any]) -> Split:
    classes = int(options["classes"])
    read = Patchwork(seed, classes, float(options["noise"]))
    order = np.arange(n)
    if options["shuffled"]:
        order = np.random.default_rng(seed).permutation(n)
    masks = Masks.of(Shuffled(read, tuple(order.tolist())), n, classes)
    ids = tuple(f"patchwork-{options['noise']}-{classes}-{split}-{i}" for i in range(n))
    return Split(split, ids, masks, read)


def _boxed(split: str, n: int, seed: int, options: Mapping[str, Any]) -> Split:
    classes = int(options["classes"])
    read = Rectangles(seed, classes, float(options["noise"]))
    order = np.arange(n)
    if options["shuffled"]:
        order = np.random.default_rng(seed).permutation(n)
    boxes = Boxes(tuple(read.boxes(int(i)) for i in order), classes)
    ids = tuple(f"rectangles-{options['noise']}-{classes}-{split}-{i}" for i in range(n))
    return Split(split, ids, boxes, read)
