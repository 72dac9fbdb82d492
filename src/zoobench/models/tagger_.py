"""tagger/...: complete taggers of words, with a head and label names of their own.

    tagger/dslim/bert-base-NER      any of transformers' for token classification, of the hub
    tagger/mine?weights=FOLDER      the same from a local folder

They are judged as they are, by the method `as-is`, which maps their labels to the data's by name.
Their answer to a tuple of words is (W,) int64: the number of a label for each, by its first piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zoobench.models.complete import CompleteSource, CompleteTexts, TextFolder
from zoobench.models.text import padding, tokenized
from zoobench.models.tokens import likeliest_labels, reader_of
from zoobench.views import TokenReader

if TYPE_CHECKING:
    import torch

TOGETHER = 8
"""Windows of one text that are read at once."""


def _logits(
    module: Any, batch: Mapping[str, torch.Tensor], wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    """(B, T, K): the head's scores are the one layer that is read."""
    return [module(**batch).logits for _ in wanted]


def _said(reader: TokenReader, module: torch.nn.Module, words: Sequence[str]) -> torch.Tensor:
    """(W,) the number of the likeliest label of each word."""
    import torch

    device = next(module.parameters()).device

    def score(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        on_device = {name: one.to(device) for name, one in batch.items()}
        return reader.read(module, on_device, (1,))[0]

    return torch.from_numpy(likeliest_labels(reader, [words], score, TOGETHER)[0])


def _mean_scores(module: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(N, K) the mean over a text's pieces."""
    scores: torch.Tensor = module(**batch).logits
    scores.argmax(dim=2)  # belongs to the time of an answer
    weight = batch["attention_mask"].unsqueeze(-1).to(scores.dtype)
    return (scores * weight).sum(1) / weight.sum(1).clamp(min=1e-9)


def _tagger(read: TextFolder) -> CompleteTexts:
    pad = padding(read.tokenizer, read.module.config)
    reader = reader_of(read.tokenizer, read.length, 1, _logits, pad)
    return CompleteTexts(
        read.module, read.spec, "mean scores",
        partial(tokenized, read.tokenizer, read.length, "", pad), _mean_scores, pad,
        task="token-classification", labels=read.labels, answer_with=partial(_said, reader),
    )  # fmt: skip


TAGGERS = CompleteSource(
    "tagger", "token-classification", ("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING",), _tagger, "text"
)
