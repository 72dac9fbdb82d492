"""transformers' encoders built from their configuration alone: small, and with random weights.

What an exporter makes of an architecture does not depend on how wide or deep it is. So each is
built with two layers of width 64 where its configuration has such numbers, and with a tokenizer of
bytes or the usual preprocessing of pictures beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoobench.errors import unknown
from zoobench.models.text import quiet
from zoobench.schema import Modality, Ref

TEXT = (
    "albert", "bert", "big_bird", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2",
    "distilbert", "electra", "ernie", "esm", "eurobert", "flaubert", "fnet", "ibert",
    "layoutlm", "longformer", "luke", "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra",
    "nomic_bert", "nystromformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert",
    "roformer", "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod", "yoso",
)  # fmt: skip
IMAGE = (
    "beit", "bit", "clip_vision_model", "convnext", "convnextv2", "cvt", "data2vec-vision", "deit",
    "dinov2", "dinov2_with_registers", "dinov3_convnext", "dinov3_vit", "efficientnet", "focalnet",
    "hiera", "ijepa", "levit", "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2",
    "poolformer", "pvt", "pvt_v2", "regnet", "resnet", "segformer", "siglip_vision_model",
    "swiftformer", "swin", "swinv2", "vit", "vit_mae", "vit_msn",
)  # fmt: skip
SMALL: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "num_key_value_heads": 4, "embedding_size": 64, "max_position_embeddings": 130,
    "vocab_size": 512, "initializer_range": 0.1,
}  # fmt: skip
"""Set where a configuration has the setting and it is a number. Weights are drawn wider than for
training: through deep convolutions the usual ones leave nothing of a picture."""
_STAGES: dict[str, Any] = {"hidden_size": None, "num_hidden_layers": None}
OWN: dict[str, dict[str, Any]] = {
    "big_bird": {"attention_type": "original_full"},
    "convnext": _STAGES,
    "convnextv2": _STAGES,
    "efficientnet": {
        "image_size": 224, "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280,
        "initializer_range": 0.3,
    },
    "esm": {"vocab_size": 512, "pad_token_id": 1, "mask_token_id": 2},
    "longformer": {"attention_window": [32, 32]},
    "luke": {"entity_vocab_size": 16},
    "xlnet": {"max_position_embeddings": None, "d_head": 16, "d_inner": 128},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}  # fmt: skip
"""What one type of model needs beside SMALL; None leaves a setting as it is."""
LENGTH = 128
"""Most tokens of a text."""
SPECIAL = 8
"""So many first numbers of tokens stand for no byte."""
SIDE = 224
"""Of a picture, in pixels, where the configuration says none."""


def modality(kind: str) -> Modality:
    """Raises UnknownName for a type of model that is in no list here."""
    if kind not in (*TEXT, *IMAGE):
        raise unknown("", "transformers encoder", kind, (*TEXT, *IMAGE))
    return "text" if kind in TEXT else "image"


def built(kind: str, folder: Path) -> Ref:
    """The model of type `kind`, its configuration and preprocessing written to `folder`.

    Raises UnknownName, and what transformers raises for a configuration.
    """
    reads = modality(kind)
    config = _config(kind)
    if reads == "text":
        _write_tokenizer(config, folder)
    else:
        _write_processor(config, folder)
    config.save_pretrained(folder)
    return Ref("hf", kind).with_options(weights="random", configuration=str(folder), modality=reads)


def _config(kind: str) -> Any:
    import transformers

    plain = transformers.AutoConfig.for_model(kind)
    held = {name: getattr(plain, name, None) for name in (*SMALL, "pad_token_id")}
    chosen = {name: value for name, value in SMALL.items() if isinstance(held[name], (int, float))}
    if (held["pad_token_id"] or 0) >= SPECIAL:
        chosen["pad_token_id"] = 0
    chosen |= OWN.get(kind, {})
    told = {name: value for name, value in chosen.items() if value is not None}
    with quiet():  # it warns of special tokens that so few bytes do not need
        return transformers.AutoConfig.for_model(kind, **told)


def _write_tokenizer(config: Any, folder: Path) -> None:
    """A token a byte; the first numbers are the special ones that the configuration names."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pad = int(config.pad_token_id or 0)
    special = [f"[{number}]" for number in range(SPECIAL)]
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=special[pad], model_max_length=LENGTH
    ).save_pretrained(folder)


def _write_processor(config: Any, folder: Path) -> None:
    side = getattr(config, "image_size", None)
    height, width = side if isinstance(side, (list, tuple)) else (side or SIDE, side or SIDE)
    body = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_normalize": True,
        "size": {"height": height, "width": width}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(body), encoding="utf-8")
