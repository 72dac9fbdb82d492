"""The preprocessing audit: what a kNN classifier loses where pictures are fed wrongly.

Points of accuracy on a small packaged set: the price of the usual mistakes with these weights. The
answer is yes where that is more than TOLERATED: the mistake matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoobench import datasets
from zoobench.errors import UserError, one_line
from zoobench.usability import ProbeResult
from zoobench.usability.subject import Subject

if TYPE_CHECKING:
    import torch

DATA = "packaged/photo-crops?max_train=240&max_test=240"
TOLERATED = 2.0
"""Points that may be lost and called nothing."""
BATCH = 32
NEIGHBOURS = 10


def wrong_mean(subject: Subject) -> ProbeResult:
    """Values in [0, 1], as a picture is before it is normalised."""
    spec = subject.backbone.input_spec
    if not spec.mean or not spec.std:
        return ProbeResult("unknown", "its mean and deviation are not known")
    import torch

    mean, std = (torch.tensor(one).reshape(3, 1, 1) for one in (spec.mean, spec.std))
    return _lost(subject, lambda x: x * std + mean, "in [0, 1] without mean and deviation")


def wrong_channels(subject: Subject) -> ProbeResult:
    return _lost(subject, lambda x: x.flip(0), "red and blue changed")


def wrong_resize(subject: Subject) -> ProbeResult:
    """The middle of a picture twice as large: cut where it should have been made smaller."""
    import torch

    def cut(x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1:]
        grown = torch.nn.functional.interpolate(x[None], scale_factor=2, mode="bilinear")[0]
        top, left = (grown.shape[1] - height) // 2, (grown.shape[2] - width) // 2
        return grown[:, top : top + height, left : left + width]

    return _lost(subject, cut, "cut from the middle instead of resized")


def _lost(
    subject: Subject, spoilt: Callable[[torch.Tensor], torch.Tensor], what: str
) -> ProbeResult:
    if (reads := subject.backbone.input_spec.modality) != "image":
        return ProbeResult("unknown", f"it is asked of pictures, and the model reads {reads}")
    try:
        splits = datasets.load(datasets.resolve(DATA))
    except UserError as error:
        return ProbeResult("unknown", one_line(error))
    right, wrong = (_accuracy(subject, splits, how) for how in (lambda x: x, spoilt))
    lost = 100 * (right - wrong)
    said = f"{what}: accuracy {wrong:.0%} where {right:.0%} is its own"
    return ProbeResult("yes" if lost > TOLERATED else "no", said, lost)


def _accuracy(subject: Subject, splits: Any, how: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Of kNN on test; train pictures are fed rightly, as an index that was built before."""
    import torch

    from zoobench.solvers.knn import knn_log_probs
    from zoobench.tasks.classification import labels_of

    train = _features(subject, splits.train, lambda x: x)
    test = _features(subject, splits.test, how)
    truth, labels = (torch.from_numpy(labels_of(one)) for one in (splits.test, splits.train))
    (scores,) = knn_log_probs(train, labels, test, len(splits.classes), [NEIGHBOURS])
    return float((scores.argmax(dim=1) == truth).float().mean())


def _features(
    subject: Subject, split: Any, how: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    import torch

    backbone, found = subject.backbone, []
    for start in range(0, len(split), BATCH):
        rows = range(start, min(start + BATCH, len(split)))
        prepared = [how(backbone.prepare(split.read(i))) for i in rows]
        found.append(subject.features(backbone.collate(prepared)))
    return torch.cat(found)
