"""pruned-50: of all weights of layers the half that is nearest to zero becomes zero.

Magnitude pruning of linear and convolutional layers together, with nothing trained after it (Han
et al. 2015, arXiv:1506.02626). The tensors are as large as before: bytes are gained where they are
packed, and time only with kernels for sparse weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoobench.models.variants.coverage import Coverage, covered, twin

if TYPE_CHECKING:
    from zoobench.models.backbones import OurBackbone

SHARE = 0.5


def half(backbone: OurBackbone) -> tuple[OurBackbone, Coverage]:
    import torch
    from torch.nn.utils import prune

    own = twin(backbone)
    kinds = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    layers = {name: one for name, one in own.module.named_modules() if isinstance(one, kinds)}
    coverage = covered(own, layers)
    own.module.to(memory_format=torch.contiguous_format)  # torch's pruning takes no other
    if layers:
        weights = [(layer, "weight") for layer in layers.values()]
        prune.global_unstructured(weights, prune.L1Unstructured, amount=SHARE)
        for layer, weight in weights:
            prune.remove(layer, weight)  # type: ignore[no-untyped-call]
    return own, coverage
