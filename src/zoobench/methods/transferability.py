"""Transferability scores of a backbone on a train set: what is known before any fit.

Recorded beside the frozen methods, whose features they share, so that the report can say
which score foresees fine-tuning (PROTOCOL section 6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoobench.interfaces import Split
from zoobench.tasks.classification import labels_of

if TYPE_CHECKING:
    from zoobench.features.source import Features


def foresee(source: Features, train: Split) -> dict[str, float]:
    """Metric -> score of `train`; LEEP and NCE only where the weights kept their classifier.

    The classifier is applied to the cached features, so that nothing is extracted twice.
    """
    import torch

    from zoobench.solvers import transferability as scores

    features = source.features(train).to(source.device)
    labels = torch.from_numpy(labels_of(train)).to(source.device)
    spectrum = scores.spectrum(features, labels)
    found = {
        "logme": scores.logme(spectrum),
        "h_score": scores.h_score(spectrum),
        "transrate": scores.trans_rate(spectrum),
    }
    head = getattr(source.backbone, "source_head", None)
    if head is not None:
        weight, bias = head.weight.to(features), head.bias
        logits = features @ weight.t() + (0.0 if bias is None else bias.to(features))
        found["leep"] = scores.leep(logits.softmax(dim=1), labels)
        found["nce"] = scores.nce(logits.argmax(dim=1), labels)
    return found
