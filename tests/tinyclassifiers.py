"""Small classifiers in transformers' folders, built on the spot with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinymodels import tiny_bert, write_files
from tinysound import KINDS

SOUNDS = [kind for kind in KINDS if kind != "clap"]
HEADS = {"ast": "ForAudioClassification", "whisper": "ForAudioClassification"}
"""What follows a family's name in its class with a head, where that is not as of all others."""


def tiny_classifier(
    kind: str, folder: Path, labels: Sequence[str], seed: int = 0, **told: Any
) -> Any:
    """A network with a head of `labels`, which `folder` then holds with what prepares its inputs:
    "text" (a BERT), "image" (a ViT) or one of SOUNDS. `told` are more of its settings."""
    import torch
    import transformers

    told = {"id2label": dict(enumerate(labels)), **told}
    if kind == "text":
        write_files(tiny_bert(seed), folder)
        config: Any = transformers.BertConfig.from_pretrained(folder, initializer_range=0.3, **told)
        name = "BertForSequenceClassification"
    elif kind == "image":
        config = transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            image_size=32, patch_size=8, **told,
        )  # fmt: skip
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
        name = "ViTForImageClassification"
    else:
        family, settings, extractor, options = KINDS[kind]
        config = getattr(transformers, f"{family}Config")(**settings, **told)
        getattr(transformers, extractor)(**options).save_pretrained(folder)
        name = family + HEADS.get(kind, "ForSequenceClassification")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = getattr(transformers, name)(config)
    module.eval().save_pretrained(folder)
    return module


def plant(folder: Path, module: Any, bias: Sequence[float]) -> None:
    """Let the network in `folder` give the scores `bias`, whatever it is shown."""
    import torch

    with torch.no_grad():
        last = [one for one in module.modules() if isinstance(one, torch.nn.Linear)][-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor(bias))
    module.save_pretrained(folder)
