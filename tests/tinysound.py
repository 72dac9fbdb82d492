"""Audio encoders of transformers in folders, built on the spot with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoobench.audio import Clip

_NOISE = np.random.default_rng(0).normal(0, 0.1, 30_000).astype(np.float32)
CLIPS = tuple(
    Clip(_NOISE[:many], rate)
    for many, rate in ((300, 16_000), (9600, 16_000), (5000, 8_000), (30_000, 16_000))
)
"""Noise: less than a frame is made of, another rate than the networks', longer than a window."""

CONVOLUTIONS: dict[str, Any] = {
    "conv_dim": (8,) * 4, "conv_stride": (5, 4, 4, 4), "conv_kernel": (10, 8, 4, 4),
    "num_feat_extract_layers": 4,
}  # fmt: skip
"""320 samples a frame, as the published ones; the first is made of 403."""
WAVE: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 2, **CONVOLUTIONS,
}  # fmt: skip
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
AST: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "max_length": 128, "num_mel_bins": 32,
}  # fmt: skip
WHISPER: dict[str, Any] = {
    "d_model": 16, "encoder_layers": 3, "decoder_layers": 1, "vocab_size": 20, "num_mel_bins": 8,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_source_positions": 100, "max_target_positions": 8,
    "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 1,
}  # fmt: skip
CLAP: dict[str, Any] = {
    "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8,
    "hidden_size": 16, "num_mel_bins": 32, "spec_size": 64, "window_size": 4, "projection_dim": 8,
}  # fmt: skip

KINDS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "wav2vec2-group": ("Wav2Vec2", WAVE, "Wav2Vec2FeatureExtractor", {}),
    "wav2vec2-layer": ("Wav2Vec2", WAVE | LAYER, "Wav2Vec2FeatureExtractor",
                       {"return_attention_mask": True}),
    "hubert": ("Hubert", WAVE, "Wav2Vec2FeatureExtractor", {"do_normalize": False}),
    "wavlm": ("WavLM", WAVE | LAYER, "Wav2Vec2FeatureExtractor", {"return_attention_mask": True}),
    "data2vec-audio": ("Data2VecAudio",
                       WAVE | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
                       "Wav2Vec2FeatureExtractor", {}),
    "wav2vec2-conformer": ("Wav2Vec2Conformer", WAVE | {"conv_depthwise_kernel_size": 5},
                           "Wav2Vec2FeatureExtractor", {}),
    "ast": ("AST", AST, "ASTFeatureExtractor", {"num_mel_bins": 32, "max_length": 128}),
    "whisper": ("Whisper", WHISPER, "WhisperFeatureExtractor",
                {"feature_size": 8, "chunk_length": 2}),
    "clap": ("ClapAudio", CLAP, "ClapFeatureExtractor",
             {"feature_size": 32, "max_length_s": 1, "sampling_rate": 16_000, "hop_length": 256,
              "frequency_max": 8000, "truncation": "rand_trunc"}),
}  # fmt: skip
"""By name: what transformers' classes are called, the configuration, and the extractor's."""


def tiny_sound(kind: str, folder: Path, seed: int = 0) -> Any:
    """The bare network, which `folder` then holds with its extractor."""
    import torch
    import transformers

    family, settings, extractor, options = KINDS[kind]
    config = getattr(transformers, f"{family}Config")(**settings)
    suffix = "ModelWithProjection" if kind == "clap" else "Model"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = getattr(transformers, f"{family}{suffix}")(config)
    module.eval().save_pretrained(folder)
    getattr(transformers, extractor)(**options).save_pretrained(folder)
    return module
