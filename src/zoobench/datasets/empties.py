"""Splits in which nothing is asked, for all that examples are in them."""

from __future__ import annotations

from zoobench.interfaces import Split
from zoobench.tasks.detection import Boxes
from zoobench.tasks.speech_recognition import Transcripts
from zoobench.tasks.token_classification import Tags


def nothing_asked(split: Split) -> str:
    """Why a split can neither be learned from nor judged, in words; "" where it can."""
    name, targets = split.name, split.targets
    if not len(split):
        return f"the {name} split is empty"
    if isinstance(targets, Boxes) and not targets.counts.any():
        return f"no picture of {name} has an object that counts (a crowd does not)"
    if isinstance(targets, Tags) and not targets.counts.any():
        return f"no sentence of {name} has an entity"
    if isinstance(targets, Transcripts) and not targets.words.any():
        return f"no recording of {name} has a word in its transcript"
    return ""
