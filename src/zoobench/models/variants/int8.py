"""int8-weight and int8-dynamic: linear layers by torchao, with one scale a row of the weights.

    int8-weight     W = scale * int8; computed in float32
    int8-dynamic    the inputs become int8 too, each token by its own largest entry

Embeddings and convolutions stay as they are, so it depends on the network what is gained.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoobench.errors import missing_extra
from zoobench.models.variants.coverage import Coverage, covered, twin

if TYPE_CHECKING:
    import torch

    from zoobench.models.backbones import OurBackbone


def weight_only(backbone: OurBackbone) -> tuple[OurBackbone, Coverage]:
    """Raises MissingExtra."""
    return _quantised(backbone, "Int8WeightOnlyConfig")


def dynamic(backbone: OurBackbone) -> tuple[OurBackbone, Coverage]:
    """Raises MissingExtra."""
    return _quantised(backbone, "Int8DynamicActivationInt8WeightConfig")


def _quantised(backbone: OurBackbone, config: str) -> tuple[OurBackbone, Coverage]:
    own = twin(backbone)
    names = linear_layers(own.module)
    coverage = covered(own, names)
    if names:
        quantise(own.module, config)
    return own, coverage


def linear_layers(module: torch.nn.Module) -> list[str]:
    """The layers that torchao takes: linear ones, but for the last of a torch.nn attention, whose
    weights are used without the layer."""
    import torch
    from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

    return [
        name
        for name, one in module.named_modules()
        if isinstance(one, torch.nn.Linear) and not isinstance(one, NonDynamicallyQuantizableLinear)
    ]


def quantise(module: torch.nn.Module, config: str) -> None:
    """The linear layers of `module` in place, as torchao's `config` says. Raises MissingExtra."""
    if importlib.util.find_spec("torchao") is None:
        raise missing_extra("torchao", "compression", "an int8 variant")
    with quiet():
        from torchao import quantization

        names = set(linear_layers(module))
        chosen: Any = getattr(quantization, config)()
        quantization.quantize_(module, chosen, lambda _, name: name in names)


@contextmanager
def quiet() -> Iterator[None]:
    """Quantisers and exporters talk much, torch of torchao too; what they fail by is raised all the
    same."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
