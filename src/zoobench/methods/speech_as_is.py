"""Complete recognisers, judged untouched (PROTOCOL section 2, `as-is`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from zoobench import worktime
from zoobench.audio import Clip
from zoobench.errors import BadData
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.answers import LaterAnswers
from zoobench.methods.as_is import headed
from zoobench.methods.predictor import Predictor
from zoobench.models.speech import WINDOW

SPEED = "answer_real_time_factor"


@dataclass(frozen=True)
class SpeechAsIs:
    """A complete recogniser, which is given one recording at a time.

    One of more than `longest` seconds is refused. Of what is longer than 30 s windows of 30 s are
    read, one after the other, and their answers joined by a blank.
    """

    longest: float = WINDOW

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    tasks: ClassVar[tuple[str, ...]] = ("speech-recognition",)
    view: ClassVar[str] = "answer"

    def __post_init__(self) -> None:
        if not self.longest >= WINDOW:
            raise ValueError(f"longest must be at least {WINDOW:g} seconds, not {self.longest:g}")

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Raises Unsupported for a model that answers another task."""
        model = headed(getattr(backbone, "backbone", backbone), splits.task)
        facts = {"trainable_params": 0.0}

        def answer(split: Split) -> list[str]:
            seconds = self.seconds(split)
            started = worktime.now()
            said = self.answers(backbone, model, split)
            facts[SPEED] = (worktime.now() - started) / seconds
            return said

        def later(split: Split) -> LaterAnswers:
            return LaterAnswers(lambda: [*self.answers(backbone, model, split)])

        return Predictor(answer, splits.valid, later, facts=facts)

    def seconds(self, split: Split) -> float:
        """Of all recordings. Raises BadData where some are longer than `longest`."""
        every: list[float] = [split.read(i).seconds for i in range(len(split))]
        if many := sum(one > self.longest for one in every):
            raise BadData(
                f"{many} of {len(split)} recordings of {split.name} are longer than "
                f"{self.longest:g} s, the longest {max(every):.1f} s: as-is with "
                f"longest = {int(max(every)) + 1} cuts them into windows of {WINDOW:g} s"
            )
        return sum(every)

    def answers(self, source: Any, model: Any, split: Split) -> list[str]:
        """What is said of each recording."""
        import torch

        model.module.eval()
        report, said = source.reporter(split), []
        for i in range(len(split)):
            with torch.inference_mode(), source.autocast(source.precision):
                said.append(" ".join(model.answer(one) for one in windows(split.read(i))))
            report(i + 1)
        return said


def windows(clip: Clip) -> Iterator[Clip]:
    """Parts of at most WINDOW seconds, one after the other."""
    step = int(WINDOW * clip.rate)
    for start in range(0, len(clip.samples), step):
        yield Clip(clip.samples[start : start + step], clip.rate)
