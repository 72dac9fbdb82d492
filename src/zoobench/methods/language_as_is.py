"""Language models, judged untouched: bits of documents, and the likeliest of some options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zoobench.errors import Unsupported
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.predictor import Predictor
from zoobench.models.language_model_ import LanguageModel
from zoobench.models.likelihood import UNKNOWN, Pieces, causal_bits, masked_bits
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.language_modelling import documents_of, size_of
from zoobench.tasks.multiple_choice import Choices

FORGETS = "tokenizer_forgets"
"""What a choice calls that of a text which a model's tokens do not say."""


class LanguageAsIs:
    """Abstract: a complete language model's `answer`, of which nothing is adapted."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    tasks: ClassVar[tuple[str, ...]] = ("language-modelling",)
    view: ClassVar[str] = "answer"

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Raises Unsupported for a model that does not answer the task."""
        model = getattr(backbone, "backbone", backbone)
        if not isinstance(model, LanguageModel):
            raise Unsupported(f"it is no language model: as-is of {splits.task} needs one")
        if splits.task not in model.answers:
            kind = "masked" if model.task == "masked-language-modelling" else "causal"
            raise Unsupported(
                f"it is a {kind} language model, which answers {', '.join(model.answers)}"
            )
        assert model.coder is not None
        forgets = model.coder.forgets()

        def answer(split: Split) -> Any:
            model.module.eval()
            report = backbone.reporter(split)
            with backbone.autocast(backbone.precision):
                return self.answer(
                    model, split, lambda share: report(min(len(split), int(share * len(split))))
                )

        return Predictor(
            answer, splits.valid, lambda split: None,  # nothing is calibrated, so nothing is read
            {FORGETS: list(forgets)} if forgets else {}, {"trainable_params": 0.0},
            ("lossy-tokenizer",) * bool(forgets),
        )  # fmt: skip

    def answer(self, model: Any, split: Split, report: Callable[[float], None]) -> Any:
        """What the model says of a split, in the form of its task."""
        raise NotImplementedError


@dataclass(frozen=True)
class DocumentBits(LanguageAsIs):
    """The bits that a causal model needs for each document, read in windows half a window apart."""

    def answer(self, model: Any, split: Split, report: Callable[[float], None]) -> Floats:
        texts = [model.coder.encode(split.read(i)) for i in range(len(split))]
        bits = causal_bits(model.module, model.coder, texts, report=report)
        return _or_spelt(np.asarray([one.sum() for one in bits], dtype=np.float64), texts, split)


@dataclass(frozen=True)
class DocumentPseudoBits(LanguageAsIs):
    """The bits of each document's pseudo-likelihood by a masked model, one of its tokens masked at
    a time; of a longer document `tokens` of them, chosen by a hash, and their sum scaled up."""

    tokens: int = 64

    tasks: ClassVar[tuple[str, ...]] = ("masked-language-modelling",)

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError("tokens must be at least 1")

    def answer(self, model: Any, split: Split, report: Callable[[float], None]) -> Floats:
        texts = [model.coder.encode(split.read(i)) for i in range(len(split))]
        bits = masked_bits(model.module, model.coder, texts, self.tokens, report)
        return _or_spelt(bits, texts, split)


def _or_spelt(bits: Floats, texts: Sequence[Pieces], split: Split) -> Floats:
    """(N,) `bits`, or of a document that has no token at all those of its bytes, as of an unknown
    one: to say nothing is not to know it."""
    silent = np.asarray([not len(text) for text in texts])
    return np.where(silent, UNKNOWN * documents_of(split), bits)


@dataclass(frozen=True)
class LikeliestOption(LanguageAsIs):
    """Each option's log2 likelihood after the question, by a causal model, over its bytes."""

    tasks: ClassVar[tuple[str, ...]] = ("multiple-choice",)

    def answer(self, model: Any, split: Split, report: Callable[[float], None]) -> list[Floats]:
        """A score for each option of each question."""
        asked: list[Choices] = [split.read(i) for i in range(len(split))]
        texts, firsts, sizes = [], [], []
        for one in asked:
            for option in one.options:
                pieces = model.coder.encode(joined(one.question, option))
                texts.append(pieces)
                # A token that reaches from the question into the option is the option's.
                firsts.append(sum(end <= len(one.question) for end in pieces.ends))
                sizes.append(size_of(option))
        bits = causal_bits(model.module, model.coder, texts, firsts, report)
        known = iter(
            -one[first:].sum() / size if first < len(one) else -UNKNOWN
            for one, first, size in zip(bits, firsts, sizes, strict=True)
        )
        return [np.asarray([next(known) for _ in one.options]) for one in asked]


def joined(question: str, option: str) -> str:
    """The option after the question, a blank between them where there is none."""
    apart = not question or question[-1].isspace() or option[:1].isspace()
    return f"{question}{'' if apart else ' '}{option}"
