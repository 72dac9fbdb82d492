"""Controls of speech recognition: what an error rate must beat before it says anything of a model
(PROTOCOL section 2)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.ctc_probe import CtcProbe, fit_characters
from zoobench.methods.predictor import Predictor
from zoobench.tasks import normalisers
from zoobench.tasks.speech_recognition import aligned, edits, transcripts_of
from zoobench.views import FrameFeatures

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class UsualTranscript:
    """One answer to every recording: the transcript of most recordings of train, of equals the
    first by its letters; or nothing, where that is no worse, in word errors on train."""

    version: ClassVar[int] = 2
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("speech-recognition",)
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        truth = transcripts_of(splits.train)
        counts = Counter(truth.learned)
        usual = min(counts, key=lambda text: (-counts[text], text))
        said = normalisers.normaliser(truth.normaliser)(usual)
        wrong = sum(sum(edits(one)) for one in aligned(truth.compared, [said] * len(truth)))
        if wrong >= truth.words.sum():
            usual = ""

        def answer(split: Split) -> list[str]:
            return [usual] * len(split)

        return Predictor(answer, splits.valid, answer)


@dataclass(frozen=True)
class LogMelCharacters(CtcProbe):
    """The linear probe on log-mel bands, two windows of 10 ms side by side a frame: no network at
    all."""

    needs: ClassVar[str] = "nothing"
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        return fit_characters(LogMelFrames(), splits, self, seed)


class LogMelFrames:
    """As much of a FeatureSource as the probe needs."""

    progress = None

    def __init__(self) -> None:
        self._read: dict[str, FrameFeatures] = {}

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    def frames(self, split: Split) -> FrameFeatures:
        """(R, 1, 80) fp16 of all frames of a split, which is read once."""
        from zoobench.solvers.log_mel import RATE, log_mel

        if split.fingerprint not in self._read:
            parts = [_pairs(log_mel(split.read(i).at(RATE))) for i in range(len(split))]
            starts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
            values: Any = np.concatenate(parts)[:, None]
            self._read[split.fingerprint] = FrameFeatures(values, starts, (0,))
        return self._read[split.fingerprint]


def _pairs(windows: NDArray[np.float32]) -> NDArray[np.float16]:
    """(F / 2, 2 K) of (F, K): each two windows side by side, a last one beside itself."""
    even = np.concatenate([windows, windows[-1:]])[: len(windows) + len(windows) % 2]
    return even.reshape(len(even) // 2, -1).astype(np.float16)
