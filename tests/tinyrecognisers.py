"""Small recognisers in transformers' folders, built on the spot with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tinymodels import byte_tokenizer

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefgh'"]
LANGUAGES = ("<|en|>", "<|fr|>")
SPOKEN = (
    "<|endoftext|>", "<|startoftranscript|>", *LANGUAGES, "<|transcribe|>", "<|translate|>",
    "<|startofprev|>", "<|notimestamps|>",
)  # fmt: skip


def tiny_ctc(folder: Path, seed: int = 0) -> Path:
    """A wav2vec 2.0 of two layers of width 16, which spells, at 16 kHz."""
    import transformers

    torch.manual_seed(seed)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(LETTERS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, conv_dim=(8, 8), conv_stride=(16, 20), conv_kernel=(32, 20),
        num_feat_extract_layers=2, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
        pad_token_id=0, mask_time_prob=0.0,
    )  # fmt: skip
    module = transformers.Wav2Vec2ForCTC(config)
    module.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({one: i for i, one in enumerate(LETTERS)}))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def tiny_whisper(folder: Path, seed: int = 0, multilingual: bool = True, **told: Any) -> Path:
    """A Whisper of one layer each of width 16, whose bytes are tokens. `told` are more of its
    settings of generation."""
    import transformers

    tokenizer = byte_tokenizer(300)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPOKEN)})
    ids = {name: int(tokenizer.convert_tokens_to_ids(name)) for name in SPOKEN}
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    torch.manual_seed(seed)
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=8, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_target_positions=64, pad_token_id=end, bos_token_id=end,
        eos_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip
    module = transformers.WhisperForConditionalGeneration(config)
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=8).save_pretrained(folder)
    known = {
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
        "decoder_start_token_id": start, "no_timestamps_token_id": ids["<|notimestamps|>"],
        "is_multilingual": multilingual, "suppress_tokens": [ids["<|startofprev|>"]],
        "begin_suppress_tokens": [end],
        "lang_to_id": {name: ids[name] for name in LANGUAGES},
        "task_to_id": {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        "max_length": 64,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps({**known, **told}))
    return folder


def tiny_moonshine(folder: Path, seed: int = 0) -> Path:
    """A Moonshine of one layer each of width 16."""
    import transformers

    tokenizer = byte_tokenizer(300)
    torch.manual_seed(seed)
    config = transformers.MoonshineConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32,
        encoder_num_hidden_layers=1, decoder_num_hidden_layers=1, encoder_num_attention_heads=2,
        decoder_num_attention_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
        pad_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    transformers.MoonshineForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return folder
