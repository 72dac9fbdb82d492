"""A tiny deterministic world: three datasets, three backbones, no weights and no network.

For tests, and for a first plug-in to be tried on. The picture backbone's Gabor
filters see the stripes' direction, which no linear probe of raw pixels can; the
text backbone sums word vectors. `?fault=` makes a backbone fail on purpose.

    synthetic/stripes   dataset, pictures: C directions of stripes, random phase, noise
    synthetic/phrases   dataset, texts: C vocabularies, mixed with common words
    synthetic/tones     dataset, sound: C slopes of a gliding tone, random pitch, noise
    synthetic/gabor     model, pictures
    synthetic/bag       model, texts
    synthetic/chirplet  model, sound
"""

from __future__ import annotations

import copy
import math
import os
import signal
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from zoobench.errors import MissingWeights, Unsupported, UserError, unknown
from zoobench.interfaces import InputSpec, Raw
from zoobench.models import synthetic_sound
from zoobench.models.backbones import AudioBackbone
from zoobench.models.catalog import SYNTHETIC
from zoobench.models.dense import padded
from zoobench.schema import ModelCard, Ref, Value
from zoobench.views import MapReader, TokenReader

if TYPE_CHECKING:
    import torch

PADDING = 1023
"""The row of no word."""
SIDE = 24
"""Side of a picture, in pixels."""

FAULTS = ("crash", "exit", "hang", "oom", "nan", "error", "missing-weights")


class Models:
    """The source `synthetic` of models. Options: weights=random, mean, std, fault, seconds."""

    KNOWN: Mapping[str, Value] = {
        "weights": "pretrained", "mean": 0.5, "std": 0.25, "fault": "", "seconds": 3600.0,
    }  # fmt: skip

    @classmethod
    def cards(cls) -> tuple[ModelCard, ...]:
        return SYNTHETIC

    @classmethod
    def resolve(cls, ref: Ref, where: str) -> Ref:
        check(ref, where, "model", [card.name for card in SYNTHETIC], cls.KNOWN)
        fault = ref.option("fault", "")
        if fault and fault not in FAULTS:
            raise unknown(where, "fault", str(fault), FAULTS)
        return ref.at("1")

    @classmethod
    def available(cls, ref: Ref) -> tuple[bool, str]:
        return True, "made on the spot"

    @classmethod
    def load(cls, ref: Ref, seed: int) -> Synthetic | AudioBackbone:
        """Raises MissingWeights where that is the fault asked for."""
        options: dict[str, Any] = {**cls.KNOWN, **dict(ref.options)}
        if options["fault"] == "missing-weights":
            raise MissingWeights(f"{ref.short}: no weights, as the option `fault` asks")
        random = seed if options["weights"] == "random" else None
        fault, wait = str(options["fault"]), float(options["seconds"])
        if ref.name == "chirplet":
            spoil = float("nan") if fault == "nan" else 1.0
            return synthetic_sound.load(random, partial(misbehave, fault, wait), spoil)
        module = gabor_module(random) if ref.name == "gabor" else bag_module(random)
        spec = InputSpec("text", length=64)
        if ref.name == "gabor":
            mean, std = ((float(options[name]),) * 3 for name in ("mean", "std"))
            spec = InputSpec("image", (3, SIDE, SIDE), mean, std)
        weights = "random" if random is not None else "synthetic"
        facts: dict[str, Any] = {"weights": weights, "libraries": {}}
        return Synthetic(module, spec, fault, wait, provenance=facts)


def check(
    ref: Ref, where: str, what: str, names: Sequence[str], options: Mapping[str, Value]
) -> None:
    """Raises UserError for an unknown name or option, or a value of another type."""
    if ref.name not in names:
        raise unknown(where, what, ref.id, [f"synthetic/{name}" for name in names])
    for key, value in ref.options:
        if key not in options:
            raise unknown(where, "option", key, options, f"of {ref.id}")
        expected = type(options[key])
        if not isinstance(value, expected) and not (expected is float and isinstance(value, int)):
            raise UserError(
                f"{where}: {ref.id}: {key} must be a {expected.__name__}, got {value!r}"
            )


