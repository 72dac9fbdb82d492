"""Maps of tiles and their curves, against loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from zoobench.methods.example_parts import PictureParts
from zoobench.solvers.explanation import (
    PATH,
    TILE,
    Probability,
    blurred,
    centre,
    curves,
    integrated_gradients,
    occlusion,
    of_tiles,
    tiles,
)


def picture(height: int, width: int) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


def brightness(batch: torch.Tensor) -> torch.Tensor:
    """No probability of a network, but one that pixels decide unevenly, and that is not saturated
    on the way from a blurred picture to the picture."""
    rng = torch.Generator().manual_seed(3)
    weights = 0.05 * torch.randn(batch[0].shape, generator=rng)
    return torch.sigmoid((batch * weights).flatten(1).sum(dim=1))


def of_parts(parts: PictureParts) -> Probability:
    return lambda masks: brightness(torch.stack([*parts.shown(masks)]))


def slopes(batch: torch.Tensor) -> torch.Tensor:
    at = batch.clone().requires_grad_()
    found: torch.Tensor = torch.autograd.grad(brightness(at).sum(), at)[0]
    return found


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
    probability = of_parts(PictureParts(own))
    assert curves(importance, probability) == pytest.approx(expected, abs=1e-6)


def test_occlusion_is_the_fall_of_a_hidden_tile() -> None:
    own = picture(32, 48)
    parts = PictureParts(own)
    blank, found = parts.blank, occlusion(parts.count, of_parts(parts))
    hidden = own.clone()
    hidden[:, 16:32, 16:32] = blank[:, 16:32, 16:32]
    fall = brightness(own[None]) - brightness(hidden[None])
    assert float(found[4]) == pytest.approx(float(fall[0]), abs=1e-6)
    assert len(found) == 6


def test_integrated_gradients_are_those_of_a_fine_rule_and_add_up() -> None:
    own, blank = picture(24, 40), blurred(picture(24, 40))
    found = integrated_gradients(own, blank, slopes)
    at = (torch.arange(2000).view(-1, 1, 1, 1) + 0.5) / 2000
    expected = (own - blank) * slopes(blank + at * (own - blank)).mean(dim=0)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    rise = float(brightness(own[None]).double() - brightness(blank[None]).double())
    assert float(found.sum()) == pytest.approx(rise, rel=1e-3)
    by_tile = of_tiles(found)
    assert float(by_tile[-1]) == pytest.approx(float(found[:, 16:, 32:].sum()), rel=1e-4)
    assert float(by_tile.sum()) == pytest.approx(float(found.sum()), rel=1e-4)


def test_integrated_gradients_are_captums() -> None:
    attr = pytest.importorskip("captum.attr")
    own, blank = picture(24, 40), blurred(picture(24, 40))
    expected = attr.IntegratedGradients(brightness).attribute(
        own[None], blank[None], n_steps=PATH, method="gausslegendre"
    )[0]
    found = integrated_gradients(own, blank, slopes)
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()


def test_occlusion_is_captums() -> None:
    attr = pytest.importorskip("captum.attr")
    parts = PictureParts(picture(32, 48))
    expected = attr.FeatureAblation(brightness).attribute(
        parts.picture[None], parts.blank[None], feature_mask=parts.owner.expand(1, 3, -1, -1)
    )[0, 0, ::TILE, ::TILE]
    found = occlusion(parts.count, of_parts(parts))
    assert (found - expected.flatten()).abs().max() < 1e-3 * expected.abs().max()


def pixel_flipping(parts: PictureParts, importance: torch.Tensor, start: torch.Tensor) -> float:
    """The area under Quantus's curve, as it replaces the tiles of `start`, one a step, by those of
    the other picture of `parts`."""
    quantus = pytest.importorskip("quantus")
    goal = (parts.blank if start is parts.picture else parts.picture).flatten().numpy()
    ranks = importance.argsort().argsort()[parts.owner].expand(1, 3, -1, -1).float()

    def replaced(arr: Any, indices: Any, **_: object) -> Any:
        made = arr.copy()
        made[0, indices[0]] = goal[indices[0]]
        return made

    class Network(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            one = brightness(batch)
            return torch.stack([one, 1 - one], dim=1)

    flipping = quantus.PixelFlipping(
        features_in_step=3 * TILE * TILE, perturb_func=replaced, disable_warnings=True,
        display_progressbar=False, return_auc_per_sample=False,
    )  # fmt: skip
    curve = flipping(
        Network().eval(), start[None].numpy(), np.array([0]), ranks.numpy(),
        softmax=False, device="cpu",
    )[0]  # fmt: skip
    whole = [float(brightness(start[None])[0]), *curve]
    return float(np.trapezoid(whole, dx=1 / parts.count))


def test_curves_are_those_of_pixel_flipping() -> None:
    parts = PictureParts(picture(64, 48))
    importance = torch.rand(parts.count, generator=torch.Generator().manual_seed(1))
    expected = [pixel_flipping(parts, importance, one) for one in (parts.blank, parts.picture)]
    found = curves(importance, of_parts(parts))
    assert found == pytest.approx(expected, abs=1e-3)
    assert abs(found[0] - found[1]) > 0.02, "else the order would not matter"


def test_the_blur_is_gaussian_with_mirrored_edges() -> None:
    own = picture(48, 64)
    expected = [gaussian_filter(one, 3.0, mode="mirror", truncate=3.0) for one in own.numpy()]
    assert np.allclose(blurred(own).numpy(), expected, atol=1e-5)


def test_the_centre_is_nearest_to_the_middle() -> None:
    assert int(centre(picture(48, 48)).argmax()) == 4
