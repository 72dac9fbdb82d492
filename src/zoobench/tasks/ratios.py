"""Metrics that are functions of sums over units: means, ratios, and what is combined of them.

Accuracy is such a sum over the sum of weights, mIoU a mean of ratios of sums, WER a ratio.
n units, B weightings, K columns of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobench.statistics.bootstrap import Floats

Sums = Mapping[str, Floats]
"""Block -> (B, K) weighted sums of its columns."""


@dataclass(frozen=True)
class Ratio:
    """A metric as a function `of` the sums of some `blocks` and of the sum of weights (B,)."""

    blocks: tuple[str, ...]
    of: Callable[[Sums, Floats], Floats]


class Ratios:
    """Statistics from `means`, metric -> (n,) values, and `ratios` over `blocks`.

    A block gives (n, K), dense or scipy.sparse, when a metric first asks for it: a ranking
    holds the statistics of many models, and most never need any.
    """

    def __init__(
        self,
        means: Mapping[str, NDArray[Any]],
        blocks: Mapping[str, Callable[[], Any]] | None = None,
        ratios: Mapping[str, Ratio] | None = None,
    ) -> None:
        self.means, self.ratios = means, ratios or {}
        self._blocks = blocks or {}
        self._made: dict[str, Any] = {}

    def __call__(self, weights: Floats, names: Sequence[str]) -> dict[str, Floats]:
        """(B, n) weights -> metric -> (B,), for each of `names`."""
        total = weights.sum(axis=1)
        needed = {
            block for name in names if name in self.ratios for block in self.ratios[name].blocks
        }
        sums = {block: np.asarray(weights @ self._block(block)) for block in sorted(needed)}
        return {
            name: self.ratios[name].of(sums, total)
            if name in self.ratios
            else weights @ self._mean(name) / total
            for name in names
        }

    def mean_of(self, name: str) -> Floats | None:
        """(n,) whose weighted mean is the metric, None for one of the ratios."""
        return None if name in self.ratios else self._mean(name)

    def _block(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._blocks[name]()
        return self._made[name]

    def _mean(self, name: str) -> Floats:
        return np.asarray(self.means[name], dtype=np.float64)


def one_hot(group: NDArray[Any], groups: int, values: NDArray[Any] | None = None) -> Any:
    """(n, G) sparse: row i holds values[i] (1 by default) in column group[i]."""
    from scipy.sparse import csr_array

    n = len(group)
    data = np.ones(n) if values is None else np.asarray(values, dtype=np.float64)
    return csr_array((data, np.asarray(group), np.arange(n + 1)), shape=(n, groups))
