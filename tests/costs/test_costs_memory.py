"""Predicted memory: by hand on small networks, and against what processes really take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoobench.costs.memory import needed, peak_bytes
from zoobench.costs.stopwatch import peak_memory

SIDE = 512


def on_meta(module: nn.Module, *shape: int, train: bool = False) -> int:
    return peak_bytes(module, (torch.empty(shape, device="meta"),), module.to("meta"), train)


def test_the_peak_is_the_two_largest_neighbours_with_weights_and_input() -> None:
    net = nn.Sequential(nn.Linear(10, 1000, bias=False), nn.Linear(1000, 20, bias=False))
    # Weights, the input, and both outputs: the first lives until the second is made.
    assert on_meta(net, 1, 10) == 4 * (10 * 1000 + 1000 * 20 + 10 + 1000 + 20)


def test_what_is_dropped_or_shared_counts_once() -> None:
    class Chain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(5):
                x = x * 2  # the one before is dropped
                x = x.view(-1).view_as(x).relu_()  # views, and in place
            return x

    assert on_meta(Chain(), 1, 1000) == 4 * (1000 + 2 * 1000)


def test_training_keeps_activations_gradients_and_two_moments() -> None:
    net = nn.Sequential(*(nn.Linear(100, 100, bias=False) for _ in range(10)))
    weights = 10 * 100 * 100
    assert on_meta(net, 1, 100) < 4 * (weights + 400)
    trained = on_meta(net, 1, 100, train=True)
    assert 4 * 4 * weights <= trained <= 4 * (4 * weights + 10 * 100)  # some went before


def test_attention_makes_no_table_of_weights() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    small, large = on_meta(Attention(), 1, 2, 1000, 8), on_meta(Attention(), 1, 2, 4000, 8)
    assert large == pytest.approx(4 * small, rel=0.01)


NETWORKS = {
    "wide": lambda: nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)
    ),
    "narrowing": lambda: nn.Sequential(
        nn.Conv2d(3, 96, 4, 4), nn.GELU(), nn.Conv2d(96, 192, 2, 2), nn.GELU()
    ),
    "tokens": lambda: nn.Sequential(
        nn.Conv2d(3, 192, 4, 4), nn.Flatten(2), nn.Linear((SIDE // 4) ** 2, 64), nn.GELU()
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_process_takes_what_was_predicted_or_up_to_four_times_it(name: str) -> None:
    """docs/protocol.md states the factor: workspaces of kernels are what is not seen."""
    torch.manual_seed(0)
    expected = on_meta(NETWORKS[name](), 1, 3, SIDE, SIDE)
    with peak_memory(torch.device("cpu")) as peak, torch.no_grad():
        net, x = NETWORKS[name](), torch.rand(1, 3, SIDE, SIDE)
        net(x)
    assert 0.9 <= peak.rise / expected <= 4


def test_a_model_s_need_grows_with_its_pixels() -> None:
    at = {side: needed(f"timm/resnet18?input_size={side}", train=False) for side in (512, 1024)}
    weights = 4 * 11_689_512
    assert at[1024] - weights == pytest.approx(4 * (at[512] - weights), rel=0.05)
    assert needed("timm/resnet18?input_size=512", train=True) > at[512]


def test_a_backbone_that_is_run_at_its_own_size_is_scaled() -> None:
    at = {side: needed(f"synthetic/gabor?input_size={side}", train=False) for side in (48, 96)}
    assert at[96] == pytest.approx(4 * at[48], rel=0.2)
