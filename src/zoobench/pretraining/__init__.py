"""OBJECTIVES: what an encoder can be pretrained by, on equal footing (PROTOCOL section 2).

One table, one lookup, one file a member. All members share the encoder, the train split, the
number of examples seen, the optimiser, its schedule and its rates; what is theirs is a loss, and
the layers that only the loss needs and that are thrown away afterwards.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from zoobench.errors import unknown
from zoobench.pretraining.objective import PretrainingObjective
from zoobench.schema import Modality

VERSION = 1
"""Of what all objectives share; another version makes other encoders."""

OBJECTIVES: dict[str, str] = {
    "supervised": "zoobench.pretraining.supervised:Supervised",
    "autoencoder": "zoobench.pretraining.autoencoder:Autoencoder",
    "denoising": "zoobench.pretraining.autoencoder:Denoising",
    "vae": "zoobench.pretraining.vae:Variational",
    "masked": "zoobench.pretraining.masked:Masked",
    "contrastive": "zoobench.pretraining.contrastive:Contrastive",
    "masked-lm": "zoobench.pretraining.masked_lm:MaskedLanguage",
    "random": "zoobench.pretraining.untrained:RandomEncoder",
}

SAMPLES_MODEL = "samples_model"
"""The parameter of a cell, beside its recipe, that names the model in whose features what the
encoder generates is judged."""


def objective(name: str, where: str = "") -> type[PretrainingObjective]:
    """The class behind `name`; UnknownName with the nearest otherwise."""
    if name not in OBJECTIVES:
        raise unknown(where, "objective", name, OBJECTIVES)
    module, _, member = OBJECTIVES[name].partition(":")
    return cast("type[PretrainingObjective]", getattr(importlib.import_module(module), member))


@dataclass(frozen=True)
class PretrainingRecipe:
    """How one encoder is made; its fields are the parameters of a cell `pretrain`.

    `steps` batches of `batch` examples are seen at each of `rates`, by AdamW at `weight_decay`
    under a cosine with a linear warm-up over the share `warmup` of the steps.
    """

    decay: ClassVar[str] = "cosine"

    objective: str
    architecture: str
    steps: int = 500
    batch: int = 128
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    weight_decay: float = 0.05
    warmup: float = 0.1

    @property
    def batch_size(self) -> int:
        return self.batch

    @property
    def made(self) -> PretrainingObjective:
        return objective(self.objective)()


def reads(name: str) -> tuple[Modality, ...]:
    """What the objective `name` can be trained on."""
    return objective(name).modalities


def version_of(name: str) -> dict[str, Any]:
    return {"pretraining": VERSION, "objective": objective(name).version}
