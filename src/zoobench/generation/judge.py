"""Samples beside real pictures, in the features of a model (PROTOCOL section 2).

N samples, M real pictures, D features. Each distance stands beside its floor: what one half of the
real pictures has from the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoobench import models
from zoobench.datasets.ids import THREADS
from zoobench.datasets.splits import hash_order
from zoobench.errors import UserError
from zoobench.generation import pairs
from zoobench.generation.distances import distances
from zoobench.generation.folders import (
    ASKED,
    REFERENCE,
    SAMPLES,
    TRAIN,
    FolderFacts,
    PictureFolder,
)
from zoobench.generation.pairs import PairScore
from zoobench.generation.perceptual import lpips_distance
from zoobench.schema import Measurement, Ref

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features

MODEL = "packaged/efficientnet-lite0"
LEAST = 8
"""Pictures of each folder: half of them have k = 3 neighbours."""
SHOWN = 12
"""Samples that are shown beside their neighbour, the nearest ones."""

THUMB = 16
"""Pixels of a side at which pictures of any size are compared: what saving them loses is gone."""

PIXELS, THUMBS, FEATURES = "pixels", "thumbnail", "features"
"""By what a sample is a copy, the surest first."""


@dataclass(frozen=True)
class Neighbour:
    """A sample, the real picture nearest to it, how near that is as a share of the second nearest's
    distance, and by what the sample is a `copy` of it, if it is."""

    sample: str
    picture: str
    ratio: float
    copy: str = ""


@dataclass(frozen=True)
class Neighbours:
    """What lies nearest to samples among the pictures `of` a folder: all `copies`, and the SHOWN
    `nearest` samples.

    A sample is a copy that has the same decoded pixels as a real picture, or whose ratio is below
    `solvers.generated.COPY`: of the distances between thumbnails in RGB, or between features.
    """

    of: str
    copies: tuple[Neighbour, ...]
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Judgement:
    """What was found: `measurements` of the samples, and of the `floor`, real against real.

    `model` gave D features (`feature_dim`), where there were pictures enough; `missing` says why a
    metric is not there.
    """

    folders: Mapping[str, FolderFacts]
    model: Ref | None = None
    feature_dim: int = 0
    measurements: tuple[Measurement, ...] = ()
    floor: tuple[Measurement, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    neighbours: Neighbours | None = None
    pairs: tuple[PairScore, ...] = ()


Loading = Callable[[Ref, str], "Features"]
"""Gives a model's features on a device: `workers.loaded.feature_source`, whose floor is above."""


def check_lpips(lpips: bool, paired: bool) -> None:
    """Raises UserError where LPIPS is asked for and pairs are not."""
    if lpips and not paired:
        raise UserError("--lpips: compares pictures of the same name: give --paired too")


def model_of(name: str, where: str = "--model") -> Ref:
    """Raises UserError where `name` is none of an encoder of pictures."""
    ref = models.resolve(name, where)
    card = models.card(ref)
    if card.modality != "image":
        raise UserError(f"{where}: {ref.short} reads {card.modality}, and samples are pictures")
    if card.answers:
        raise UserError(
            f"{where}: {ref.short} answers {card.answers[0]} itself and gives no features; name an "
            "encoder of pictures"
        )
    return ref


def judge(
    folders: Mapping[str, PictureFolder],
    model: Ref,
    load: Loading,
    paired: bool = False,
    device: str = "auto",
    say: Callable[[str], None] = lambda line: None,
    lpips: bool = False,
) -> Judgement:
    """Judge what `folders.read` gave in the features of `model`, by pairs of names too where they
    are `paired`, with `lpips` where that is asked for.

    Of fewer than LEAST pictures of any folder pairs alone are judged. Raises UserError for too
    few, and for what `pairs` refuses, CellError where a model cannot be had, MissingExtra.
    """
    samples, reference = folders[SAMPLES], folders[REFERENCE]
    rows = pairs.matched(samples, reference) if paired else []
    few = _too_few(folders)
    if few and not paired:
        raise UserError(few)
    if lpips:
        pairs.check_seen(samples, rows)
    # What may be missing is loaded before pairs are compared.
    distance = lpips_distance(device) if lpips else None
    source = None if few else load(model, device)
    scores = pairs.scored(samples, reference, rows, distance)
    found = Judgement(
        {name: folder.facts for name, folder in folders.items()},
        measurements=tuple(pairs.measurements(scores)),
        missing={"kid": few} if few else {},
        pairs=scores,
    )
    if paired and found.measurements[0].metric != "psnr":
        found = replace(
            found, missing={**found.missing, "psnr": "PSNR is infinite: all pairs are equal"}
        )
    return found if source is None else _by_features(found, folders, model, source, paired, say)


