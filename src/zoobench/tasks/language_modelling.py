"""Language modelling: how many bits a model needs for each byte of a document.

One worked example: a document of 1,000 bytes to whose tokens a model gives the probability
2^-900 in all costs 900 bits, 0.9 bits per byte. Bytes are those of the text in UTF-8, so that
models of different tokenizers can be compared (Gao et al. 2021, arXiv:2101.00027, section 3.1).
n documents.

What a masked model says of a token it says with both sides of it in sight: its sum over the
tokens is no likelihood of the text (Salazar et al. 2020, arXiv:1910.14659). That is why it is a
task and a metric of its own, and never stands in one ranking with the bits of a causal model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.ratios import Ratio, Ratios, Sums
from zoobench.tasks.targets import Values, targets_of


def size_of(text: str) -> int:
    """Bytes of `text` in UTF-8; half of a surrogate pair counts as the one byte of '?'."""
    return len(encoded(text))


def encoded(text: str) -> bytes:
    """`text` in UTF-8, '?' in the place of half of a surrogate pair."""
    return text.encode("utf-8", "replace")


class Documents(Values):
    """Targets of language modelling: `values` (N,) int64, the bytes of each document."""

    stored = "<i8"

    @classmethod
    def of(cls, texts: list[str] | tuple[str, ...]) -> Documents:
        return cls(np.asarray([size_of(text) for text in texts], dtype=np.int64))

    @property
    def strata(self) -> NDArray[np.int64]:
        """(N,) of what order of magnitude each document's size is: splits are balanced by it."""
        order: NDArray[np.int64] = np.log10(np.maximum(self.values, 1)).astype(np.int64)
        return order

    def keys(self) -> list[Any]:
        """All equal: a document has no other answer than itself, on which twins can't disagree."""
        return [0] * len(self)


def documents_of(split: Split) -> NDArray[np.int64]:
    """(N,) bytes of each document. Raises TypeError for another task's split."""
    sizes: NDArray[np.int64] = targets_of(split, Documents).values
    return sizes


def outcomes_of(bits: ArrayLike, sizes: NDArray[np.int64]) -> Outcomes:
    """What is kept of n documents: `bits` (n,) float64 and `bytes` (n,) int64.

    Raises ValueError for another number of documents, NotFinite where bits are no number or
    below 0.
    """
    said = np.asarray(bits, dtype=np.float64)
    if said.shape != sizes.shape:
        raise ValueError(f"bits must be {sizes.shape} numbers, not {said.shape}")
    bad = int((~np.isfinite(said) | (said < 0)).sum())
    if bad:
        raise NotFinite(f"{bad} of {len(sizes)} test examples have bits that are no number")
    return Outcomes(len(sizes), {"bits": said, "bytes": sizes.astype(np.int64)})


@dataclass(frozen=True)
class LanguageModelling:
    """Documents to be predicted. Outputs are (N,) float64: the bits of each whole document."""

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_byte", "document_bits_per_byte")
    truth: ClassVar[tuple[str, ...]] = ("bytes",)
    rounded: ClassVar[tuple[str, ...]] = ()

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """See `outcomes_of`; nothing is calibrated."""
        return outcomes_of(output, documents_of(split))

    def statistics(self, outcomes: Outcomes) -> Ratios:
        """Bits of all documents over bytes of all, and the mean of each document's own ratio.

        Raises ValueError for bits or bytes that no document can have.
        """
        bits = outcomes.arrays["bits"].astype(np.float64)
        sizes = outcomes.arrays["bytes"].astype(np.float64)
        if bits.shape != (outcomes.n,) or (bits < 0).any() or (sizes < 1).any():
            raise ValueError("bits of a document are not below 0, and its bytes not below 1")
        columns = np.stack([bits, sizes], axis=1)
        total, single = self.metrics
        return Ratios(
            {single: bits / np.maximum(sizes, 1)},
            {"sizes": lambda: columns},
            {total: Ratio(("sizes",), _per_byte)},
        )

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        details: dict[str, dict[str, Any]] = {name: {} for name in self.metrics}
        details[self.metrics[0]]["bytes"] = int(outcomes.arrays["bytes"].sum())
        return details


@dataclass(frozen=True)
class MaskedLanguageModelling(LanguageModelling):
    """The same of models that predict a masked token from both sides: bits of pseudo-likelihood.

    They can be ranked with each other, and with nothing else.
    """

    metrics: ClassVar[tuple[str, ...]] = (
        "pseudo_bits_per_byte", "document_pseudo_bits_per_byte",
    )  # fmt: skip


def _per_byte(sums: Sums, total: Floats) -> Floats:
    bits, sizes = sums["sizes"].T
    return np.asarray(bits / np.maximum(sizes, 1))
