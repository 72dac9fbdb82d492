"""A network of torch as a graph of ONNX: batch norms folded, the size of a batch free."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.models import onnx_session
from zoobench.models.backbones import ImageBackbone
from zoobench.models.variants.int8 import quiet

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import InputSpec


def embedding(backbone: ImageBackbone, head: torch.nn.Module | None = None) -> torch.nn.Module:
    """What `backbone.embed` computes as a module, in eval mode; with a `head` its scores beside."""
    import torch

    class EmbedModule(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.head = backbone.module, head

        def forward(self, pixels: torch.Tensor) -> Any:
            features = backbone.embed(pixels)
            return features if self.head is None else (features, self.head(features))

    return EmbedModule().eval()


def exported(
    network: torch.nn.Module, spec: InputSpec, outputs: Sequence[str] = ("features",)
) -> Any:
    """What `network`, in eval mode, computes of pictures (N, 3, H, W) of the size of `spec`, as an
    onnx.ModelProto from "pixels" to `outputs`. Raises what the exporter raises."""
    import onnx
    import onnxruntime
    import torch

    assert spec.size is not None
    pixels = torch.linspace(-2, 2, 2 * math.prod(spec.size)).reshape(2, *spec.size)
    with tempfile.TemporaryDirectory(prefix="zoobench-") as folder, quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            network, (pixels,), dynamo=True, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["pixels"], output_names=list(outputs),
        )  # fmt: skip
        raw, simple = Path(folder) / "raw.onnx", Path(folder) / "simple.onnx"
        program.save(raw)
        # ONNX Runtime folds what the exporter left: norms into convolutions, constants.
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(simple)
        onnxruntime.InferenceSession(raw, options, providers=[onnx_session.PROVIDER])
        return onnx.shape_inference.infer_shapes(bare(onnx.load(simple)))


def bare(model: Any) -> Any:
    """`model` without what the exporter notes beside it: stack traces with this machine's paths."""
    graph = model.graph
    parts = (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info)
    for part in (model, graph, *parts):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model
