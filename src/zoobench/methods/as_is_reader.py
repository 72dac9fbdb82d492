"""Complete readers, judged untouched (PROTOCOL section 2, `as-is`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from zoobench.features.pairs import current
from zoobench.features.windowed import reader_of
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.answers import LaterAnswers, ScoredPairs, may_be_none, read_answers
from zoobench.methods.as_is import headed
from zoobench.methods.predictor import Predictor

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ReadAsIs:
    """A complete reader with its own head. Nothing is learned; whether "no answer" may be said is
    the data's matter, as for every method: where train has questions without one."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"
    tasks: ClassVar[tuple[str, ...]] = ("question-answering",)
    view: ClassVar[str] = "answer"

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Raises Unsupported for a model without a head for the task."""
        source = current(backbone)
        model = headed(source.backbone, splits.task)
        none = may_be_none(splits.train)

        def score(found: torch.Tensor) -> torch.Tensor:
            return found[:, :, 0].float()

        def answer(split: Split) -> list[str | None]:
            model.module.eval().to(source.device)
            states = AnsweredPairs(
                reader_of(model), model.module, model.input_spec, (1,), score=score, source=source
            )
            return read_answers(source, states, split, none)

        def later(split: Split) -> LaterAnswers:
            return LaterAnswers(partial(answer, split))

        return Predictor(answer, splits.valid, later, facts={"trainable_params": 0.0})


@dataclass(frozen=True)
class AnsweredPairs(ScoredPairs):
    """Scores as the network says them itself, under the precision of answers."""

    source: Any = None

    def embed(self, batch: Any) -> torch.Tensor:
        with self.source.autocast(self.source.precision):
            return super().embed(batch)