def _too_few(folders: Mapping[str, PictureFolder]) -> str:
    for name, folder in folders.items():
        if len(folder) < LEAST:
            others = [f"{kind} ({many})" for kind, many in folder.facts.unused.items()]
            left = f" (not read: {', '.join(others[:5])})" if others else ""
            return (
                f"{ASKED[name]} {folder.facts.place}: {len(folder)} pictures are too few to "
                f"compare features, {LEAST} are needed at least{left}"
            )
    return ""


def _by_features(
    found: Judgement, folders: Mapping[str, PictureFolder], model: Ref, source: Features,
    paired: bool, say: Callable[[str], None],
) -> Judgement:  # fmt: skip
    """`found` with what follows from features."""
    features = {}
    for name, folder in folders.items():
        say(f"features of the {len(folder):,} pictures of {ASKED[name]}")
        features[name] = source.features(folder.split).to(source.device)
    real, halves = folders[REFERENCE], _halves(folders[REFERENCE])
    floor: list[Measurement] = []
    if 2 * min(map(len, halves)) >= LEAST:  # not where most are twins
        parts = [features[REFERENCE][rows] for rows in halves]
        names = [[real.contents[i] for i in rows] for rows in halves]
        floor = distances(parts[0], parts[1], names[0], names[1])[0]
    found_there, missing = distances(
        features[SAMPLES], features[REFERENCE], folders[SAMPLES].contents, real.contents
    )
    neighbours = None
    if TRAIN in folders or not paired:  # samples of pairs are meant to be near their reference
        bank = TRAIN if TRAIN in folders else REFERENCE
        neighbours = _neighbours(folders[SAMPLES], features[SAMPLES], folders[bank], features[bank])
    return replace(
        found, model=model, feature_dim=source.feature_dim,
        measurements=(*found.measurements, *found_there),
        floor=tuple(floor),
        missing={**found.missing, **missing}, neighbours=neighbours,
    )  # fmt: skip


def _halves(folder: PictureFolder) -> tuple[list[int], list[int]]:
    """Rows of two halves, every second content by its hash: twins stay in one, since a copy of a
    picture in the other half is no other real picture."""
    distinct = sorted(set(folder.contents))
    keys = dict(zip(distinct, hash_order("halves", distinct), strict=True))
    place = {one: i % 2 for i, one in enumerate(sorted(distinct, key=keys.__getitem__))}
    sides = [place[one] for one in folder.contents]
    one, other = ([i for i, side in enumerate(sides) if side == half] for half in (0, 1))
    return one, other


def _neighbours(
    samples: PictureFolder, x: torch.Tensor, real: PictureFolder, y: torch.Tensor
) -> Neighbours | None:
    """None where no two pictures of `real` differ."""
    from zoobench.solvers.generated import COPY, copied

    first = {one: row for row, one in reversed(list(enumerate(real.contents)))}
    if len(first) < 2:
        return None
    bank = sorted(first.values())  # a twin, as near, would hide a copy
    spaces = {THUMBS: copied(_thumbs(samples), _thumbs(real)[bank]), FEATURES: copied(x, y[bank])}
    found = {name: (one.tolist(), rows.tolist()) for name, (one, rows) in spaces.items()}
    every = []
    for i, (name, content) in enumerate(zip(samples.names, samples.contents, strict=True)):
        if content in first:
            every.append(Neighbour(name, real.names[first[content]], 0.0, PIXELS))
            continue
        by = next((by for by in (THUMBS, FEATURES) if found[by][0][i] < COPY), "")
        ratios, rows = found[by or FEATURES]
        every.append(Neighbour(name, real.names[bank[rows[i]]], ratios[i], by))
    every.sort(key=lambda one: (not one.copy, one.ratio, one.sample))
    copies = tuple(one for one in every if one.copy)
    return Neighbours(real.facts.place, copies, tuple(every[:SHOWN]))


def _thumbs(folder: PictureFolder) -> torch.Tensor:
    """(N, 3 THUMB THUMB) float32, each picture drawn to a square."""
    import torch
    from PIL import Image

    def one(row: int) -> NDArray[np.uint8]:
        small = folder.split.read(row).resize((THUMB, THUMB), Image.Resampling.BILINEAR)
        return np.asarray(small).reshape(-1)

    with ThreadPoolExecutor(THREADS) as pool:
        rows = list(pool.map(one, range(len(folder))))
    return torch.from_numpy(np.stack(rows)).float()
