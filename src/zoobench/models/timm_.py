"""timm/..."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def pooled_features(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """(N, D): timm's pooled features just before the classifier."""
    model: Any = module
    features: torch.Tensor = model.forward_head(model.forward_features(batch), pre_logits=True)
    return features
