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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.errors import NotFinite
from zoobench.interfaces import Split, Splits
from zoobench.schema import Outcomes
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.ratios import Ratio, Ratios, Sums, one_hot
from zoobench.tasks.targets import Values, targets_of

Ints = NDArray[np.int64]

BINS = 15
TOP5_FROM = 11
"""top5_accuracy is given where C is at least this."""
FEW = 20
"""A temperature that was fitted to fewer examples than these is flagged."""
LOWEST = float(np.log(np.finfo(np.float32).tiny))
"""Log-probabilities below this (-87.3) count as this: one impossible class must not make
the mean NLL infinite."""
BY_TEMPLATE = (
    "single_template_accuracy", "least_template_accuracy", "greatest_template_accuracy",
)  # fmt: skip
"""Of a Templated alone."""
BLOCK = 64_000
"""Scores handled at once (float64: 512 KB)."""


class Labels(Values):
    """Targets of a classification: `values` (N,) int64 in 0..C-1."""

    stored = "<i8"

    @property
    def strata(self) -> Ints:
        return self.values


def labels_of(split: Split) -> Ints:
    """(N,) int64 labels of a split that asks for a class. Raises TypeError for another task's."""
    return targets_of(split, Labels).values


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


class Templated(NamedTuple):
    """What a network says of N examples by the names of classes in T templates: `scores` (N, C)
    log-probabilities by all of them together, and of each alone the class (N,), by the single one
    first."""

    scores: ArrayLike
    alone: Sequence[ArrayLike]


@dataclass(frozen=True)
class Classification:
    """One class of C for each example. Outputs are (N, C) log-probabilities, or Templated."""

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = (
        "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1",
        "top5_accuracy", "nll", "ece", "ece_calibrated", *BY_TEMPLATE,
    )  # fmt: skip
    truth: ClassVar[tuple[str, ...]] = ("label",)
    rounded: ClassVar[tuple[str, ...]] = ("nll", "confidence", "calibrated")

    def judge(self, output: Any, split: Split, calibration: tuple[Any, Split]) -> Outcomes:
        """See `outcomes_of`; of a Templated also `by_template` (N, T) bool, where each is right."""
        scores, valid = calibration
        if not isinstance(output, Templated):
            return outcomes_of(output, labels_of(split), scores, labels_of(valid))
        kept = outcomes_of(output.scores, labels_of(split), scores, labels_of(valid))
        right = np.stack([one == labels_of(split) for one in output.alone], axis=1)
        return Outcomes(kept.n, {**kept.arrays, "by_template": right})

    def statistics(self, outcomes: Outcomes) -> Ratios:
        return statistics(outcomes)

    def reported(self, outcomes: Outcomes, splits: Splits) -> Mapping[str, Mapping[str, Any]]:
        """All metrics; the top five only where there are more than ten classes."""
        classes = len(splits.classes)
        absent = classes - len(np.unique(outcomes.arrays["label"]))
        details: dict[str, dict[str, Any]] = {}
        for name in self.metrics:
            if name == "top5_accuracy" and classes < TOP5_FROM:
                continue
            if name in BY_TEMPLATE and "by_template" not in outcomes.arrays:
                continue
            details[name] = {"bins": BINS} if name.startswith("ece") else {}
            if name == "balanced_accuracy" and "by_template" in outcomes.arrays:
                details[name]["recall"] = _recalls(outcomes, splits.classes)
            if absent and name.startswith(("macro", "balanced")):
                details[name]["classes_not_in_test"] = absent
        if len(splits.valid) < FEW:
            details["ece_calibrated"]["temperature_of_few"] = len(splits.valid)
        return details


def outcomes_of(
    scores: ArrayLike, labels: ArrayLike, valid_scores: ArrayLike, valid_labels: ArrayLike
) -> Outcomes:
    """What is kept of N test examples; each array is (N,).

    `scores` (N, C) and `valid_scores` (M, C) are log-probabilities, `labels` (N,) and
    `valid_labels` (M,) integers; `valid` serves only to fit the temperature (Guo et al.
    2017), on its examples whose class has a finite score, since no temperature mends the others;
    it is 1 where those are fewer than two. The arrays: `label` and `predicted` int32; `rank` int32,
    the classes scored above the true one or level with it, and 0 exactly where `predicted` is the
    label; `nll` float32, nats; `confidence` float32, the predicted class's probability, and
    `calibrated` the same after temperature scaling. Raises NotFinite where a score is NaN or
    +inf, or a whole row is -inf.
    """
    import torch

    from zoobench.solvers import calibration

    log_probs = _log_probs(scores, "test")
    n, classes = log_probs.shape
    label = _labels(labels, n, classes)
    valid = _log_probs(valid_scores, "valid")
    own = _labels(valid_labels, len(valid), classes)
    known = np.isfinite(valid[np.arange(len(valid)), own])
    temperature = 1.0
    if known.sum() > 1:  # one example says sure or unsure, never how sure
        # A floor, since a temperature cannot be fitted through log 0.
        held = torch.from_numpy(np.maximum(valid[known], LOWEST))
        temperature = calibration.temperature(held, torch.from_numpy(own[known]))
    rows = np.arange(n)
    predicted = log_probs.argmax(axis=1)
    true = log_probs[rows, label]
    rank = (log_probs >= true[:, None]).sum(axis=1) - 1
    rank[predicted == label] = 0
    arrays = {
        "label": label.astype(np.int32),
        "predicted": predicted.astype(np.int32),
        "rank": rank.astype(np.int32),
        "nll": -np.maximum(true, LOWEST).astype(np.float32),
        "confidence": np.exp(log_probs[rows, predicted]).astype(np.float32),
        "calibrated": _calibrated(log_probs, temperature),
    }
    return Outcomes(n, arrays)