@dataclass
class Synthetic:
    """A Backbone over a module of one layer."""

    module: torch.nn.Module
    input_spec: InputSpec
    fault: str = ""
    seconds: float = 3600.0
    feature_dim: int = 32
    pooling: str = "mean"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, raw: Raw) -> Any:
        import numpy as np
        import torch

        if self.input_spec.modality == "text":
            words = str(raw).split() or [""]
            return torch.tensor([_row_of(word) for word in words[:64]])
        pixels = np.asarray(raw.convert("RGB").resize((SIDE, SIDE)), dtype=np.float32) / 255
        mean, std = np.array(self.input_spec.mean), np.array(self.input_spec.std)
        return torch.from_numpy(((pixels - mean) / std).transpose(2, 0, 1).astype(np.float32))

    def collate(self, prepared: Sequence[Any]) -> Any:
        import torch

        if self.input_spec.modality == "image":
            return torch.stack(list(prepared))
        padded = torch.nn.utils.rnn.pad_sequence(
            list(prepared), batch_first=True, padding_value=PADDING
        )
        return {"input_ids": padded}

    def embed(self, batch: Any) -> torch.Tensor:
        misbehave(self.fault, self.seconds)
        inputs = batch["input_ids"] if isinstance(batch, dict) else batch
        features: torch.Tensor = self.module(inputs)
        return features * float("nan") if self.fault == "nan" else features

    def map_reader(self, size: tuple[int, int]) -> MapReader:
        """The energies averaged over cells of 8 x 8 pixels. Raises Unsupported for texts."""
        if self.input_spec.modality != "image":
            raise Unsupported("this backbone has no maps: only embed")
        return MapReader(copy.deepcopy(self.module), padded(size, 8), ("filters",), _energies)

    def token_reader(self) -> TokenReader:
        """The vector of each word. Raises Unsupported for pictures."""
        if self.input_spec.modality != "text":
            raise Unsupported("this backbone has no tokens: only embed")

        def pieces(words: Sequence[str]) -> list[list[int]]:
            return [[_row_of(word)] for word in words]

        return TokenReader(pieces, (), (), 64, 1, _vectors, PADDING)


def _row_of(word: str) -> int:
    """A word's row. The last is for padding, so that a batch gives what a lone text does."""
    return zlib.crc32(word.encode()) % PADDING


def _vectors(
    module: Any, batch: Mapping[str, torch.Tensor], wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    """(B, T, 32), for the one layer that there is."""
    return [module.weight[batch["input_ids"]] for _ in wanted]


def _energies(
    module: torch.nn.Module, batch: torch.Tensor, wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    """(B, 32, H / 8, W / 8), for the one tap that there is."""
    from torch.nn import functional

    filters: Any = module.get_submodule("filters")
    energy = filters(functional.pad(batch, (4, 4, 4, 4))).square()
    return [functional.avg_pool2d(energy, 8) for _ in wanted]


def misbehave(fault: str, seconds: float) -> None:
    """Fail on purpose, in the way named; "nan" is the caller's to do."""
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fault == "exit":
        os._exit(7)
    elif fault == "hang":
        time.sleep(seconds)
    elif fault == "oom":
        raise MemoryError("out of memory, as the option `fault` asks")
    elif fault == "error":
        raise ValueError("an error, as the option `fault` asks")


def gabor_module(seed: int | None) -> torch.nn.Module:
    """(B, 3, H, W) -> (B, 32): the mean energy of 32 Gabor filters, or of as many random ones."""
    import numpy as np
    import torch

    class Energy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filters = torch.nn.Conv2d(3, 32, 9, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            energy: torch.Tensor = self.filters(x).square().mean(dim=(2, 3))
            return energy

    module = Energy()
    y, x = np.mgrid[-4:5, -4:5]
    bank = []
    for k in range(32):
        angle, wavelength = math.pi * (k % 16) / 16, (0.9, 0.5)[k // 16]
        carrier = np.cos(wavelength * (x * math.cos(angle) + y * math.sin(angle)))
        bank.append(np.repeat((carrier * np.exp(-(x**2 + y**2) / 12))[None], 3, axis=0) / 60)
    weight = torch.from_numpy(np.stack(bank).astype(np.float32))
    if seed is not None:
        weight = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) / 60
    with torch.no_grad():
        module.filters.weight.copy_(weight)
    return module.eval()


def bag_module(seed: int | None) -> torch.nn.Module:
    """(B, L) word numbers -> (B, 32): the sum of their vectors; the last number is padding."""
    import torch

    module = torch.nn.EmbeddingBag(PADDING + 1, 32, mode="sum", padding_idx=PADDING)
    drawn = torch.Generator().manual_seed(12345 if seed is None else seed)
    with torch.no_grad():
        module.weight.copy_(torch.randn(PADDING + 1, 32, generator=drawn))
        module.weight[PADDING] = 0
    return module.eval()
