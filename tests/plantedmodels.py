"""A source of small networks, most of them with one planted fault (tests of usability)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from zoobench.interfaces import InputSpec
from zoobench.models.backbones import ImageBackbone
from zoobench.schema import ModelCard, Ref

SIDE = 64
SPEC = InputSpec("image", (3, SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "bilinear")


class Sound(nn.Module):
    """A convolution, a batch norm and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return found


class DropsOut(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class NormsItsBatch(Sound):
    """Its batch norm stays in training mode, whatever it is told."""

    def forward(self, x: Tensor) -> Tensor:
        self.norm.train()
        return super().forward(x)


class Remembers(Sound):
    """Adds the mean of what it was fed last."""

    def __init__(self) -> None:
        super().__init__()
        self.last = 0.0

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x) + self.last
        self.last = float(x.mean())
        return found


class ReadsTheOrder(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.arange(1, len(x) + 1)[:, None]


class OneSize(Sound):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (SIDE, SIDE):
            raise ValueError(f"pictures are {SIDE} x {SIDE}")
        return super().forward(x)


class Detaches(Sound):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)).detach())
        return found


class BeginsAtNothing(Sound):
    """Its branch is multiplied by a gain that begins at zero, as in many residual networks."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = super().forward(x) * self.gain + x.mean((1, 2, 3))[:, None]
        return found


class HoldsFixed(Sound):
    """Adds a table that is not trained, by its own declaration."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(16), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.table


class Caches(Sound):
    """Computes a bias once, as attention over fixed positions does where it is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(16))
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.table * 2
        return super().forward(x) + self.kept


class CachesToInfer(Caches):
    """The same, dropped where training begins; and it is asked once as it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.kept = self.table * 2

    def train(self, mode: bool = True) -> CachesToInfer:
        self.kept = None if mode else self.kept
        super().train(mode)
        return self


class Raises(Sound):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no such\nlayer")


FAULTS: dict[str, Callable[[], nn.Module]] = {
    "sound": Sound, "dropout": DropsOut, "batchnorm": NormsItsBatch, "state": Remembers,
    "order": ReadsTheOrder, "size": OneSize, "detached": Detaches, "raises": Raises,
    "zero": BeginsAtNothing, "fixed": HoldsFixed, "caches": Caches, "infers": CachesToInfer,
}  # fmt: skip


class Planted:
    """A third party's source: its backbones are not checked when they are loaded."""

    file: ClassVar[str] = "model.safetensors"
    license: ClassVar[str] = "Apache-2.0"

    @classmethod
    def cards(cls) -> tuple[ModelCard, ...]:
        return tuple(
            ModelCard("planted", name, "image", "1", license=cls.license, pretrained_on="noise")
            for name in FAULTS
        )

    @classmethod
    def resolve(cls, ref: Ref, where: str) -> Ref:
        return ref.at(ref.revision or "1")

    @classmethod
    def available(cls, ref: Ref) -> tuple[bool, str]:
        return True, "made on the spot"

    @classmethod
    def load(cls, ref: Ref, seed: int) -> ImageBackbone:
        torch.manual_seed(seed)
        module = FAULTS[ref.name]().eval()

        def transform(picture: Image.Image) -> Tensor:
            small = picture.resize((SIDE, SIDE))
            values = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
            return values.reshape(SIDE, SIDE, 3).permute(2, 0, 1) / 127.5 - 1

        return ImageBackbone(
            module, SPEC, "mean", transform, lambda module, batch: module(batch), 16,
            {"weights": "pretrained", "file": cls.file, "weights_bytes": 1234},
        )  # fmt: skip
