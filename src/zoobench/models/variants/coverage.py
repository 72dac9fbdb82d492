"""How much of a model a variant touches: shares of its parameters and of its MACs."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoobench.models.backbones import AudioBackbone, OurBackbone, TextBackbone

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Coverage:
    """The shares, each in [0, 1], of the parameters and of one forward pass's MACs."""

    params: float
    macs: float


WHOLE = Coverage(1.0, 1.0)


def twin(backbone: Any) -> Any:
    """`backbone` over a module of its own, which may be changed."""
    own = copy.copy(backbone)
    object.__setattr__(own, "module", copy.deepcopy(backbone.module))
    return own


def covered(backbone: OurBackbone, names: Collection[str]) -> Coverage:
    """What the linear and convolutional layers called `names` are of the whole.

    All MACs are torch's own count of a forward pass of one example, those of a layer its weights'
    number times the positions that it is applied to.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    module = backbone.module
    layers: list[Any] = [module.get_submodule(name) for name in names]
    total = sum(p.numel() for p in module.parameters())
    weights = sum(layer.weight.numel() for layer in layers)
    macs = [0]

    def add(layer: Any, _: Any, output: torch.Tensor) -> None:
        channels = layer.weight.shape[0]  # of the output, in linear layers and convolutions alike
        macs[0] += layer.weight.numel() * (output.numel() // channels)

    handles = [layer.register_forward_hook(add) for layer in layers]
    counter = FlopCounterMode(display=False)
    try:
        # Attention in plain products: torch does not count every fused kernel.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            backbone.embed(_on_device_of(module, _example(backbone)))
    finally:
        for handle in handles:
            handle.remove()
    # torch counts a multiplication and its addition as two.
    whole = max(counter.get_total_flops() // 2, macs[0], 1)
    return Coverage(weights / max(total, 1), macs[0] / whole)


def _on_device_of(module: torch.nn.Module, batch: Any) -> Any:
    """`batch` (a tensor or a mapping of tensors) where the module's parameters are."""
    if isinstance(batch, Mapping):
        return {name: _on_device_of(module, one) for name, one in batch.items()}
    parameter = next(module.parameters(), None)
    return batch if parameter is None else batch.to(parameter.device)


def _example(backbone: OurBackbone) -> Any:
    """A batch of one picture, text or recording that fills the model's own input."""
    spec = backbone.input_spec
    if isinstance(backbone, TextBackbone):
        return backbone.collate([backbone.prepare("word " * (spec.length or 128))])
    if isinstance(backbone, AudioBackbone):
        import numpy as np

        from zoobench.audio import Clip

        silence = np.zeros(spec.length or 1, dtype=np.float32)
        return backbone.collate([backbone.prepare(Clip(silence, spec.rate or 1))])
    from PIL import Image

    _, height, width = spec.size or (3, 224, 224)
    return backbone.collate([backbone.prepare(Image.new("RGB", (width, height)))])
