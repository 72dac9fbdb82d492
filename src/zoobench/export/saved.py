"""A saved folder, read back, and what it says of pictures, texts or recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import UserError, ZoobenchError, one_line
from zoobench.escape import plain
from zoobench.models.saved.description import Description, describe
from zoobench.models.variants.int8 import quiet
from zoobench.schema import Modality

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SavedModel:
    """A saved folder, ready to predict on the CPU."""

    folder: Path
    description: Description
    _scores: Any

    @property
    def classes(self) -> list[str]:
        return self.description.classes

    @property
    def modality(self) -> Modality:
        """What it reads."""
        return self.description.modality

    def scores(self, inputs: Sequence[Any]) -> torch.Tensor:
        """(N, C) float64 scores of pictures, texts or Clips. Raises UserError where it fails."""
        try:
            scores: torch.Tensor = self._scores(list(inputs))
        except (ZoobenchError, MemoryError):
            raise
        except Exception as error:  # of any kind: the folder is a stranger's
            raise UserError(f"{self.folder}: {plain(one_line(error))}") from error
        return scores

    def answers(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """What predict.py prints of each input."""
        return [self.description.script.answer(row, self.classes) for row in self.scores(inputs)]


def open_saved(folder: Path) -> SavedModel:
    """The model in `folder`. Raises UserError for whatever is not as `save` writes it."""
    try:
        described = describe(folder)
        with quiet():
            scores, _ = described.script.load(folder)
        saved = SavedModel(folder, described, scores)
        said = saved.scores([_trial(saved.modality)])
        if tuple(said.shape) != (1, max(1, len(described.classes))) or not bool(
            said.isfinite().all()
        ):
            raise UserError(
                f"{folder}: head.safetensors does not give finite scores of its "
                f"{len(described.classes)} classes"
            )
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of any kind: a library's, of files that a stranger made
        at = "" if isinstance(error, ZoobenchError) else f"{folder}: it cannot be loaded: "
        raise UserError(f"{at}{plain(one_line(error))}") from error
    return saved


def _trial(modality: Modality) -> Any:
    """An input that every model takes."""
    if modality == "text":
        return "a word"
    if modality == "audio":
        import numpy as np

        from zoobench.audio import Clip

        return Clip(np.sin(np.arange(8000, dtype=np.float32) / 10), 16_000)
    from PIL import Image

    return Image.new("RGB", (64, 64))
