"""What every source returns: a backbone of pictures, texts or recordings, and how one is finished.

N examples, D features, T tokens or samples, H and W pixels, F frames.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoobench.errors import Unsupported
from zoobench.interfaces import InputSpec
from zoobench.models.weights import parameters
from zoobench.views import FrameReader, MapReader, TextTower, TokenReader

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from zoobench.audio import Clip
    from zoobench.models.checkpoints import State

    Forward = Callable[[torch.nn.Module, Any], torch.Tensor]


@dataclass(frozen=True)
class Blueprint:
    """How one library alone makes a backbone again: what a saved folder says of it (`export`).

    `library` names the script that does; `settings`, plain JSON, are what it reads, beside the
    weights and what `write` puts into the folder (a tokenizer, a configuration). `parts` gives the
    module's tensors as the library calls them, and those of layers that are none of its own.
    """

    library: str
    settings: Mapping[str, Any]
    write: Callable[[Path, Any], None] | None = None
    parts: Callable[[Any], tuple[State, State]] = lambda module: (module.state_dict(), {})


@dataclass
class ImageBackbone:
    """A Backbone of pictures: `transform` is what belongs to the weights.

    `source_head` (D -> S) is the classifier that the weights came with, where it is one
    linear layer on these features: what LEEP and NCE ask. None where it is not.
    `reads_maps` makes what `map_reader` gives of the module and a size, `reads_texts` what
    `text_tower` gives.
    """

    module: torch.nn.Module
    input_spec: InputSpec
    pooling: str
    transform: Callable[[Image.Image], torch.Tensor] = field(repr=False)
    forward: Forward = field(repr=False)
    feature_dim: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    source_head: torch.nn.Linear | None = None
    reads_maps: Callable[[torch.nn.Module, tuple[int, int]], MapReader] | None = None
    blueprint: Blueprint | None = None
    reads_texts: Callable[[], TextTower] | None = None

    def prepare(self, raw: Image.Image) -> torch.Tensor:
        """(3, H, W) float32 from a PIL picture."""
        return self.transform(raw if raw.mode == "RGB" else raw.convert("RGB"))

    def collate(self, prepared: Sequence[torch.Tensor]) -> torch.Tensor:
        """(N, 3, H, W) float32."""
        import torch

        return torch.stack(tuple(prepared))

    def embed(self, batch: torch.Tensor) -> torch.Tensor:
        """(N, D) float32; differentiable."""
        return self.forward(self.module, batch).float()

    def map_reader(self, size: tuple[int, int]) -> MapReader:
        """How maps of an input of `size`, or the next that fits, are read. Raises Unsupported."""
        if self.reads_maps is None:
            raise Unsupported("this backbone has no maps: only embed")
        return self.reads_maps(self.module, size)

    def text_tower(self) -> TextTower:
        """The half of the network that reads texts. Raises Unsupported where there is none."""
        if self.reads_texts is None:
            raise Unsupported("this backbone reads no texts")
        return self.reads_texts()


@dataclass
class TextBackbone:
    """A Backbone of texts: `tokenize` gives at most `input_spec.length` token ids of each text.

    `reads_tokens` makes what `token_reader` gives, `rules` is a digest of what makes tokens of a
    text, beside `input_spec`.
    """

    module: torch.nn.Module
    input_spec: InputSpec
    pooling: str
    tokenize: Callable[[Sequence[str]], list[list[int]]] = field(repr=False)
    forward: Forward = field(repr=False)
    pad_id: int = 0
    feature_dim: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    blueprint: Blueprint | None = None
    reads_tokens: Callable[[], TokenReader] | None = None
    rules: str = ""

    def prepare(self, raw: str) -> dict[str, list[int]]:
        """`input_ids` of one text. Half of a surrogate pair reads as '?'."""
        return self.prepare_all([raw])[0]

    def prepare_all(self, raws: Sequence[str]) -> list[dict[str, list[int]]]:
        """What `prepare` gives of each; a tokenizer of `tokenizers` shares them among all cores."""
        sound = [raw.encode("utf-8", "replace").decode("utf-8") for raw in raws]
        return [{"input_ids": ids} for ids in self.tokenize(sound)]

    def collate(self, prepared: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask`, each (N, T) int64, T the longest of the batch."""
        import torch

        rows = [item["input_ids"] for item in prepared]
        width = max(1, max(len(row) for row in rows))
        ids = torch.full((len(rows), width), self.pad_id, dtype=torch.int64)
        mask = torch.zeros((len(rows), width), dtype=torch.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[i, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def embed(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(N, D) float32; differentiable."""
        return self.forward(self.module, batch).float()

    def token_reader(self) -> TokenReader:
        """How words and their pieces are read. Raises Unsupported."""
        if self.reads_tokens is None:
            raise Unsupported("this backbone has no tokens: only embed")
        return self.reads_tokens()


@dataclass
class AudioBackbone:
    """A Backbone of recordings: `listen` makes what the network is fed, (T', ...) float32, of at
    most `input_spec.length` samples (T,) at `input_spec.rate`; the first size of it is padded.

    `frames` is what `frame_reader` gives.
    """

    module: torch.nn.Module
    input_spec: InputSpec
    pooling: str
    listen: Callable[[NDArray[np.float32]], torch.Tensor] = field(repr=False)
    forward: Forward = field(repr=False)
    feature_dim: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    blueprint: Blueprint | None = None
    frames: FrameReader | None = None

    def prepare(self, raw: Clip) -> dict[str, Any]:
        """`values`, what the network is fed, and `length`, the samples that are in it: those of the
        clip at the network's rate, of a longer one the middle `input_spec.length`."""
        most, rate = self.input_spec.length or 0, self.input_spec.rate or 0
        samples = raw.at(rate)
        start = max(0, len(samples) - most) // 2
        samples = samples[start : start + most]
        return {"values": self.listen(samples), "length": len(samples)}

    def collate(self, prepared: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """`values` (N, T', ...) float32, zeros behind what is shorter than the longest of the
        batch, and `lengths` (N,) int64, in samples."""
        import torch

        values = torch.nn.utils.rnn.pad_sequence([one["values"] for one in prepared], True)
        return {"values": values, "lengths": torch.tensor([one["length"] for one in prepared])}

    def embed(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(N, D) float32; differentiable."""
        return self.forward(self.module, batch).float()

    def frame_reader(self) -> FrameReader:
        """How the states of frames are read. Raises Unsupported."""
        if self.frames is None:
            raise Unsupported("this backbone has no frames: only embed")
        return self.frames


SAME = 1e-2
"""Relative distance up to which two passes gave the same features: float32 in another order is
apart by less than a thousandth of that, a random mask by more than ten times as much."""

OurBackbone = ImageBackbone | TextBackbone | AudioBackbone
AnyBackbone = TypeVar("AnyBackbone", bound=OurBackbone)


def finish(
    backbone: AnyBackbone,
    provenance: Mapping[str, Any],
    libraries: Sequence[str],
) -> AnyBackbone:
    """Put in eval mode, measure `feature_dim`, and complete the provenance.

    Raises Unsupported when the model refuses the input, its features are not (1, D), or they
    depend on more than the input.
    """
    # Pillow decodes and resizes: its version belongs to the pixels as timm's does.
    needed = ("torch", *(("pillow",) if isinstance(backbone, ImageBackbone) else ()), *libraries)
    backbone.module.eval()
    backbone.feature_dim = _feature_dim(backbone)
    backbone.provenance = {
        **provenance,
        "preprocessing": backbone.input_spec.digest,
        "parameters": parameters(backbone.module),
        "libraries": {name: version(name) for name in needed},
    }
    return backbone


def _trials(backbone: OurBackbone) -> tuple[Any, Any]:
    """Two inputs, of unlike lengths where they may be. Raises Unsupported."""
    import numpy as np
    from PIL import Image

    if isinstance(backbone, TextBackbone):
        return backbone.prepare("a word"), backbone.prepare("two words, and some more")
    if isinstance(backbone, AudioBackbone):
        from zoobench.audio import Clip

        rate = backbone.input_spec.rate or 16_000
        grid = np.arange(rate, dtype=np.float32) / rate
        low, high = (np.sin(grid * (6.2832 * pitch), dtype=np.float32) for pitch in (220, 880))
        return backbone.prepare(Clip(low[: rate // 2], rate)), backbone.prepare(Clip(high, rate))
    _, height, width = backbone.input_spec.size or (3, 224, 224)
    shade = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    one, two = (backbone.prepare(p) for p in (shade, Image.new("RGB", (width, height))))
    if tuple(one.shape) != (3, height, width):
        raise Unsupported(f"preparing gave {tuple(one.shape)}, not (3, {height}, {width})")
    return one, two


def _feature_dim(backbone: OurBackbone) -> int:
    import torch

    embed: Any = backbone.embed
    one, two = _trials(backbone)
    try:
        with torch.no_grad(), seeded(0):  # one stream: a model that draws draws anew each time
            features = embed(backbone.collate([one]))
            together = embed(backbone.collate([one, two]))
            turned = embed(backbone.collate([two, one]))
    except (RuntimeError, ValueError, AssertionError) as error:
        size = backbone.input_spec.size or backbone.input_spec.length
        raise Unsupported(f"the model does not accept an input of {size}: {error}") from error
    if features.ndim != 2 or features.shape[0] != 1:
        raise Unsupported(
            f"features have the shape {tuple(features.shape)} where (N, D) was due; "
            "choose another option 'pool'"
        )
    apart = max(_apart(features[0], others) for others in (together[0], turned[1]))
    if max(apart, _apart(together[1], turned[0])) > SAME:
        raise Unsupported(
            "not deterministic: the features of an input change from one pass to the next, or "
            "with what else is in its batch"
        )
    return int(features.shape[1])


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The distance of two vectors, relative to the longer; 0 where it is not finite."""
    size = max(float(one.norm()), float(other.norm()))
    distance = float((one - other).norm())
    return distance / size if 0 < size < float("inf") else 0.0


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise weights from `seed`, and give torch's global CPU generator back unmoved."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA too
        yield


def pool_tokens(hidden: torch.Tensor, mask: torch.Tensor, pool: str) -> torch.Tensor:
    """(N, D) from (N, T, D) hidden states; `mask` (N, T) is 1 on real tokens, which come first.

    "mean" over real tokens (Reimers & Gurevych 2019, arXiv:1908.10084), "cls" the first
    token, "max" over real tokens, "lasttoken" the last of them, "mean_sqrt_len_tokens" their
    sum over the root of their number, and "weightedmean" their mean with weights 1, 2, 3, ...
    A text with no token at all gives zeros.
    """
    import torch

    if pool == "cls":
        return hidden[:, 0]
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    if pool == "weightedmean":
        weight = weight * torch.arange(1, mask.shape[1] + 1, device=mask.device).view(1, -1, 1)
    if pool in ("mean", "weightedmean"):
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
    if pool == "mean_sqrt_len_tokens":
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9).sqrt()
    if pool == "lasttoken":
        last = (mask.sum(1) - 1).clamp(min=0)
        rows = torch.arange(len(hidden), device=hidden.device)
        return hidden[rows, last] * weight[rows, last]
    floor = torch.finfo(hidden.dtype).min
    return hidden.masked_fill(weight == 0, floor).amax(1) * weight.amax(1)
