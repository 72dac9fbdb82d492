"""`masked-lm`: the hidden bytes of a text, from the others (BERT, Devlin et al. 2019).

SHARE of a text's bytes are drawn anew for each step; of them 80% are replaced by a mask, 10% by
another byte, 10% stay. Loss: the cross-entropy of the drawn bytes. On test texts the drawn bytes
depend on the text alone, and all are replaced by the mask.

The pseudo-likelihood of a text masks one byte at a time: bits of each byte, -log2 p(byte | the
others in its window), over bytes (Salazar et al. 2020). It compares with that of any tokenizer,
where the loss, of 15% at once, compares with itself alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoobench.interfaces import Split
from zoobench.machine import sent
from zoobench.models.likelihood import Coder, Pieces, masked_bits
from zoobench.models.small import LENGTH, MASK, PAD, states
from zoobench.pretraining.objective import Learner, PretrainingObjective
from zoobench.pretraining.training import sample
from zoobench.schema import Modality
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.language_modelling import encoded

if TYPE_CHECKING:
    import torch

SHARE = 0.15
BYTES = 256
TEXTS = 200
"""Texts whose pseudo-likelihood is computed, by their ids; all where fewer."""
MASKED = LENGTH
"""Bytes of a longer text that are masked, by a hash of the text; their sum is scaled up to all."""


def drawn(batch: Mapping[str, torch.Tensor], chance: torch.Tensor) -> torch.Tensor:
    """(N, T) bool: of each text of L bytes those of the least `chance` (N, T), at least one and
    SHARE L of them."""
    real = (batch["input_ids"] < BYTES) & (batch["attention_mask"] > 0)
    count = (SHARE * real.sum(dim=1)).round().clamp(min=1)
    place = chance.masked_fill(~real, 2.0).argsort(dim=1).argsort(dim=1)
    return (place < count[:, None]) & real


class MaskedLanguage(PretrainingObjective):
    about: ClassVar[str] = "15% of the bytes, from the others (BERT)"
    modalities: ClassVar[tuple[Modality, ...]] = ("text",)

    def heads(self, learner: Learner) -> torch.nn.ModuleDict:
        from torch import nn

        return nn.ModuleDict({"bytes": nn.Linear(learner.width, BYTES)})

    def loss(
        self, learner: Learner, heads: Any, batch: Any, labels: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        """Nats a byte, over the drawn bytes of all texts."""
        import torch
        import torch.nn.functional as F

        ids = batch["input_ids"]
        drawn_by, kind = (sent(torch.rand(ids.shape), ids.device) for _ in range(2))
        other = sent(torch.randint(BYTES, ids.shape), ids.device)
        chosen = drawn(batch, drawn_by)
        shown = ids.where(~(chosen & (kind < 0.8)), torch.full_like(ids, MASK))
        shown = shown.where(~(chosen & (kind >= 0.9)), other.to(ids))
        logits = self._logits(learner, heads, {**batch, "input_ids": shown})
        # How many bytes were drawn the device alone knows: it is waited for once a step.
        return F.cross_entropy(logits[chosen], ids[chosen])

    def judged(self, learner: Learner, heads: Any, batch: Any) -> Mapping[str, torch.Tensor]:
        """`masked_lm_loss` (N,), nats a drawn byte of each text."""
        import torch
        import torch.nn.functional as F

        ids = batch["input_ids"]
        chosen = drawn(batch, torch.stack([_chance(row) for row in ids.cpu()]).to(ids.device))
        shown = ids.where(~chosen, torch.full_like(ids, MASK))
        logits = self._logits(learner, heads, {**batch, "input_ids": shown})
        each = F.cross_entropy(logits.transpose(1, 2), ids.clamp(max=BYTES - 1), reduction="none")
        return {"masked_lm_loss": (each * chosen).sum(1) / chosen.sum(1).clamp(min=1)}

    def judged_whole(self, learner: Learner, heads: Any, split: Split) -> Mapping[str, Floats]:
        """`pseudo_bits_per_byte`: bits and bytes of up to TEXTS texts."""
        chosen = sample(split, TEXTS)
        texts = [encoded(split.read(int(i))) for i in chosen]
        bits = pseudo_bits(self._language_model(learner, heads), texts)
        found = np.zeros((len(split), 2))  # the others are in no sum
        found[chosen] = np.stack([bits, [len(text) for text in texts]], axis=1)
        return {"pseudo_bits_per_byte": found}

    def _language_model(self, learner: Learner, heads: Any) -> torch.nn.Module:
        """Encoder and head as transformers has a masked language model."""
        from types import SimpleNamespace

        import torch

        logits, encoder = self._logits, learner.encoder.module

        class BytesModel(torch.nn.Module):
            config = encoder.config

            def __init__(self) -> None:
                super().__init__()
                self.encoder = encoder

            def forward(self, **batch: torch.Tensor) -> Any:
                return SimpleNamespace(logits=logits(learner, heads, batch))

        return BytesModel()

    def _logits(self, learner: Learner, heads: Any, batch: Any) -> torch.Tensor:
        """(N, T, BYTES)."""
        found: torch.Tensor = heads["bytes"](states(learner.encoder.module, batch))
        return found.float()


def pseudo_bits(module: torch.nn.Module, texts: Sequence[bytes]) -> Floats:
    """(N,) bits of each text's pseudo-likelihood, by a masked language model of bytes."""
    coder = Coder(None, None, None, (), (), MASK, LENGTH, PAD)
    pieces = [
        Pieces(tuple(text), tuple(range(1, len(text) + 1)), (0,) * len(text)) for text in texts
    ]
    return masked_bits(module, coder, pieces, MASKED)


def _chance(row: torch.Tensor) -> torch.Tensor:
    """(T,) numbers in [0, 1) that depend on the bytes of the text alone, not on its padding."""
    import torch

    text = row[row < BYTES].to(torch.uint8).numpy().tobytes()
    generator = torch.Generator().manual_seed(zlib.crc32(text))
    numbers = torch.rand(len(text), generator=generator)
    return torch.cat([numbers, torch.ones(len(row) - len(text))])
