"""PSNR and SSIM against scikit-image, and against the formulas where it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from zoobench.solvers import image_quality
from zoobench.solvers.image_quality import gaussian, psnr, ssim


def noisy(shape: tuple[int, ...], spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth pictures, and the same with noise."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.random(shape))
    x = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
    y = (x + torch.from_numpy(rng.normal(0, spread, shape))).clamp(0, 1)
    return x.float(), y.float()


@pytest.mark.parametrize("shape", [(3, 3, 40, 57), (2, 1, 28, 28), (2, 3, 11, 12), (1, 4, 11, 11)])
@pytest.mark.parametrize("spread", [0.02, 0.3])
def test_psnr_and_ssim_are_scikit_images(shape: tuple[int, ...], spread: float) -> None:
    x, y = noisy(shape, spread, sum(shape))
    for i, (a, b) in enumerate(zip(x.double().numpy(), y.double().numpy(), strict=True)):
        similar = structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=1, channel_axis=0,
        )  # fmt: skip
        assert float(ssim(x, y)[i]) == pytest.approx(similar, abs=1e-6)
        expected = peak_signal_noise_ratio(a, b, data_range=1)
        assert float(psnr(x, y)[i]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "window"), [(8, 28, (7, 11)), (9, 10, (9, 9)), (1, 2, (1, 1))]
)
def test_a_small_side_has_a_smaller_window(
    height: int, width: int, window: tuple[int, int]
) -> None:
    """By the paper's formula, window by window."""
    x, y = noisy((1, 2, height, width), 0.1, height)
    assert (len(gaussian(height)), len(gaussian(width))) == window
    a, b = window
    weights = np.outer(gaussian(height), gaussian(width))
    assert weights.sum() == pytest.approx(1)
    scores = []
    for one, other in zip(x[0].double().numpy(), y[0].double().numpy(), strict=True):
        for i in range(height - a + 1):
            for j in range(width - b + 1):
                u, v = one[i : i + a, j : j + b], other[i : i + a, j : j + b]
                mu, nu = (weights * u).sum(), (weights * v).sum()
                var_u = (weights * (u - mu) ** 2).sum()
                var_v = (weights * (v - nu) ** 2).sum()
                both = (weights * (u - mu) * (v - nu)).sum()
                light = (2 * mu * nu + 1e-4) / (mu**2 + nu**2 + 1e-4)
                scores.append(light * (2 * both + 9e-4) / (var_u + var_v + 9e-4))
    assert float(ssim(x, y)[0]) == pytest.approx(np.mean(scores), abs=1e-9)


def test_equal_pictures_are_one_and_infinitely_near() -> None:
    x, _ = noisy((2, 3, 16, 16), 0.1, 0)
    assert torch.isposinf(psnr(x, x)).all()
    torch.testing.assert_close(ssim(x, x), torch.ones(2, dtype=torch.float64))
    assert psnr(x, (x + 0.1)).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = noisy((7, 3, 20, 20), 0.2, 1)
    whole = ssim(x, y), psnr(x, y)
    monkeypatch.setattr("zoobench.solvers.basis.CACHE_BYTES", 1)
    assert torch.equal(ssim(x, y), whole[0])
    assert torch.equal(psnr(x, y), whole[1])


@pytest.mark.parametrize("other", [(2, 3, 8, 9), (1, 3, 8, 8), (3, 8, 8)])
def test_other_shapes_are_refused(other: tuple[int, ...]) -> None:
    for score in (image_quality.psnr, image_quality.ssim):
        with pytest.raises(ValueError, match=r"expected two arrays \(N, C, H, W\), got \(2, 3"):
            score(torch.zeros(2, 3, 8, 8), torch.zeros(other))
