"""Which weights: what a ref will load, as far as that can be told, and what was really loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from zoobench.files import expanded
from zoobench.models import graphs
from zoobench.models.checkpoints import SETTINGS, sha256_file
from zoobench.models.options import WEIGHT_SUFFIXES
from zoobench.schema import Cell, ModelCard, Ref

if TYPE_CHECKING:
    import torch


FROZEN = "frozen"
"""The fact on a card that `frozen` asks for."""
PRETRAINED_HERE = "pretrained-here"
"""The source of encoders that a suite made itself: one a seed."""
OF_FOLDERS = ("hf", "timm", "segmenter", "detector", "tagger", "reader", "language-model")
"""Sources whose models may come from a local folder."""


def own_folder(ref: Ref) -> str:
    """The local folder whose configuration `ref` is built from; "" where it is the source's."""
    if ref.source not in OF_FOLDERS or (ref.source == "timm" and "/" not in ref.name):
        return ""
    weights = str(ref.option("weights", "pretrained"))
    own = weights not in ("random", "pretrained") and not weights.endswith(WEIGHT_SUFFIXES)
    return str(ref.option("configuration", weights if own else ""))


def drawable(ref: Ref) -> bool:
    """Whether there are random weights of the architecture: a saved folder and a frozen graph have
    their own alone."""
    inner = ref.name.partition("/")[0] if ref.source == "classifier" else ref.source
    return inner not in ("saved", "onnx", "tf")


def seeded(ref: Ref) -> bool:
    """Whether a seed draws the model's weights: random ones, and what was pretrained from them."""
    made_here = ref.source == PRETRAINED_HERE and ref.option("path") is None
    return made_here or ref.option("weights") == "random"


def seen(model: Ref, dataset: Ref) -> bool:
    """Whether the model was pretrained here on `dataset`, or a part or a spoilt copy of it."""
    learned = model.option("dataset")
    if model.source != PRETRAINED_HERE or not isinstance(learned, str):
        return False
    return model.option("objective") != "random" and Ref.parse(learned).id == dataset.id


def frozen(card: ModelCard) -> bool:
    """Whether the model is a fixed function from inputs to features: nothing trains it, and nothing
    looks inside of it."""
    return bool(dict(card.extra).get(FROZEN))


def parameters(module: torch.nn.Module) -> int:
    """Numbers of its weights; of a graph of another library those in it, of a network of Keras
    those that are trained."""
    if graphs.kind_of(module):
        return graphs.counted(module).params
    counted: int | None = getattr(module, "counted", None)  # of Keras, which calls more so
    return counted or sum(parameter.numel() for parameter in module.parameters())


def untrained(ref: Ref) -> Ref:
    """The same architecture with random weights: for a local folder its own, never that of a
    hub's repository of the same name; of what was pretrained here, under whatever name, one."""
    if (architecture := ref.option("architecture")) is not None and ref.source == PRETRAINED_HERE:
        made = Ref.parse(architecture) if "/" in architecture else Ref(ref.source, architecture)
        return made.with_options(weights="random")
    folder = own_folder(ref)
    return ref.with_options(weights="random", **({"configuration": folder} if folder else {}))


def weights_digest(ref: Ref) -> str:
    """sha256 (first 16 hex digits) of a local checkpoint's content, "" for any other weights.

    A folder's digest is over its files' names and contents; over its settings alone where
    random weights are drawn for its configuration. Missing files give "".
    """
    weights = ref.option("weights", "pretrained")
    drawn = own_folder(ref) if weights == "random" else ""
    if weights in ("random", "pretrained") and not drawn:
        return ""
    path = expanded(drawn or str(weights))
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    files = [file for file in files if not drawn or file.suffix in SETTINGS]
    return content_digest(files, path if path.is_dir() else None)


def content_digest(files: Sequence[Path], root: Path | None) -> str:
    """sha256 (first 16 hex digits) over files' names below `root` and their contents; "" where one
    is missing."""
    hasher = hashlib.sha256()
    for file in files:
        if not file.is_file():
            return ""
        stat = file.stat()
        name = file.relative_to(root).as_posix() if root else ""
        hasher.update(f"{name}:{_file_digest(file, stat.st_mtime_ns, stat.st_size)};".encode())
    return hasher.hexdigest()[:16]


@lru_cache(maxsize=256)
def _file_digest(path: Path, mtime_ns: int, size: int) -> str:
    """Hashed once a process for each state of the file: a plan asks for every cell."""
    return sha256_file(path)


def weights_of(cell: Cell, random_weights: bool) -> tuple[Ref, int]:
    """The model to load, and the seed of its weights where they are drawn."""
    ref = cell.model
    if random_weights:
        ref = untrained(ref)
    return ref, cell.seed if seeded(ref) else 0


def state_digest(module: torch.nn.Module) -> str:
    """sha256 (32 hex digits) over names, dtypes, shapes and bytes of the state_dict as it now is.

    The one name of weights that is right for random and for merged ones too.
    """
    import torch

    hasher = hashlib.sha256()
    for name, tensor in sorted(plain_state(module).items()):
        data = tensor.detach().cpu().contiguous()
        hasher.update(f"{name}:{data.dtype}:{tuple(data.shape)};".encode())
        hasher.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()[:32]


def plain_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The `plain_tensors` of the state_dict."""
    return plain_tensors(module.state_dict())


def plain_tensors(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state_dict in tensors of torch's own: a quantised tensor as the parts that it is made of,
    such as `fc.weight.qdata` (int8) and `fc.weight.scale`."""
    import torch

    found: dict[str, torch.Tensor] = {}

    def add(name: str, one: torch.Tensor) -> None:
        flatten = getattr(one, "__tensor_flatten__", None)
        if flatten is None:
            found[name] = one
            return
        for part in flatten()[0]:
            add(f"{name}.{part}", getattr(one, part))

    for name, one in state.items():
        if isinstance(one, torch.Tensor):  # a module's extra state need not be one
            add(name, one.detach())
    return found