def _bin_of(confidence: NDArray[np.float32]) -> Ints:
    """(N,) bin of each confidence: bin b is (b / 15, (b + 1) / 15]."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    bins: Ints = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    return bins


def statistics(outcomes: Outcomes) -> Ratios:
    """Every metric as a function of the examples' weights."""
    label, predicted = outcomes.arrays["label"], outcomes.arrays["predicted"]
    classes = 1 + int(max(label.max(initial=0), predicted.max(initial=0)))
    right = predicted == label

    def gaps(name: str) -> Any:
        confidence = outcomes.arrays[name]
        return one_hot(_bin_of(confidence), BINS, right - confidence.astype(np.float64))

    by_template = outcomes.arrays.get("by_template")
    blocks: dict[str, Callable[[], Any]] = {
        "labelled": lambda: one_hot(label, classes),
        "predicted": lambda: one_hot(predicted, classes),
        "hits": lambda: one_hot(label, classes, right),
        "confidence": lambda: gaps("confidence"),
        "calibrated": lambda: gaps("calibrated"),
    }
    means = {"accuracy": right, "top5_accuracy": outcomes.arrays["rank"] < 5}
    ratios = RATIOS
    if by_template is not None:
        means[BY_TEMPLATE[0]] = by_template[:, 0]
        blocks["by_template"] = lambda: by_template.astype(np.float64)
        ratios = {**RATIOS, **OF_TEMPLATES}
    return Ratios({**means, "nll": outcomes.arrays["nll"]}, blocks, ratios)


def _recalls(outcomes: Outcomes, classes: Sequence[str]) -> dict[str, float]:
    """The share of each class's test examples that are found, of those that there are."""
    label, predicted = outcomes.arrays["label"], outcomes.arrays["predicted"]
    found = {name: predicted[label == k] == k for k, name in enumerate(classes)}
    return {name: float(right.mean()) for name, right in found.items() if len(right)}


def _balanced(sums: Sums, total: Floats) -> Floats:
    return np.asarray(_recall(sums).sum(axis=1) / (sums["labelled"] > 0).sum(axis=1))


def _macro(of: Callable[[Sums], Floats]) -> Ratio:
    """The mean over the classes that occur among the labels or the predictions."""

    def mean(sums: Sums, total: Floats) -> Floats:
        seen = (sums["labelled"] + sums["predicted"]) > 0
        return np.asarray(of(sums).sum(axis=1) / seen.sum(axis=1))

    return Ratio(("hits", "labelled", "predicted"), mean)


def _precision(sums: Sums) -> Floats:
    return sums["hits"] / np.maximum(sums["predicted"], 1)


def _recall(sums: Sums) -> Floats:
    return sums["hits"] / np.maximum(sums["labelled"], 1)


def _f1(sums: Sums) -> Floats:
    return 2 * sums["hits"] / np.maximum(sums["labelled"] + sums["predicted"], 1)


def _calibration_error(block: str) -> Ratio:
    return Ratio((block,), lambda sums, total: np.abs(sums[block]).sum(axis=1) / total)


RATIOS = {
    "balanced_accuracy": Ratio(("hits", "labelled"), _balanced),
    "macro_precision": _macro(_precision),
    "macro_recall": _macro(_recall),
    "macro_f1": _macro(_f1),
    "ece": _calibration_error("confidence"),
    "ece_calibrated": _calibration_error("calibrated"),
}
OF_TEMPLATES = {
    BY_TEMPLATE[1]: Ratio(("by_template",), lambda sums, n: sums["by_template"].min(axis=1) / n),
    BY_TEMPLATE[2]: Ratio(("by_template",), lambda sums, n: sums["by_template"].max(axis=1) / n),
}
