"""AP and its interval: the weighted sum against COCO's own evaluator on really repeated pictures.

    python benchmarks/bench_detection.py [--pictures 1000] [--resamples 2000]

The bar: 2,000 resamples of 1,000 pictures, 100 detections each, within 15 s of one core. The peers'
way is to evaluate anew each test set that is drawn; how long that takes is told from a few of them,
and both sides must say the same of those. Seconds are of the processor, on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from typing import Any

import numpy as np
import torch

from zoobench.tasks.detection import (
    Annotation,
    Boxes,
    Detected,
    Detections,
    Precisions,
    outcomes_of,
)

CLASSES, SIDE = 20, 640
BAR = 15.0


def drawn(n: int) -> tuple[Boxes, list[Detections]]:
    """Seven objects a picture, and 100 detections: some beside an object, most anywhere."""
    rng = np.random.default_rng(0)
    truth, said = [], []
    for _ in range(n):
        many = int(rng.integers(0, 15))
        corner, sides = rng.uniform(0, 500, (many, 2)), np.exp(rng.uniform(2, 5, (many, 2)))
        boxes, labels = (
            np.concatenate([corner, corner + sides], axis=1),
            rng.integers(CLASSES, size=many),
        )
        truth.append(Annotation.of((SIDE, SIDE), boxes, labels))
        near = boxes + rng.normal(0, 0.05, boxes.shape) * np.tile(sides, 2)
        at, size = rng.uniform(0, 500, (100 - many, 2)), rng.uniform(5, 140, (100 - many, 2))
        said.append(Detections.of(
            np.concatenate([near, np.concatenate([at, at + size], axis=1)]), rng.random(100),
            np.concatenate([labels, rng.integers(CLASSES, size=100 - many)]),
        ))  # fmt: skip
    return Boxes(tuple(truth), CLASSES), said


def coco(truth: Boxes, said: Detected) -> float:
    """pycocotools' AP."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def row(i: int, box: Any, label: Any) -> dict[str, Any]:
        sides = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        return {"image_id": i + 1, "category_id": int(label) + 1, "bbox": sides}

    annotations = [
        {**row(i, box, label), "area": float(area), "iscrowd": 0}
        for i, one in enumerate(truth.pictures)
        for box, label, area in zip(one.boxes, one.labels, one.area, strict=True)
    ]
    results = [
        {**row(i, box, label), "score": float(np.float32(score))}
        for i, one in enumerate(said)
        for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {
            "images": [{"id": i + 1} for i in range(len(truth))],
            "categories": [{"id": c + 1} for c in range(truth.classes)],
            "annotations": [{"id": k, **a} for k, a in enumerate(annotations, start=1)],
        }
        data.createIndex()
        evaluator = COCOeval(data, data.loadRes(results), "bbox")
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [100]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"]
    return float(precision[precision > -1].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--repeated", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    truth, said = drawn(given.pictures)
    started = time.process_time()
    outcomes = outcomes_of(said, truth)
    print(f"matching: {time.process_time() - started:.1f} s")
    rng = np.random.default_rng(1)
    weights = rng.poisson(1.0, (given.resamples, given.pictures)).astype(np.float64)
    seconds = {}
    for names in (["ap"], ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100"]):
        started = time.process_time()
        found = Precisions(outcomes)(weights, names)
        seconds[len(names)] = time.process_time() - started
        print(f"{given.resamples} resamples of {', '.join(names)}: {seconds[len(names)]:.1f} s")
    started, apart = time.process_time(), 0.0
    for b in range(given.repeated):
        pictures = np.repeat(np.arange(given.pictures), weights[b].astype(int))
        whole = Boxes(tuple(truth.pictures[i] for i in pictures), CLASSES)
        apart = max(apart, abs(coco(whole, [said[i] for i in pictures]) - found["ap"][b]))
    each = (time.process_time() - started) / given.repeated
    print(f"pycocotools on a test set that was drawn: {each:.1f} s, AP apart by {apart:.1e}")
    assert apart < 1e-9, "both must say the same"
    print(f"that is {each * given.resamples / seconds[1]:,.0f} times the processor's time for AP")
    print(f"the bar of {BAR:g} s: {'met' if max(seconds.values()) <= BAR else 'MISSED'}")


if __name__ == "__main__":
    main()
