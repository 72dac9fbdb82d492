"""A network that is an ONNX file, run by ONNX Runtime on the CPU (`graphs`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import Unsupported, missing_extra
from zoobench.models import graphs, onnx_counts
from zoobench.models.graphs import GraphCount, Runner

if TYPE_CHECKING:
    import torch

KIND = "onnx"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
PROVIDER = "CPUExecutionProvider"


def module_of(content: bytes) -> torch.nn.Module:
    """The bytes of an ONNX file as a module without parameters, in eval mode."""
    return graphs.module_of(KIND, content)


def graph_of(module: torch.nn.Module) -> Any:
    """The onnx.ModelProto that `module` holds."""
    return _read(graphs.content_of(module))


def counted(content: bytes) -> GraphCount:
    """What one example costs."""
    return onnx_counts.counted(_read(content))


def widest(content: bytes) -> int:
    """Numbers that the largest node reads and makes, for one example."""
    return onnx_counts.widest(_read(content))


def _read(content: bytes) -> Any:
    import onnx

    return onnx.load_model_from_string(content)


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


def runner(content: bytes, threads: int) -> Runner:
    """A session of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that spin between two runs take the cores from whatever is timed in turns with this.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A file may be this and ONNX Runtime's own format at once: what was looked at is what runs.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=[PROVIDER])
    [given] = session.get_inputs()
    batch = given.shape[0] if isinstance(given.shape[0], int) else 0
    return Runner(lambda pixels: session.run(None, {given.name: pixels})[0], batch)
