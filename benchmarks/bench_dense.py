"""A dense probe: the certified solver against a head trained by SGD on the same cached maps.

    python benchmarks/bench_dense.py [--size 224]

The peers' way (DINOv2's linear head): batch norm and a 1x1 layer on the last map, logits bilinear
to the frame, the mean cross-entropy of all pixels, 10 epochs of SGD with momentum 0.9 and a cosine
decay, the best of three rates. Both are judged alike: the cross-entropy and the mIoU on valid of
logits that are bilinear between cells. Seconds are of the processor, on one thread; all
rates of the grid count, as all lambdas of the path do.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from zoobench import datasets, models
from zoobench.features.source import Features, View
from zoobench.interfaces import SealedSplits, Split
from zoobench.methods.cells import cell_miou, sampled
from zoobench.models.dense import placement
from zoobench.solvers.logistic import logistic_path
from zoobench.tasks.segmentation import IGNORED, masks_of, mean_iou

EPOCHS, BATCH, RATES = 10, 16, (1e-3, 1e-2, 1e-1)


def frames(split: Split, size: int) -> Tensor:
    """(N, H, W) the masks in their frames, by the nearest pixel."""
    from PIL import Image

    out = np.full((len(split), size, size), IGNORED, dtype=np.int64)
    for i in range(len(split)):
        mask = masks_of(split).read(i)
        h, w = placement(masks_of(split).sizes[i], (size, size), "letterbox").content
        out[i, :h, :w] = Image.fromarray(mask).resize((w, h), Image.Resampling.NEAREST)
    return torch.from_numpy(out)


def judged(scores: Tensor, target: Tensor) -> tuple[float, float]:
    """(cross-entropy, mIoU) of scores (N, C, h, w) over the frames' pixels."""
    losses, sums = [], np.zeros((3, scores.shape[1]))
    for one, mask in zip(scores, target, strict=True):
        whole = functional.interpolate(one[None], mask.shape, mode="bilinear")
        valid = mask != IGNORED
        losses.append(functional.cross_entropy(whole, mask[None], ignore_index=IGNORED))
        best, true = whole[0].argmax(dim=0)[valid], mask[valid]
        for row, pixels in zip(sums, (true[best == true], best, true), strict=True):
            row += np.bincount(pixels.numpy(), minlength=len(row))
    return float(torch.stack(losses).mean()), float(mean_iou(*(row[None] for row in sums))[0])


def by_sgd(train: Tensor, target: Tensor, valid: Tensor, held: Tensor, classes: int) -> Any:
    """(cross-entropy, mIoU, rate) of the best rate."""
    found = []
    for rate in RATES:
        torch.manual_seed(0)
        head = nn.Sequential(nn.BatchNorm2d(train.shape[1]), nn.Conv2d(train.shape[1], classes, 1))
        steps = EPOCHS * -(-len(train) // BATCH)
        optimizer = torch.optim.SGD(head.parameters(), lr=rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(train)).split(BATCH):
                scores = functional.interpolate(
                    head(train[rows].float()), target.shape[1:], mode="bilinear"
                )
                loss = functional.cross_entropy(scores, target[rows], ignore_index=IGNORED)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        head.eval()
        with torch.no_grad():
            found.append((*judged(head(valid.float()), held), rate))
    return min(found)


def by_solver(source: Features, splits: SealedSplits, size: int, held: Tensor) -> Any:
    """(cross-entropy, mIoU, lambda) of the probe's fit on train."""
    cells = [source.cells(split, (size, size)) for split in (splits.train, splits.valid)]
    drawn = [
        sampled(split, one.places)
        for split, one in zip((splits.train, splits.valid), cells, strict=True)
    ]
    rows = [one.rows(picked.rows) for one, picked in zip(cells, drawn, strict=True)]
    mass = [torch.from_numpy(picked.mass) for picked in drawn]
    path = logistic_path(
        rows[0], mass[0], rows[1], mass[1], mass[0].shape[1],
        judge=lambda scores: 1 - cell_miou(scores.argmax(dim=1), mass[1]),
    )  # fmt: skip
    n, h, w, _ = cells[1].values.shape
    scores = path.fit.head.scores(cells[1].rows(np.arange(n * h * w)))
    return (*judged(scores.reshape(n, h, w, -1).permute(0, 3, 1, 2), held), path.fit.lam)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="packaged/efficientnet-lite0")
    parser.add_argument("--dataset", default="packaged/photo-mosaic")
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    torch.set_num_threads(1)
    splits = datasets.load(datasets.resolve(given.dataset)).sealed()
    ref = models.resolve(given.model)
    source = Features(models.load(ref), View(str(ref)))
    started = time.process_time()
    maps = [source.cells(split, (given.size, given.size)) for split in (splits.train, splits.valid)]
    print(
        f"maps of {len(splits.train)} + {len(splits.valid)}: {time.process_time() - started:.1f} s"
    )
    train, valid = (torch.from_numpy(np.array(one.values)).permute(0, 3, 1, 2) for one in maps)
    target, held = (frames(split, given.size) for split in (splits.train, splits.valid))
    seconds = {}
    for name, run in (
        ("solver", lambda: by_solver(source, splits, given.size, held)),
        ("SGD", lambda: by_sgd(train, target, valid, held, len(splits.classes))),
    ):
        started = time.process_time()
        loss, miou, chosen = run()
        seconds[name] = time.process_time() - started
        print(f"{name}: {seconds[name]:.1f} s, loss {loss:.4f}, mIoU {miou:.3f}, chosen {chosen:g}")
    print(f"SGD takes {seconds['SGD'] / seconds['solver']:.1f} times the processor's time")


if __name__ == "__main__":
    main()
