"""Quality of classification (PROTOCOL section 3). N examples, C classes, B resamples.

Definitions, where libraries differ:
- `predicted` is the lowest index among the best scores, and an example is right when
  that is its label. Behind the first place a tie counts against the model.
- Macro precision, recall and F1 run over the classes that occur among the labels or
  the predictions, 0 where a class has none of the denominator (scikit-learn's default
  label set with zero_division=0). Balanced accuracy runs over the classes that occur
  among the labels. A class that test does not hold has no recall; how many there are
  stands in `detail`.
- ECE: 15 equal-width bins over the predicted class's probability (Guo et al. 2017,
  arXiv:1706.04599), bins closed on the right.
- Intervals: 95% percentile bootstrap over test examples. Each resample is evaluated as a
  test set of its own: a class that it does not hold is left out of its macro means. ECE
  and macro means are biased under resampling (a resample's ECE is larger), so an interval
  that would miss the value is extended to hold it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.errors import NotFinite
from zoobench.schema import Predictions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 15
TOP5_FROM = 11
"""top5_accuracy is given where C is at least this."""
LOWEST = float(np.log(np.finfo(np.float32).tiny))
"""Log-probabilities below this (-87.3) count as this: one impossible class must not make
the mean NLL infinite."""
BLOCK = 64_000
"""Scores handled at once (float64: 512 KB)."""


def _log_probs(scores: ArrayLike, what: str) -> Floats:
    """(N, C) float64 log-probabilities, renormalised; raises NotFinite, ValueError."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < 1:
        raise ValueError(f"{what} scores must be (N, C), not {array.shape}")
    best = array.max(axis=1, keepdims=True, initial=-np.inf)
    bad = ~np.isfinite(best[:, 0]) | np.isnan(array).any(axis=1)
    if bad.any():
        raise NotFinite(f"{int(bad.sum())} of {len(array)} {what} examples have NaN scores")
    shifted: Floats = array - best
    for part in _rows(shifted):
        part -= np.log(np.exp(part).sum(axis=1, keepdims=True))
    return shifted


def _rows(array: Floats) -> Iterator[Floats]:
    """Views of `array` (N, C), a few rows each: temporaries stay in the processor's cache."""
    step = max(1, BLOCK // max(1, array.shape[1]))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _calibrated(log_probs: Floats, temperature: float) -> NDArray[np.float32]:
    """(N,) the best class's probability at `temperature`."""
    confidence = []
    for part in _rows(log_probs):
        cooled = np.maximum(part, LOWEST)
        cooled -= cooled.max(axis=1, keepdims=True)
        cooled /= temperature
        confidence.append((1.0 / np.exp(cooled).sum(axis=1)).astype(np.float32))
    return np.concatenate(confidence) if confidence else np.zeros(0, dtype=np.float32)


def _labels(labels: ArrayLike, n: int, classes: int) -> Ints:
    array = np.asarray(labels, dtype=np.int64)
    if array.shape != (n,):
        raise ValueError(f"labels must be ({n},), not {array.shape}")
    if n and (array.min() < 0 or array.max() >= classes):
        raise ValueError(f"labels must lie in 0..{classes - 1}")
    return array


def predictions(
    scores: ArrayLike, labels: ArrayLike, valid_scores: ArrayLike, valid_labels: ArrayLike
) -> Predictions:
    """What is kept of N test examples.

    `scores` (N, C) and `valid_scores` (M, C) are log-probabilities, `labels` (N,) and
    `valid_labels` (M,) integers; `valid` serves only to fit the temperature (Guo et al.
    2017). `rank` is 0 exactly where `predicted` is the label; elsewhere it counts the
    classes scored above the true one or level with it. Raises NotFinite where a score is
    NaN or +inf, or a whole row is -inf.
    """
    import torch

    from zoobench.solvers import calibration

    log_probs = _log_probs(scores, "test")
    n, classes = log_probs.shape
    label = _labels(labels, n, classes)
    valid = _log_probs(valid_scores, "valid")
    temperature = 1.0
    if len(valid):
        # A floor, since a temperature cannot be fitted through log 0.
        held = torch.from_numpy(np.maximum(valid, LOWEST))
        known = torch.from_numpy(_labels(valid_labels, len(valid), classes))
        temperature = calibration.temperature(held, known)
    rows = np.arange(n)
    predicted = log_probs.argmax(axis=1)
    true = log_probs[rows, label]
    rank = (log_probs >= true[:, None]).sum(axis=1) - 1
    rank[predicted == label] = 0
    return Predictions(
        label=label.astype(np.int32),
        predicted=predicted.astype(np.int32),
        rank=rank.astype(np.int32),
        nll=-np.maximum(true, LOWEST).astype(np.float32),
        confidence=np.exp(log_probs[rows, predicted]).astype(np.float32),
        calibrated=_calibrated(log_probs, temperature),
    )


def _bin_of(confidence: NDArray[np.float32]) -> Ints:
    """(N,) bin of each confidence: bin b is (b / 15, (b + 1) / 15]."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    found: Ints = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    return found


def _columns(p: Predictions) -> Floats:
    """(N, 3 + 2 * BINS): right, in the top five, nll, and (right - confidence) by bin, twice."""
    n = len(p.label)
    columns = np.zeros((n, 3 + 2 * BINS))
    right = p.predicted == p.label
    columns[:, 0] = right
    columns[:, 1] = p.rank < 5
    columns[:, 2] = p.nll
    rows = np.arange(n)
    for start, confidence in ((3, p.confidence), (3 + BINS, p.calibrated)):
        columns[rows, start + _bin_of(confidence)] = right - confidence.astype(np.float64)
    return columns


class _GroupSum:
    """Sums the columns of a (B, N) array by group: (B, N) -> (B, G), G in order of value."""

    def __init__(self, group: NDArray[np.int32], groups: int) -> None:
        self.order = np.argsort(group, kind="stable")
        self.present, self.starts = np.unique(group[self.order], return_index=True)
        self.groups = groups

    def __call__(self, weights: Floats) -> Floats:
        summed = np.zeros((len(weights), self.groups))
        if len(self.present):
            summed[:, self.present] = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        return summed


class Statistics:
    """Every metric as a function of example weights: (B, N) -> name -> (B,)."""

    def __init__(self, p: Predictions, classes: int) -> None:
        right = np.flatnonzero(p.predicted == p.label)
        self.columns = _columns(p)
        self.right = right
        self.by_label = _GroupSum(p.label, classes)
        self.by_predicted = _GroupSum(p.predicted, classes)
        self.by_hit = _GroupSum(p.label[right], classes)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        total = weights.sum(axis=1)
        sums = weights @ self.columns
        hits = self.by_hit(weights[:, self.right])
        labelled, guessed = self.by_label(weights), self.by_predicted(weights)
        seen = (labelled + guessed) > 0
        recall = hits / np.maximum(labelled, 1)
        scores = {
            "macro_precision": hits / np.maximum(guessed, 1),
            "macro_recall": recall,
            "macro_f1": 2 * hits / np.maximum(labelled + guessed, 1),
        }
        return {
            "accuracy": sums[:, 0] / total,
            "balanced_accuracy": recall.sum(axis=1) / (labelled > 0).sum(axis=1),
            **{name: each.sum(axis=1) / seen.sum(axis=1) for name, each in scores.items()},
            "top5_accuracy": sums[:, 1] / total,
            "nll": sums[:, 2] / total,
            "ece": np.abs(sums[:, 3 : 3 + BINS]).sum(axis=1) / total,
            "ece_calibrated": np.abs(sums[:, 3 + BINS :]).sum(axis=1) / total,
        }
