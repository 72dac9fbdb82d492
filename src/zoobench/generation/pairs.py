"""Pictures of one name in two folders: what super-resolution, restoration or style transfer made,
beside what was meant."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoobench.datasets.ids import THREADS
from zoobench.datasets.waiting import told
from zoobench.errors import UserError
from zoobench.generation.folders import ASKED, REFERENCE, SAMPLES, PictureFolder
from zoobench.generation.perceptual import SMALLEST
from zoobench.metrics import measured
from zoobench.schema import Measurement
from zoobench.statistics.bootstrap import unit_count, units_of
from zoobench.statistics.intervals import of_ratio
from zoobench.tasks.evaluate import bounds_of

if TYPE_CHECKING:
    import torch

    from zoobench.generation.perceptual import Distance

Rows = list[tuple[int, int]]


@dataclass(frozen=True)
class PairScore:
    """A sample beside the reference of its name; no `psnr` where the two are equal, and `lpips`
    where it was asked for."""

    name: str
    psnr: float | None
    ssim: float
    lpips: float | None = None


def matched(samples: PictureFolder, reference: PictureFolder) -> Rows:
    """(row of samples, row of reference) of each pair: names are equal but for their suffixes.

    What has a damaged partner is left out with it. Raises UserError for names that stand in one
    folder alone, twice in one, and pairs of two sizes: the first is named.
    """
    stems = {}
    for what, folder in ((SAMPLES, samples), (REFERENCE, reference)):
        names = [os.path.splitext(name)[0] for name in folder.names]
        twice = [name for name, many in Counter(names).items() if many > 1]
        if twice:
            raise UserError(
                f"--paired: {ASKED[what]} {folder.facts.place} has several pictures called "
                f"{twice[0]!r} but for their suffixes"
            )
        stems[what] = {name: row for row, name in enumerate(names)}
    ours, theirs = stems[SAMPLES], stems[REFERENCE]
    _check_partners(samples, ours, reference, theirs)
    _check_partners(reference, theirs, samples, ours)
    rows = [(ours[name], theirs[name]) for name in ours if name in theirs]
    if not rows:
        raise UserError("--paired: no pair is left of which both pictures can be decoded")
    _check_sizes(samples, reference, rows)
    return rows


def _check_partners(
    here: PictureFolder, stems: dict[str, int], there: PictureFolder, others: dict[str, int]
) -> None:
    lost = {os.path.splitext(name)[0] for name in there.lost}
    alone = [name for name in stems if name not in others and name not in lost]
    if alone:
        raise UserError(
            f"--paired: {there.facts.place} has no picture called {alone[0]!r}, which "
            f"{here.facts.place} has ({len(alone)} such)"
        )


def check_seen(samples: PictureFolder, rows: Rows) -> None:
    """Raises UserError for pairs that are too small for LPIPS."""
    for row, _ in rows:
        size = samples.split.read(row).size
        if min(size) < SMALLEST:
            raise UserError(
                f"--lpips: {samples.names[row]} is {size[0]}x{size[1]} pixels, and {SMALLEST} a "
                "side are needed at least"
            )


def _check_sizes(samples: PictureFolder, reference: PictureFolder, rows: Rows) -> None:
    def sizes(pair: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        return samples.split.read(pair[0]).size, reference.split.read(pair[1]).size

    with ThreadPoolExecutor(THREADS) as pool:
        found = zip(rows, pool.map(sizes, rows), strict=True)
        for (row, _), (one, other) in told(found, "comparing sizes", len(rows)):
            if one != other:
                raise UserError(
                    f"--paired: {samples.names[row]} is {one[0]}x{one[1]} pixels in "
                    f"{samples.facts.place}, and {other[0]}x{other[1]} in {reference.facts.place}"
                )


def scored(
    samples: PictureFolder,
    reference: PictureFolder,
    rows: Rows,
    lpips: Distance | None = None,
) -> tuple[PairScore, ...]:
    """PSNR and SSIM of each pair, as RGB in [0, 1], and what `lpips` says of it."""
    from zoobench.solvers.image_quality import psnr, ssim

    found = []
    for row, other in told(rows, "comparing pictures", len(rows)):
        x, y = pixels(samples, row), pixels(reference, other)
        near = float(psnr(x, y))
        seen = None if lpips is None else lpips(x, y)
        equal = not np.isfinite(near)
        found.append(
            PairScore(samples.names[row], None if equal else near, float(ssim(x, y)), seen)
        )
    return tuple(found)


def pixels(folder: PictureFolder, row: int) -> torch.Tensor:
    """(1, 3, H, W) float32 in [0, 1]."""
    import torch

    rows = np.asarray(folder.split.read(row), dtype=np.float32) / 255
    return torch.from_numpy(rows).permute(2, 0, 1)[None]


def measurements(scores: Sequence[PairScore]) -> list[Measurement]:
    """The means over pairs with their intervals; of PSNR over those that differ, if any do."""
    found = []
    for name, value_of in _VALUES.items():
        kept = [(score.name, value) for score in scores if (value := value_of(score)) is not None]
        if kept:
            names, values = zip(*kept, strict=True)
            rows, units = np.array(values), units_of(names)
            ends: tuple[float | None, float | None] = (None, None)  # of one nothing is known
            if unit_count(units) > 1:
                ends = of_ratio(rows, np.ones(len(values)), units, bounds_of(name))
            equal = len(scores) - len(kept)
            detail = {"equal_pairs": equal} if equal else {}
            mean = float(np.mean(values))
            found.append(
                measured(name, mean, low=ends[0], high=ends[1], n=len(kept), detail=detail)
            )
    return found


_VALUES: dict[str, Callable[[PairScore], float | None]] = {
    "psnr": lambda score: score.psnr, "ssim": lambda score: score.ssim,
    "lpips": lambda score: score.lpips,
}  # fmt: skip
