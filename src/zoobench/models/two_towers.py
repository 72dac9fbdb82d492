"""Networks of pictures and texts in one folder of transformers: CLIP, SigLIP and their like.

As a backbone such a folder is its half that reads pictures (see `vision`); here is the other one,
read when it is first asked for. K texts, E dimensions of the space that both share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import MissingWeights, Unsupported
from zoobench.models import folders
from zoobench.models.backbones import seeded
from zoobench.models.catalog import ZERO_SHOT
from zoobench.models.text import pretrained, quiet, tokenizer_of, transformers_errors
from zoobench.views import TextTower

if TYPE_CHECKING:
    import torch

    from zoobench.schema import Ref

TOGETHER = 64
"""Texts that are read at once."""


@dataclass(frozen=True)
class TowerFamily:
    """A model type's class in transformers, and whether its texts are filled up to their full
    length, as in its training; else to the longest of a batch, the rest masked."""

    kind: str
    filled: bool = False


FAMILIES: Mapping[str, TowerFamily] = {
    "clip": TowerFamily("CLIPModel"),
    "siglip": TowerFamily("SiglipModel", filled=True),
    "chinese_clip": TowerFamily("ChineseCLIPModel"),
}
"""By model type, as config.json says it."""


def family_of(folder: Path) -> TowerFamily | None:
    """The family of a whole network in `folder`; None where it has no half that reads texts."""
    return FAMILIES.get(str((folders.read_json(folder / "config.json") or {}).get("model_type")))


def answers(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The tasks that a model of this configuration answers as it is, by texts."""
    return ZERO_SHOT if config.get("model_type") in FAMILIES else ()


def text_tower(folder: Path, ref: Ref, seed: int) -> TextTower:
    """The half that reads texts, of a folder that `family_of` knows. Raises MissingWeights, and
    Unsupported for weights that are those of the other half alone."""
    import transformers

    family = family_of(folder)
    assert family is not None
    weights = str(ref.option("weights", "pretrained"))
    if weights not in ("pretrained", "random"):
        raise Unsupported(f"{ref.short}: {weights} is for its pictures: its texts have none")
    tokenizer = tokenizer_of(folder)
    with transformers_errors(f"{ref.short} in {folder}"), quiet():
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        kind = getattr(transformers, family.kind)
        with seeded(seed):
            whole: Any = (
                pretrained(kind, config, folder, ref)[0]
                if weights == "pretrained"
                else kind(config)
            )
    whole = whole.float().eval()
    length = int(config.text_config.max_position_embeddings)
    if family.filled and tokenizer.pad_token_id is None:
        raise MissingWeights(f"{folder}: its tokenizer has no token to fill texts up with")
    bias = getattr(whole, "logit_bias", None)
    return TextTower(
        embed=partial(_embed, whole, tokenizer, family.filled, length),
        project=partial(_project, getattr(whole, "visual_projection", None)),
        scale=float(whole.logit_scale.detach().exp()),
        bias=float(bias.detach()) if bias is not None else 0.0,
    )


def _embed(
    whole: Any, tokenizer: Any, filled: bool, length: int, texts: Sequence[str]
) -> torch.Tensor:
    """(K, E) float32 of texts, which are cut at the network's length."""
    import torch

    found = []
    for first in range(0, len(texts), TOGETHER):
        batch = tokenizer(
            [text.encode("utf-8", "replace").decode() for text in texts[first : first + TOGETHER]],
            padding="max_length" if filled else True, truncation=True, max_length=length,
            return_tensors="pt",
        )  # fmt: skip
        # What fills a text up is read as any other token by a network that was trained so.
        names = ("input_ids",) if filled else ("input_ids", "attention_mask")
        with torch.inference_mode():
            made = whole.get_text_features(**{name: batch[name] for name in names})
        found.append(getattr(made, "pooler_output", made).float())
    return torch.cat(found)


def _project(projection: torch.nn.Linear | None, features: torch.Tensor) -> torch.Tensor:
    """(N, E) float32 of pooled pictures; SigLIP pools them into the shared space itself."""
    import torch

    if projection is None:
        return features.float()
    with torch.inference_mode():
        projected: torch.Tensor = projection(features.float())
    return projected
