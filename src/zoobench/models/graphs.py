"""Networks that are graphs of another library, which torch sees nothing of: a module that holds the
bytes of one graph, and the library that runs them on the CPU.

    module_of("onnx", content)      a module without parameters
    features(module, pictures)      what its graph gives
    counted(module), widest(module) what it costs, from the graph alone (PROTOCOL section 4)
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from zoobench.errors import Unsupported

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class GraphKind:
    """A kind of graph: its `title`, the `library` that runs it, that one's name in a record
    (`runtime`), and the `home` of `runner(content, threads)`, `counted(content)` and
    `widest(content)`."""

    title: str
    library: str
    runtime: str
    home: str


KINDS: Mapping[str, GraphKind] = {
    "onnx": GraphKind("ONNX", "ONNX Runtime", "onnxruntime", "zoobench.models.onnx_session"),
    "tensorflow": GraphKind("TensorFlow", "TensorFlow", "tensorflow", "zoobench.models.tf_session"),
}
"""By the name of a module's only state: a buffer of the graph's bytes (uint8)."""


@dataclass(frozen=True)
class GraphCount:
    """MACs of one example by operator, largest first; operators of arithmetic that were not
    counted; `attention` whether two activations are multiplied; `params` numbers of weights."""

    by_operator: Mapping[str, int]
    uncounted: tuple[str, ...]
    attention: bool
    params: int

    @property
    def macs(self) -> int:
        return sum(self.by_operator.values())


@dataclass(frozen=True)
class Runner:
    """`run` gives (N, ...) float32 of (N, 3, H, W) float32, both numpy's; `batch` is the one N that
    it takes, 0 where it takes any."""

    run: Callable[[Any], Any]
    batch: int = 0


_ready: WeakKeyDictionary[Any, dict[tuple[int, int], Runner]] = WeakKeyDictionary()
"""module -> (process, threads) -> runner. Kept apart from the module, which can so be copied and
pickled; a session that was forked has lost its threads."""
_making = threading.Lock()


def module_of(kind: str, content: bytes) -> torch.nn.Module:
    """The bytes of a graph as a module without parameters, in eval mode."""
    import torch

    module = torch.nn.Module()
    module.register_buffer(kind, torch.frombuffer(bytearray(content), dtype=torch.uint8))
    return module.eval()


def einsum_macs(equation: str, sizes: Sequence[tuple[int, ...]]) -> int:
    """The product of all letters' sizes, of two operands. Raises ValueError for any other form."""
    letters = equation.replace(" ", "").partition("->")[0].split(",")
    if len(letters) != 2 or "." in "".join(letters):
        raise ValueError(equation)
    named = {
        letter: one
        for term, size in zip(letters, sizes, strict=True)
        for letter, one in zip(term, size, strict=True)
    }
    return math.prod(named.values())


def kind_of(module: torch.nn.Module) -> str:
    """Which of KINDS a module holds that `module_of` made, "" of any other module."""
    return next((name for name, _ in module.named_buffers(recurse=False) if name in KINDS), "")


def content_of(module: torch.nn.Module) -> bytes:
    """The bytes of the graph that `module` holds."""
    data: torch.Tensor = getattr(module, kind_of(module))
    return data.detach().cpu().numpy().tobytes()


def counted(module: torch.nn.Module) -> GraphCount:
    """The costs of one example of the graph that `module` holds."""
    found: GraphCount = _home(module).counted(content_of(module))
    return found


def widest(module: torch.nn.Module) -> int:
    """Numbers in the inputs and outputs of the graph's largest node, for one example, weights
    aside; 1 where no size is known."""
    found: int = _home(module).widest(content_of(module))
    return found


def features(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """The graph's one output, (N, ...) float32, of its one input (N, 3, H, W), by as many threads
    as torch has when it is called. A graph of a fixed batch is run as often as it takes.

    Raises Unsupported for a batch that is not on the CPU.
    """
    import numpy as np
    import torch

    if batch.device.type != "cpu":
        library = KINDS[kind_of(module)].library
        raise Unsupported(f"this network runs by {library} on the CPU, not on {batch.device}")
    pixels = batch.detach().float().contiguous().numpy()
    runner = _runner(module, torch.get_num_threads())
    fixed = runner.batch
    if fixed in (0, len(pixels)):
        return torch.from_numpy(runner.run(pixels))
    # What fills the last batch up is thrown away.
    filled = np.concatenate([pixels, np.repeat(pixels[-1:], -len(pixels) % fixed, axis=0)])
    pieces = (filled[start : start + fixed] for start in range(0, len(filled), fixed))
    found = np.concatenate([runner.run(piece) for piece in pieces])
    return torch.from_numpy(found[: len(pixels)])


def pooled(pool: str, channels: int, module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """(N, D) of what the graph gives: (N, D), (N, T, D), or maps (N, D, H, W) whose `channels` are
    at 1, (N, H, W, D) where they are at 3. Raises Unsupported where several places or tokens are
    left and no `pool` is said."""
    found = features(module, batch)
    places = tuple(place for place in (1, 2, 3) if place != channels) if found.ndim == 4 else (1,)
    if found.ndim == 4 and all(found.shape[place] == 1 for place in places):
        return found.flatten(1)
    if found.ndim not in (3, 4):
        return found
    if pool == "avg":
        return found.mean(places)
    if pool == "max":
        return found.amax(places)
    if pool == "cls" and found.ndim == 3:
        return found[:, 0]
    shape = ", ".join(map(str, found.shape[1:]))
    raise Unsupported(
        f"features of a picture are ({shape}): say pool=avg or max"
        + (", or cls" if found.ndim == 3 else "")
    )


def _home(module: torch.nn.Module) -> Any:
    return import_module(KINDS[kind_of(module)].home)


def _runner(module: torch.nn.Module, threads: int) -> Runner:
    key = (os.getpid(), threads)
    with _making:
        runners = _ready.setdefault(module, {})
        if key not in runners:
            runners[key] = _home(module).runner(content_of(module), threads)
        return runners[key]
