"""A network that is an ONNX file: a module that holds its bytes, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from zoobench.errors import Unsupported, missing_extra

if TYPE_CHECKING:
    import torch

BUFFER = "onnx"
"""The module's only state: the file's bytes (uint8)."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")
PROVIDER = "CPUExecutionProvider"

_ready: WeakKeyDictionary[Any, dict[tuple[int, int], Any]] = WeakKeyDictionary()
"""module -> (process, threads) -> session. Kept apart from the module, which can so be copied and
pickled; a session that was forked has lost its threads."""
_making = threading.Lock()


def module_of(content: bytes) -> torch.nn.Module:
    """The bytes of an ONNX file as a module without parameters, in eval mode."""
    import torch

    module = torch.nn.Module()
    module.register_buffer(BUFFER, torch.frombuffer(bytearray(content), dtype=torch.uint8))
    return module.eval()


def holds_graph(module: torch.nn.Module) -> bool:
    """Whether `module` is one that `module_of` made: what runs is an ONNX file."""
    return BUFFER in dict(module.named_buffers(recurse=False))


def content_of(module: torch.nn.Module) -> bytes:
    """The bytes of the ONNX file that `module` holds."""
    data: torch.Tensor = getattr(module, BUFFER)
    return data.detach().cpu().numpy().tobytes()


def graph_of(module: torch.nn.Module) -> Any:
    """The onnx.ModelProto that `module` holds."""
    import onnx

    return onnx.load_model_from_string(content_of(module))


def check(path: Path) -> None:
    """Raises Unsupported for an ONNX file that is more than one graph with its weights inside:
    weights may lie in other files, whichever the file names. MissingExtra where ONNX is absent."""
    require("reading model.onnx")
    import onnx
    from onnx.external_data_helper import uses_external_data

    model = onnx.load(path, load_external_data=False)
    kinds: dict[str, list[Any]] = {}
    for part in parts(model):
        kinds.setdefault(type(part).__name__, []).append(part)
    foreign = any(map(uses_external_data, kinds.get("TensorProto", ())))
    odd = set(kinds) & {"SparseTensorProto", "FunctionProto", "TrainingInfoProto"}
    alone = len(kinds.get("GraphProto", ())) == 1
    if foreign or odd or not alone or [one.name for one in model.graph.input] != ["pixels"]:
        raise Unsupported(f"{path}: not a graph from pixels to features with its weights inside")


def parts(message: Any) -> Iterator[Any]:
    """A protobuf message and all that are set below it, in whatever field they are."""
    ahead = [message]
    while ahead:
        part = ahead.pop()
        yield part
        for field, value in part.ListFields():
            if field.message_type is not None:
                ahead += [value] if hasattr(value, "ListFields") else value


def require(purpose: str, needed: Sequence[str] = ()) -> None:
    """Raises MissingExtra where one of the packages `needed` is absent; all of the extra `onnx` are
    where none is named."""
    lacking = [name for name in needed or NEEDED if not importlib.util.find_spec(name)]
    if lacking:
        raise missing_extra(", ".join(lacking), "onnx", purpose)


def features(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """The graph's one output, (N, ...) float32, of its one input (N, 3, H, W), by as many threads
    as torch has when it is called. A graph of a fixed batch is run as often as it takes.

    Raises Unsupported for a batch that is not on the CPU.
    """
    import numpy as np
    import torch

    if batch.device.type != "cpu":
        raise Unsupported(f"this network runs by ONNX Runtime on the CPU, not on {batch.device}")
    pixels = batch.detach().float().contiguous().numpy()
    session = _session(module, torch.get_num_threads())
    [given] = session.get_inputs()
    fixed = given.shape[0]
    if not isinstance(fixed, int) or fixed == len(pixels):
        return torch.from_numpy(session.run(None, {given.name: pixels})[0])
    # What fills the last batch up is thrown away.
    filled = np.concatenate([pixels, np.repeat(pixels[-1:], -len(pixels) % fixed, axis=0)])
    pieces = (filled[start : start + fixed] for start in range(0, len(filled), fixed))
    found = np.concatenate([session.run(None, {given.name: piece})[0] for piece in pieces])
    return torch.from_numpy(found[: len(pixels)])


def _session(module: torch.nn.Module, threads: int) -> Any:
    key = (os.getpid(), threads)
    with _making:
        sessions = _ready.setdefault(module, {})
        if key not in sessions:
            sessions[key] = _made(content_of(module), threads)
        return sessions[key]


def _made(content: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that spin between two runs take the cores from whatever is timed in turns with this.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A file may be this and ONNX Runtime's own format at once: what was looked at is what runs.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=[PROVIDER])
