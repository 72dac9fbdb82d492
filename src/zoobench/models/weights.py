"""Which weights: what a ref will load, as far as that can be told, and what was really loaded."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from zoobench.models.checkpoints import sha256_file
from zoobench.schema import Cell, Ref

if TYPE_CHECKING:
    import torch


def weights_digest(ref: Ref) -> str:
    """sha256 (first 16 hex digits) of a local checkpoint's content, "" for any other weights.

    A folder's digest is over its files' names and contents. Missing files give "".
    """
    weights = ref.option("weights", "pretrained")
    if weights in ("random", "pretrained"):
        return ""
    path = Path(str(weights)).expanduser()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    hasher = hashlib.sha256()
    for file in files:
        if not file.is_file():
            return ""
        stat = file.stat()
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
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
        ref = ref.with_options(weights="random")
    return ref, cell.seed if ref.option("weights") == "random" else 0


def state_digest(module: torch.nn.Module) -> str:
    """sha256 (32 hex digits) over names, dtypes, shapes and bytes of the state_dict as it now is.

    The one name of weights that is right for random and for merged ones too.
    """
    import torch

    hasher = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        hasher.update(f"{name}:{data.dtype}:{tuple(data.shape)};".encode())
        hasher.update(data.reshape(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()[:32]
