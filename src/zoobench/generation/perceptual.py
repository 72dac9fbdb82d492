"""LPIPS of pairs (Zhang et al. 2018, arXiv:1801.03924), version 0.1 over AlexNet, by the package
`lpips`: the distance of two pictures' features, weighed as people judged them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from zoobench import machine, models
from zoobench.errors import missing_extra

if TYPE_CHECKING:
    import torch

TRUNK = "torchvision/alexnet"
SMALLEST = 32
"""Pixels of a side that AlexNet leaves something of."""

Distance = Callable[["torch.Tensor", "torch.Tensor"], float]
"""Of two pictures (1, 3, H, W) in [0, 1]."""


def lpips_distance(device: str = "auto", trunk: str = TRUNK) -> Distance:
    """Raises MissingExtra, and MissingWeights where those of AlexNet cannot be had.

    The package brings the weights of its judgements alone and would download AlexNet's unchecked:
    they come from the zoo, verified.
    """
    import torch

    place = machine.resolve(device)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # it calls torchvision as in 2021
        try:
            from lpips import LPIPS
        except ImportError as error:
            raise missing_extra("lpips", "lpips", "--lpips") from error
        network = LPIPS(net="alex", pnet_rand=True, verbose=False)
    features = models.load(models.resolve(trunk)).module.get_submodule("features").state_dict()
    # Its layers are called slice1.0.weight, after their place in torchvision's.
    layers = {name: features[name.partition(".")[2]] for name in network.net.state_dict()}
    network.net.load_state_dict(layers)
    network.eval().to(place)

    def distance(x: torch.Tensor, y: torch.Tensor) -> float:
        with torch.inference_mode():
            return float(network(x.to(place), y.to(place), normalize=True))

    return distance
