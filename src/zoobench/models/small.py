"""Small encoders of our own, for pretraining on a CPU: a few 100,000 parameters each.

    small-conv   pictures of 28 x 28: three strided convolutions and a linear layer
    small-vit    the same pictures in patches of 4 x 4: four transformer blocks, mean of the patches
    small-bert   texts of at most 128 bytes: two blocks of transformers' BERT, mean of the bytes

N examples, D features, T bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from zoobench.interfaces import InputSpec
from zoobench.models.backbones import (
    ImageBackbone,
    OurBackbone,
    TextBackbone,
    finish,
    pool_tokens,
    seeded,
)
from zoobench.schema import Modality

if TYPE_CHECKING:
    import torch
    from PIL import Image

SIDE = 28
"""Pixels of a picture's side: that of MNIST and its like."""
PATCH = 4
LENGTH = 128
"""Bytes of a text that are read."""
PAD, MASK = 256, 257
"""Tokens beside the 256 bytes."""
NORMAL = (0.5, 0.5, 0.5)
"""Mean and deviation of each channel: pixels lie in [-1, 1]."""
ARCHITECTURES: dict[str, Modality] = {
    "small-conv": "image", "small-vit": "image", "small-bert": "text",
}  # fmt: skip


def backbone(name: str, seed: int, provenance: dict[str, Any]) -> OurBackbone:
    """The encoder `name` of ARCHITECTURES with random weights drawn from `seed`."""
    with seeded(seed):
        module = _MODULES[name]()
    if ARCHITECTURES[name] == "image":
        spec = InputSpec(
            modality="image", size=(3, SIDE, SIDE), mean=NORMAL, std=NORMAL,
            interpolation="bilinear", crop_mode="squash", extra=(("transform", "small"),),
        )  # fmt: skip
        pictures = ImageBackbone(module, spec, "embedding", transformed, _applied)
        return finish(pictures, provenance, ())
    read = InputSpec(modality="text", length=LENGTH, extra=(("tokenizer", "bytes"),))
    texts = TextBackbone(module, read, "mean", bytes_of, _mean_of_states, pad_id=PAD)
    return finish(texts, provenance, ("transformers",))


def transformed(picture: Image.Image) -> torch.Tensor:
    """(3, SIDE, SIDE) float32 in [-1, 1] of an RGB picture, whatever its shape."""
    import numpy as np
    import torch

    sized = picture if picture.size == (SIDE, SIDE) else picture.resize((SIDE, SIDE), BILINEAR)
    pixels = torch.from_numpy(np.array(sized, dtype=np.uint8)).permute(2, 0, 1)
    return pixels.to(torch.float32).div_(127.5).sub_(1)


BILINEAR = 2
"""Pillow's number of its filter."""


def bytes_of(texts: Sequence[str]) -> list[list[int]]:
    """The first LENGTH bytes of each one's UTF-8; one that says nothing of a text without any."""
    return [list(text.encode()[:LENGTH]) or [PAD] for text in texts]


def states(module: torch.nn.Module, batch: Any) -> torch.Tensor:
    """(N, T, D) what small-bert makes of each byte."""
    found: torch.Tensor = module(**batch).last_hidden_state
    return found


def _applied(module: torch.nn.Module, batch: Any) -> torch.Tensor:
    features: torch.Tensor = module(batch)
    return features


def _mean_of_states(module: torch.nn.Module, batch: Any) -> torch.Tensor:
    return pool_tokens(states(module, batch), batch["attention_mask"], "mean")


def _conv() -> torch.nn.Module:
    """356,000 parameters, 2.5 million MACs, D = 128. Its norms know no batch: a picture's features
    are the same in training and after it."""
    from torch import nn

    layers: list[nn.Module] = []
    for inside, out in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(inside, out, 3, 2, 1), nn.GroupNorm(8, out), nn.GELU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 128))


def _vit() -> torch.nn.Module:
    """304,000 parameters, 15 million MACs, D = 96."""
    import torch
    from torch import nn

    class SmallViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 96, PATCH, PATCH)
            self.places = nn.Parameter(torch.randn(1, (SIDE // PATCH) ** 2, 96) * 0.02)
            how: dict[str, Any] = {"dropout": 0.0, "batch_first": True, "norm_first": True}
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(96, 4, 192, activation="gelu", **how) for _ in range(4)
            )
            self.norm = nn.LayerNorm(96)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            tokens = self.patches(batch).flatten(2).transpose(1, 2) + self.places
            for block in self.blocks:
                tokens = block(tokens)
            features: torch.Tensor = self.norm(tokens.mean(dim=1))
            return features

    return SmallViT()


def _bert() -> torch.nn.Module:
    """444,000 parameters, D = 128; without dropout, as its smallness asks."""
    from transformers import BertConfig, BertModel

    how = BertConfig(
        vocab_size=258, hidden_size=128, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=512, max_position_embeddings=LENGTH, type_vocab_size=1,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=PAD,
    )  # fmt: skip
    module: torch.nn.Module = BertModel(how, add_pooling_layer=False)
    return module


_MODULES: dict[str, Callable[[], torch.nn.Module]] = {
    "small-conv": _conv, "small-vit": _vit, "small-bert": _bert,
}  # fmt: skip
