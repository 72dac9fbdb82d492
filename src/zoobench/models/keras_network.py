"""A network of Keras 3 on its torch backend, as a module that takes pictures as all others do.

N pictures, H and W pixels.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import Unsupported, missing_extra

if TYPE_CHECKING:
    import torch

BACKEND = "KERAS_BACKEND"
HEAD = ("Activation", "Dropout", "Identity", "Reshape", "Softmax")
"""What stands between a classifier's dense layer and what it says, by its class in keras.layers."""
FIRST = 3
"""Layers of a model, or of one inside of it, among which it may bring pixels to its scale."""


def library() -> Any:
    """The module keras, on torch. Raises MissingExtra where it is absent, Unsupported where this
    process has it on another backend."""
    os.environ.setdefault(BACKEND, "torch")
    try:
        import h5py  # noqa: F401  weights lie in its files
        import keras
    except ImportError as error:
        raise missing_extra("keras", "keras", "a network of Keras") from error
    if keras.backend.backend() != "torch":
        raise Unsupported(
            f"keras runs on {keras.backend.backend()} here: say {BACKEND}=torch, or nothing"
        )
    keras.config.disable_interactive_logging()  # a download's progress would go to stdout
    return keras


@contextlib.contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Keras draws its initial weights from Python's own generator: seeded here, and given back as
    it was."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


def module_of(net: Any, bgr: bool = False) -> torch.nn.Module:
    """`net`, a Keras model of pictures with the channels last, as a module of (N, 3, H, W) float32
    in RGB, which are turned to BGR where it learned from such.

    In train mode its batch norms take the batch's statistics and its dropout drops. Moving
    statistics are no parameters: its `counted` are those that are trained.
    """
    import torch

    class KerasNetwork(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.counted = sum(one.numel() for one in net.parameters() if one.requires_grad)

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            seen = pictures.flip(1) if bgr else pictures
            found: torch.Tensor = self.net(seen.permute(0, 2, 3, 1), training=self.training)
            return found

    return KerasNetwork()


def classifier_input(keras: Any, net: Any, path: Path) -> tuple[Any, str]:
    """What the dense layer reads that makes the answers of `net`, and that layer's name; its one
    output itself, and "output", where no dense layer makes it: one may stand anywhere inside, such
    as in a gate. Raises Unsupported where outputs follow different ones.
    """
    dense = {}
    for tensor in net.outputs:
        made, name = tensor, "output"
        while True:
            layer, node, _ = made._keras_history
            if isinstance(layer, keras.layers.Dense):
                made, name = layer._inbound_nodes[node].input_tensors[0], str(layer.name)
                break
            given = layer._inbound_nodes[node].input_tensors
            if type(layer).__name__ not in HEAD or len(given) != 1:
                made = tensor
                break
            [made] = given
        dense[id(made)] = (made, name)
    if len(dense) != 1:
        raise Unsupported(f"{path}: its {len(net.outputs)} outputs follow different layers")
    [found] = dense.values()
    return found


def scales_itself(keras: Any, net: Any) -> bool:
    """Whether `net`, or what it begins with, brings pixels of 0 to 255 to its own scale."""
    first = net.layers[:FIRST]
    inner = [one for one in first if isinstance(one, keras.Model)]
    rescaling = any(isinstance(one, keras.layers.Rescaling) for one in first)
    return rescaling or any(scales_itself(keras, one) for one in inner)


def features(module: torch.nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """(N, D): the model's output, averaged over what lies between its first and last axis."""
    found: torch.Tensor = module(pictures)
    return found.mean(dim=tuple(range(1, found.ndim - 1))) if found.ndim > 2 else found
