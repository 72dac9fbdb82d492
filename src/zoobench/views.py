"""How a network is read in parts: maps of a picture, words of a text, frames of a recording.

A `MapReader`, a `TokenReader`, a `FrameReader` and a `TextTower` are what a backbone offers beside
one vector an example; `CellFeatures`, `WordFeatures` and `FrameFeatures` are what frozen methods
are given of them. Importing this imports neither torch nor numpy. D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TextTower:
    """What a backbone's `text_tower()` gives: the half of a network that reads texts, in a space of
    E dimensions that pictures share.

    `embed(texts)` gives (K, E) float32, `project(features)` (N, E) float32 of pictures, from the
    backbone's own features (N, D); neither is normalised. `scale` times a cosine, and `bias`, is
    the logit of a text for a picture.
    """

    embed: Callable[[Sequence[str]], torch.Tensor]
    project: Callable[[torch.Tensor], torch.Tensor]
    scale: float = 1.0
    bias: float = 0.0


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """The rows at length 1, as texts and pictures are compared; one of zeros becomes NaN."""
    scaled: torch.Tensor = vectors / vectors.norm(dim=1, keepdim=True)
    return scaled


@dataclass(frozen=True)
class MapSpec:
    """One map of a backbone's: a cell has `channels` numbers, and is `stride` input pixels wide.

    `tap` is the name of the layer that it is read at, as the model's library gives it.
    """

    stride: int
    channels: int
    tap: str


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a frame: in its top left `content`, scaled; what is left is padding.

    Each is (height, width) in pixels: the picture's own, what it became, and the frame's.
    """

    picture: tuple[int, int]
    content: tuple[int, int]
    frame: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Frame pixels a pixel of the picture: (down, across)."""
        return self.content[0] / self.picture[0], self.content[1] / self.picture[1]


@dataclass(frozen=True)
class MapReader:
    """What a backbone's `map_reader((H, W))` gives: how its maps are read off.

    `module` is a copy whose position embeddings fit an input of `size`, which is (H, W), or the
    next size above that the model takes. `read(module, batch, wanted)` gives the maps
    (B, C, h, w) at those of `taps` that `wanted` numbers, differentiable; `taps` go from the
    first layer to the last, and a map covers all of its input.
    """

    module: torch.nn.Module
    size: tuple[int, int]
    taps: tuple[str, ...]
    read: Callable[[torch.nn.Module, torch.Tensor, Sequence[int]], Sequence[torch.Tensor]]


class DenseBackbone(Protocol):
    """A backbone at work on pictures of one size, its frame: what `models.dense` makes of one.

    `specs` describe its maps, the finest first and the last layer's last; where all layers have
    one stride they are those at each quarter of the depth.
    """

    @property
    def module(self) -> torch.nn.Module: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def input_size(self) -> tuple[int, int]: ...
    @property
    def specs(self) -> tuple[MapSpec, ...]: ...

    def place(self, raw: Any) -> tuple[NDArray[np.uint8], Placement]:
        """One picture in its frame (H, W, 3), and where it lies."""

    def tensor(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H', W') float32 from frames (B, H, W, 3) uint8, on their device.

        The values are the weights' own (mean, std, order of the channels). (H', W') is
        `input_size`: the frame, padded below and to the right to a size that the model takes.
        """

    def maps(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A (B, C, h, w) for each of `specs`, float32, differentiable; it covers (H', W')."""

    def copy(self) -> DenseBackbone:
        """The same over a module of its own, to be trained."""


@dataclass(frozen=True)
class CellFeatures:
    """Features of N pictures on one grid: `values` (N, h, w, D) of any float type, perhaps on the
    disk, and where each picture lies in the frame that the grid divides.

    `loss` is the relative error of `values`, where they were rounded to be kept.
    """

    values: Any
    places: tuple[Placement, ...]
    loss: float = 0.0

    @property
    def grid(self) -> tuple[int, int]:
        _, h, w, _ = self.values.shape
        return h, w

    def rows(self, rows: NDArray[np.intp]) -> torch.Tensor:
        """(R, D) float32 of some cells, numbered through all pictures, on the CPU."""
        import numpy as np
        import torch

        flat = self.values.reshape(-1, self.values.shape[-1])
        return torch.as_tensor(np.asarray(flat[rows], dtype=np.float32))


@dataclass(frozen=True)
class TokenReader:
    """What a text backbone's `token_reader()` gives: how the words of a text become pieces, and how
    the states of pieces are read.

    `pieces(words)` gives the ids of each word's pieces as they stand in that text, without special
    tokens, at least one a word. A window of a text is `before`, ids, `after`, at most `length` in
    all. `read(module, batch, wanted)` gives the states (B, T, D) after the layers that `wanted`
    numbers, of 1 to `layers`, differentiable; `batch` holds `input_ids` and `attention_mask`,
    each (B, T) int64, and, where the network has `type_ids`, may hold `token_type_ids`. `backend`
    is the tokenizer of the library `tokenizers`, which neither cuts nor pads; None where words are
    looked up.
    """

    pieces: Callable[[Sequence[str]], list[list[int]]]
    before: tuple[int, ...]
    after: tuple[int, ...]
    length: int
    layers: int
    read: Callable[
        [torch.nn.Module, Mapping[str, torch.Tensor], Sequence[int]], Sequence[torch.Tensor]
    ]
    pad_id: int = 0
    type_ids: bool = False
    backend: Any = None

    @property
    def depths(self) -> tuple[int, ...]:
        """The layers that a frozen method may choose of: at a half and three quarters of the depth,
        and the last (PROTOCOL section 2, Token classification)."""
        return _depths(self.layers)


@dataclass(frozen=True)
class FrameReader:
    """What an audio backbone's `frame_reader()` gives: how the states of a clip's frames are read.

    A batch is what the backbone's `collate` makes: a dict of tensors, in which `lengths` (B,) int64
    are the clips' samples. `read(module, batch, wanted)` gives the states (B, F, D) after the
    layers that `wanted` numbers, of 1 to `layers`, differentiable. `frames(lengths)` says how many
    of the F frames each clip fills, (B,) int64, at least one: what follows is padding. `rate` is
    frames a second.
    """

    layers: int
    rate: float
    frames: Callable[[torch.Tensor], torch.Tensor]
    read: Callable[
        [torch.nn.Module, Mapping[str, torch.Tensor], Sequence[int]], Sequence[torch.Tensor]
    ]

    @property
    def depths(self) -> tuple[int, ...]:
        """The layers that a frozen method may choose of, as `TokenReader.depths`."""
        return _depths(self.layers)


def _depths(layers: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys((-(-layers // 2), -(-3 * layers // 4), layers)))


@dataclass(frozen=True)
class WordFeatures:
    """Features of the R words of N examples, in order: `values` (R, L, D) fp16, perhaps on the
    disk, after the `layers`; those of example i are `starts[i]` to `starts[i + 1]`.

    `loss` is the relative error of `values`, which were rounded to be kept.
    """

    values: Any
    starts: NDArray[np.int64]
    layers: tuple[int, ...]
    loss: float = 0.0

    def layer(self, number: int) -> torch.Tensor:
        """(R, D) float32 after the layer `number`, on the CPU."""
        import numpy as np
        import torch

        column = self.values[:, self.layers.index(number)]
        return torch.from_numpy(np.asarray(column, dtype=np.float32))


@dataclass(frozen=True)
class FrameFeatures(WordFeatures):
    """The same of the R frames of N recordings."""
