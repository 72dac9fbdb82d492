"""Decoders of segmentation-models-pytorch on our maps: shapes, orientation, and what is said where
the library is not installed. `.ci/run` installs it; elsewhere all but two tests skip."""

from __future__ import annotations

import importlib.util
from typing import get_args

import pytest
import torch

from zoobench import methods, models
from zoobench.errors import MissingExtra, UserError
from zoobench.methods import dense_decoders
from zoobench.methods.dense_decoders import Borrowed, nearest
from zoobench.methods.dense_finetune import network
from zoobench.models.dense import dense
from zoobench.views import MapSpec

HERE = importlib.util.find_spec("segmentation_models_pytorch") is not None
needs_library = pytest.mark.skipif(not HERE, reason="pip install 'zoobench[segmentation]'")
KINDS = get_args(Borrowed)


@pytest.mark.parametrize(
    ("strides", "expected"),
    [
        ((4, 8, 16, 32), (0, 1, 2, 3)),
        ((8, 16, 32), (0, 0, 1, 2)),
        ((4, 8, 16, 32, 64), (0, 1, 2, 3)),
        ((14, 14, 14, 14), (0, 1, 2, 3)),
        ((16, 16), (0, 0, 1, 1)),
        ((32,), (0, 0, 0, 0)),
    ],
)
def test_a_level_takes_the_map_that_is_nearest_to_it(
    strides: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    specs = [MapSpec(stride, 8, "tap") for stride in strides]
    assert nearest(specs) == expected


def test_without_the_library_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    view = dense(models.load(models.resolve("synthetic/gabor")), (64, 64))
    monkeypatch.setattr(dense_decoders.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    with pytest.raises(MissingExtra, match=r"pip install 'zoobench\[segmentation\]'"):
        network(view, 5, "unet")
    with pytest.raises(UserError, match="decoder"):
        methods.build("fine-tune", {"decoder": "unett"}, task="segmentation")


@needs_library
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["timm/resnet18", "timm/vit_tiny_patch16_224"])
@pytest.mark.parametrize("size", [(96, 128), (100, 130)])
def test_scores_cover_the_frame_the_right_way_up(
    kind: str, name: str, size: tuple[int, int]
) -> None:
    """A tile of the frame changes its own cells most, in eval mode."""
    view = dense(models.load(models.resolve(f"{name}?weights=random")), size)
    torch.manual_seed(0)
    net = network(view, 5, kind).eval()
    frames = torch.full((1, *size, 3), 128, dtype=torch.uint8)
    changed = frames.clone()
    changed[:, 8:24, 72:88] = 255
    with torch.no_grad():
        before, after = net(frames), net(changed)
    assert before.shape == (1, 5, -(-view.input_size[0] // 4), -(-view.input_size[1] // 4))
    moved = (after - before).abs().sum(dim=1)[0]
    weight = moved / moved.sum()
    down, across = (torch.arange(n, dtype=torch.float32) * 4 + 2 for n in moved.shape)
    at = float((weight.sum(1) * down).sum()), float((weight.sum(0) * across).sum())
    middle = view.input_size[0] / 2, view.input_size[1] / 2
    assert at[0] < middle[0]
    assert at[1] > middle[1]
