"""A detector that was really trained, on real photographs: boxes that a person would draw."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import objectron

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
