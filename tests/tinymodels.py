"""Small models in the hub's formats, built on the spot with random weights.

`tiny_timm()` and `tiny_bert()` give a repository's files, for HubStub or for a folder.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hubstub import folder_files

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("the", "a", "cat", "dog", "sat", "on", "mat", "good", "bad", "##s", "##ing"),
]


def write_files(files: dict[str, bytes], folder: Path) -> Path:
    """The files of a repository as a local folder."""
    for name, body in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return folder


def tiny_timm(seed: int = 0, side: int = 32) -> dict[str, bytes]:
    """config.json and model.safetensors of a timm ResNet with 5 classes (470,000 weights)."""
    import timm
    import torch
    from safetensors.torch import save

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model("test_resnet", num_classes=5)
    config: dict[str, Any] = {
        "architecture": "test_resnet",
        "num_classes": 5,
        "pretrained_cfg": {
            "input_size": [3, side, side],
            "interpolation": "bilinear",
            "crop_pct": 0.9,
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.3, 0.4],
            "num_classes": 5,
            "first_conv": "conv1.0",
            "classifier": "fc",
            "license": "mit",
        },
    }
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    return {"config.json": json.dumps(config).encode(), "model.safetensors": save(state)}


def tiny_bert(seed: int = 0, sentence_transformers: bool = False) -> dict[str, bytes]:
    """A transformers folder: a BERT of two layers of width 32, and a WordPiece tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=24,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as name:
        torch.manual_seed(seed)
        folder = Path(name)
        BertModel(config).save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
            sep_token="[SEP]", mask_token="[MASK]", model_max_length=24,
        ).save_pretrained(folder)  # fmt: skip
        files = folder_files(folder)
    if sentence_transformers:
        kinds = {"0": ("", "Transformer"), "1": ("1_Pooling", "Pooling"), "2": ("2", "Normalize")}
        modules = [
            {"idx": int(n), "name": n, "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (path, kind) in kinds.items()
        ]
        files["modules.json"] = json.dumps(modules).encode()
        files["1_Pooling/config.json"] = json.dumps({"pooling_mode_cls_token": True}).encode()
        files["sentence_bert_config.json"] = json.dumps({"max_seq_length": 12}).encode()
    return files


PROSE = (
    "The cat sat on the mat, and the dog sat on the cat. A good day had begun.",
    "Nobody knew where the river came from; it was there before the village.",
)


def byte_tokenizer(
    size: int, special: str = "<|endoftext|>", pad: bool = False, side: str = "right"
) -> Any:
    """A byte-level BPE of at most `size` tokens, trained on PROSE; "" for no special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    extra = [token for token in (special, "<pad>" if pad else "") if token]
    tokenizer.train_from_iterator(
        PROSE,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=extra, show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )  # fmt: skip
    named = {"bos_token": special, "eos_token": special} if special else {}
    if pad:
        named["pad_token"] = "<pad>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side=side, **named)


def tiny_decoder(kind: str, folder: Path, tokenizer: Any, seed: int = 0, length: int = 32) -> Path:
    """A causal model of two layers of width 32 with random weights: "gpt2", "llama" or "qwen2"."""
    import torch
    import transformers

    size, end = len(tokenizer), tokenizer.eos_token_id
    shared: dict[str, Any] = {"vocab_size": size, "bos_token_id": end, "eos_token_id": end}
    wide = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": length,
    }  # fmt: skip
    config = {
        "gpt2": lambda: transformers.GPT2Config(
            n_embd=32, n_layer=2, n_head=2, n_positions=length, **shared
        ),
        "llama": lambda: transformers.LlamaConfig(**wide, **shared),
        "qwen2": lambda: transformers.Qwen2Config(**wide, **shared),
    }[kind]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = transformers.AutoModelForCausalLM.from_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_masked(folder: Path, seed: int = 0) -> Path:
    """The BERT of `tiny_bert` with a head that predicts masked tokens."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    write_files(tiny_bert(seed), folder)
    config = BertConfig.from_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertForMaskedLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder
