"""A detector that was really trained, on real photographs: boxes that a person would draw."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import objectron
from cells import cell, settings
from zoobench import datasets, models
from zoobench.workers.runner import run_group

ARCHIVE = Path(os.environ.get("OBJECTRON", ""))
pytestmark = pytest.mark.skipif(
    not ARCHIVE.is_file() or importlib.util.find_spec("tflite") is None,
    reason="see tests/objectron.py: npm pack @mediapipe/objectron, pip install tflite",
)


@pytest.fixture(scope="module")
def detector() -> tuple[tuple[str, ...], objectron.Ssd]:
    names, graph = objectron.unpacked(ARCHIVE)
    return names, objectron.Ssd(graph).eval()


def photograph(name: str) -> Image.Image:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.submodule_search_locations
    return Image.open(Path(spec.submodule_search_locations[0]) / "data" / name).convert("RGB")


def pixels(picture: Image.Image) -> Tensor:
    """(1, 3, 300, 300) in [-1, 1]."""
    side = (objectron.SIDE, objectron.SIDE)
    values = np.asarray(picture.resize(side, Image.Resampling.BILINEAR), dtype=np.float32)
    return torch.from_numpy(values / 127.5 - 1).permute(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("name", "label", "least"),
    [
        ("chelsea.png", "Cat", 0.8),
        ("astronaut.png", "Person", 0.5),
        ("coffee.png", "Coffee cup", 0.5),
    ],
)  # fmt: skip
def test_it_finds_what_is_there(
    name: str, label: str, least: float, detector: tuple[tuple[str, ...], objectron.Ssd]
) -> None:
    names, module = detector
    with torch.no_grad():
        boxes, scores = module(pixels(photograph(name)))
    best, kind = scores[0].max(dim=1)
    at = int(best.argmax())
    assert names[int(kind[at])] == label
    assert float(best[at]) > least
    left, top, right, bottom = boxes[0, at].tolist()
    assert -0.1 < left < right < 1.1
    assert -0.1 < top < bottom < 1.1


def test_it_can_be_trained(detector: tuple[tuple[str, ...], objectron.Ssd]) -> None:
    _, module = detector
    boxes, scores = module(pixels(photograph("chelsea.png")))
    (boxes.sum() + scores.sum()).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())
    module.zero_grad(set_to_none=True)


# Drawn by eye: the cat, the astronaut without her helmet, the cup, the photographer.
TRUTH = {
    "chelsea.png": ("Cat", (0, 0, 395, 300)),
    "astronaut.png": ("person", (20, 15, 365, 512)),
    "coffee.png": ("coffee cup", (172, 18, 410, 310)),
    "camera.png": ("person", (0, 62, 330, 512)),
    "rocket.jpg": None,
}


def scenes(root: Path) -> Path:
    """Test as the photographs are, train and valid mirrored."""
    classes = {"Cat": 1, "person": 2, "coffee cup": 3}
    for part in ("train", "valid", "test"):
        folder = root / part
        folder.mkdir(parents=True)
        images, rows = [], []
        for i, (name, truth) in enumerate(TRUTH.items()):
            picture = photograph(name)
            if part != "test":
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if part == "valid":
                picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            picture.save(folder / f"{i}.png")
            images.append({"id": i, "file_name": f"{i}.png"})
            if truth is not None:
                label, (left, top, right, bottom) = truth
                box = [left, top, right - left, bottom - top]
                rows.append({"id": i, "image_id": i, "category_id": classes[label], "bbox": box})
        body = {
            "images": images, "annotations": rows,
            "categories": [{"id": number, "name": name} for name, number in classes.items()],
        }  # fmt: skip
        (folder / "_annotations.coco.json").write_text(json.dumps(body))
    return root


def test_it_is_judged_as_it_is_by_the_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectron.Models, "archive", ARCHIVE)
    row = {"objectron": "objectron:Models"}
    monkeypatch.setattr(models, "SOURCES", {**models.SOURCES, **row})
    root = scenes(tmp_path / "scenes")
    data = datasets.resolve(f"folder/photographs?path={root}&task=detection")
    asked = dataclasses.replace(
        cell(dataset=str(data)), model=models.resolve("objectron/ssd"), method="as-is",
        params={"labels": ()}, versions={**cell().versions, "task": "detection@1"},
    )  # fmt: skip
    (result,) = run_group([asked], settings())
    record = result.record
    assert record.status == "ok", record.error
    assert record.value("ap50") == pytest.approx(1.0)
    assert (record.value("ap") or 0) > 0.5
    assert record.value("classes_known") == 3
