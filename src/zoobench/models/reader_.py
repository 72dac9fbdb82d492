"""reader/...: complete models that answer questions by a part of a text.

    reader/deepset/roberta-base-squad2     any of transformers' with a head for question answering
    reader/mine?weights=FOLDER             the same from a local folder

They are judged as they are, by the method `as-is`. Their answer is (B, T, 2): for each piece of a
window how well the answer begins, and how well it ends there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zoobench.errors import Unsupported
from zoobench.models import tokens
from zoobench.models.complete import CompleteSource, CompleteTexts, TextFolder
from zoobench.models.text import padding, tokenized
from zoobench.views import TokenReader

if TYPE_CHECKING:
    import torch


def _scores(module: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Raises Unsupported for a network that gives other answers, such as its best ones alone."""
    import torch

    said = module(**batch)
    begins, ends = (getattr(said, f"{name}_logits", None) for name in ("start", "end"))
    if begins is None or ends is None or begins.shape != batch["input_ids"].shape:
        raise Unsupported(f"a {type(module).__name__} gives no scores of each piece")
    return torch.stack([begins, ends], dim=2)


def _read(
    module: Any, batch: Mapping[str, torch.Tensor], wanted: Sequence[int]
) -> list[torch.Tensor]:
    """The scores, for the one layer that there is to read."""
    return [_scores(module, batch) for _ in wanted]


def _reader(read: TextFolder) -> TokenReader:
    return tokens.reader_of(read.tokenizer, read.length, 1, _read, _pad(read))


def _pad(read: TextFolder) -> int:
    return padding(read.tokenizer, read.module.config)


def _mean_scores(module: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(N, 2), of what is no padding."""
    mask = batch["attention_mask"][:, :, None]
    return (_scores(module, batch) * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)


def _transformers(read: TextFolder) -> CompleteTexts:
    model = CompleteTexts(
        read.module, read.spec, "mean scores",
        partial(tokenized, read.tokenizer, read.length, "", _pad(read)), _mean_scores,
        pad_id=_pad(read), task="question-answering",
    )  # fmt: skip
    model.reads_tokens = partial(_reader, read)
    return model


READERS = CompleteSource(
    "reader", "question-answering", ("MODEL_FOR_QUESTION_ANSWERING_MAPPING",), _transformers,
    modality="text",
)  # fmt: skip
