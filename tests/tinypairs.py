"""Networks of pictures and texts in folders, built on the spot with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "red", "green", "blue", "square",
         "cat", "dog", "the", "picture", ".",
         "class0", "class1", "class2", "class3", "stripes")  # fmt: skip
HIDDEN: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
PICTURES: dict[str, Any] = {**HIDDEN, "image_size": 32, "patch_size": 16}
TEXTS: dict[str, Any] = {
    **HIDDEN, "vocab_size": len(WORDS), "max_position_embeddings": 12,
    "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0,
}  # fmt: skip
KINDS = {"clip": "CLIP", "siglip": "Siglip"}


def tiny_pair(kind: str, folder: Path, seed: int = 0) -> Any:
    """The whole network, which `folder` then holds with its tokenizer and its processor."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    name = KINDS[kind]
    more = {"projection_dim": 8} if kind == "clip" else {}
    config = getattr(transformers, f"{name}Config")(
        text_config=dict(TEXTS), vision_config=dict(PICTURES), **more
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = getattr(transformers, f"{name}Model")(config)
        for parameter in module.parameters():  # begun so small, all towers agree
            parameter.data += 0.2 * torch.randn_like(parameter)
    module.eval().save_pretrained(folder)
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=12,
    ).save_pretrained(folder)  # fmt: skip
    processor = {
        "image_processor_type": f"{name}ImageProcessor", "do_resize": True, "do_normalize": True,
        "size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "do_rescale": True, "rescale_factor": 1 / 255, "resample": 2, "do_center_crop": False,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return module
