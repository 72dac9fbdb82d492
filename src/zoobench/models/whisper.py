"""Whisper tiny.en whole, out of the pip package that ships it: network, tokenizer, log-mel.

The published half-precision weights, in float32. None of the package's code is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoobench.errors import Unsupported
from zoobench.models import checkpoints, ctranslate2_, folders
from zoobench.models.text import quiet, transformers_errors

TINY_EN: Mapping[str, Any] = {
    "vocab_size": 51864, "num_mel_bins": 80, "d_model": 384,
    "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536,
    "decoder_layers": 4, "decoder_attention_heads": 6, "decoder_ffn_dim": 1536,
    "max_source_positions": 1500, "max_target_positions": 448, "activation_function": "gelu",
    "pad_token_id": 50256, "bos_token_id": 50256, "eos_token_id": 50256,
    "decoder_start_token_id": 50257,
}  # fmt: skip
GENERATION: Mapping[str, Any] = {
    "bos_token_id": 50256, "eos_token_id": 50256, "pad_token_id": 50256,
    "decoder_start_token_id": 50257, "prev_sot_token_id": 50360, "no_timestamps_token_id": 50362,
    "is_multilingual": False, "return_timestamps": False, "max_length": 448,
}  # fmt: skip
"""Of its tokens: what a transcript begins and ends with. Which are never said, `config.json` of
the package lists."""
EXTRACTOR: Mapping[str, Any] = {
    "feature_size": 80, "sampling_rate": 16_000, "hop_length": 160, "chunk_length": 30,
    "n_fft": 400,
}  # fmt: skip


@dataclass(frozen=True)
class SpeechModel:
    """A whole encoder-decoder: `module` is transformers' WhisperForConditionalGeneration in float32
    with its `generation_config`, `extractor` the WhisperFeatureExtractor that makes its input."""

    module: Any
    tokenizer: Any
    extractor: Any


def load(files: Mapping[str, Path], weights: str = "pretrained") -> SpeechModel:
    """The model in `files`, which are those of the card's roles `weights`, `config.json` and
    `tokenizer.json`; with drawn weights where `weights` is "random", or those of a checkpoint's
    path. Raises MissingWeights, and Unsupported for what does not fit.
    """
    import torch
    import transformers

    config: Any = transformers.WhisperConfig(**TINY_EN)
    # Drawing weights that are replaced at once would take seconds.
    with quiet(), torch.device("meta" if weights == "pretrained" else "cpu"):
        module = transformers.WhisperForConditionalGeneration(config)
    if weights == "pretrained":
        state = ctranslate2_.whisper_state(files["weights"], config)
        if wrong := checkpoints.misfit(state, module.state_dict()):
            raise Unsupported(f"{files['weights']}: the weights do not fit the model: {wrong}")
        module.load_state_dict(state, assign=True)
        module.tie_weights()
    elif weights != "random":
        path = Path(weights)
        checkpoints.fit(module, checkpoints.read(path), f"{path} into Whisper tiny.en")
    told = folders.read_json(files["config.json"]) or {}
    never = {
        "suppress_tokens": list(told["suppress_ids"]),
        "begin_suppress_tokens": list(told["suppress_ids_begin"]),
    }
    module.generation_config = transformers.GenerationConfig(**GENERATION, **never)
    with transformers_errors(str(files["tokenizer.json"])):
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(files["tokenizer.json"]), clean_up_tokenization_spaces=False
        )
    return SpeechModel(module.eval(), tokenizer, extractor())


def extractor() -> Any:
    """What makes (80, 3000) log-mel frames of at most 30 seconds at 16 kHz."""
    import transformers

    return transformers.WhisperFeatureExtractor(**EXTRACTOR)
