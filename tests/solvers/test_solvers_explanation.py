"""Maps of tiles and their curves, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from zoobench.solvers.explanation import TILE, blurred, centre, curves, occlusion, tiles


def picture(height: int, width: int) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


def brightness(batch: torch.Tensor) -> torch.Tensor:
    """No probability, but one that pixels decide unevenly."""
    weights = torch.linspace(0, 1, batch[0].numel()).view_as(batch[0])
    return torch.sigmoid(0.01 * (batch * weights).flatten(1).sum(dim=1))


@pytest.mark.parametrize(("height", "width"), [(48, 48), (40, 70)])
def test_curves_are_those_of_a_loop(height: int, width: int) -> None:
    own, blank = picture(height, width), blurred(picture(height, width))
    across = -(-width // TILE)
    boxes = [
        (slice(top, top + TILE), slice(left, left + TILE))
        for top in range(0, height, TILE)
        for left in range(0, width, TILE)
    ]
    assert int(tiles(own)[-1, -1]) + 1 == len(boxes)
    importance = torch.rand(len(boxes), generator=torch.Generator().manual_seed(1))
    order = sorted(range(len(boxes)), key=lambda t: -float(importance[t]))
    assert len(boxes) <= 16 or across > 4, "one tile a step, or more"
    steps = min(16, len(boxes))
    ends = [round(step * len(boxes) / steps) for step in range(steps + 1)]
    expected = []
    for start, goal in ((blank, own), (own, blank)):
        values = []
        for end in ends:
            made = start.clone()
            for tile in order[:end]:
                made[:, *boxes[tile]] = goal[:, *boxes[tile]]
            values.append(float(brightness(made[None])[0]))
        expected.append(np.trapezoid(values, np.array(ends) / len(boxes)))
    assert curves(own, blank, importance, brightness) == pytest.approx(expected, abs=1e-6)


def test_occlusion_is_the_fall_of_a_hidden_tile() -> None:
    own = picture(32, 48)
    blank, found = torch.zeros_like(own), occlusion(own, torch.zeros_like(own), brightness)
    hidden = own.clone()
    hidden[:, 16:32, 16:32] = blank[:, 16:32, 16:32]
    fall = brightness(own[None]) - brightness(hidden[None])
    assert float(found[4]) == pytest.approx(float(fall[0]), abs=1e-6)
    assert len(found) == 6


def test_the_blur_is_gaussian_with_mirrored_edges() -> None:
    own = picture(48, 64)
    expected = [gaussian_filter(one, 3.0, mode="mirror", truncate=3.0) for one in own.numpy()]
    assert np.allclose(blurred(own).numpy(), expected, atol=1e-5)


def test_the_centre_is_nearest_to_the_middle() -> None:
    assert int(centre(picture(48, 48)).argmax()) == 4
