"""What a backbone costs, counted exactly (PROTOCOL section 4); `measure` times it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.audio import Clip
from zoobench.costs.counter_formulas import COUNTER_VERSION
from zoobench.features.incoming import to_device
from zoobench.metrics import measured
from zoobench.models import graphs
from zoobench.models.weights import parameters, plain_state
from zoobench.schema import Measurement

if TYPE_CHECKING:
    import torch

    from zoobench.costs.counter import OpCount
    from zoobench.interfaces import Backbone, InputSpec


def example(spec: InputSpec) -> Any:
    """A raw example that fills the model's own input: noise, or more words than are read."""
    if spec.modality == "audio":
        samples = np.random.default_rng(0).normal(0, 0.1, spec.length or 1)
        return Clip(samples.astype(np.float32), spec.rate or 1)
    if spec.modality == "image":
        from PIL import Image

        _, height, width = spec.size or (3, 224, 224)
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(noise)
    return "word " * (spec.length or 128)


def batch_of(backbone: Backbone, n: int) -> Any:
    """A collated batch of `n` copies of `example`, on the CPU."""
    prepared = backbone.prepare(example(backbone.input_spec))
    return backbone.collate([prepared] * n)


def shapes(batch: Any) -> Any:
    """The shape of each tensor of a batch, as lists; keys are kept."""
    if isinstance(batch, Mapping):
        return {str(name): shapes(value) for name, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return [shapes(value) for value in batch]
    return list(batch.shape) if hasattr(batch, "shape") else None


def sequence_length(batch: Any) -> int | None:
    """Tokens of a text batch."""
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    return None if ids is None else int(ids.shape[1])


def seconds_heard(spec: InputSpec) -> float | None:
    """Seconds of sound that fill an input; None of other inputs."""
    return spec.length / spec.rate if spec.length and spec.rate else None


def weights_bytes(module: torch.nn.Module) -> dict[str, int]:
    """dtype -> bytes of the state_dict; tensors that share storage count once. Those of a graph of
    another library, whose weights lie in it with all else, are of the dtype "onnx" or
    "tensorflow"."""
    if kind := graphs.kind_of(module):
        return {kind: len(graphs.content_of(module))}
    totals: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    for tensor in plain_state(module).values():
        place = (tensor.untyped_storage()._cdata, int(tensor.storage_offset()))
        if place not in seen:
            seen.add(place)
            name = str(tensor.dtype).removeprefix("torch.")
            totals[name] += tensor.numel() * tensor.element_size()
    return dict(totals)


def count_detail(counted: OpCount) -> dict[str, Any]:
    """What stands beside every count: convention, version, attention, what is missing."""
    detail: dict[str, Any] = {
        "counter": f"zoobench {COUNTER_VERSION}",
        "convention": "1 MAC = 2 FLOPs",
        "attention": counted.attention,
        "lower_bound": counted.lower_bound,
        "uncounted_ops": list(counted.uncounted),
    }
    if counted.attention in ("causal", "mixed"):
        detail["causal_counted_as"] = "full"
    if "torchvision::nms" in counted.uncounted:
        # How many boxes are left for what follows is the picture's to say.
        detail["depends_on_data"] = True
    return detail


def of_variant(
    counted: Sequence[Measurement], variant: Backbone, *, covered: bool = True
) -> tuple[Measurement, ...]:
    """The `static_costs` of a variant from what was `counted` of its original: it computes the same
    function, and its bytes are its own. `coverage` is the share of the parameters that it touches,
    left out where the variant is but the precision that a run took."""
    touched = variant.provenance["variant"]
    by_dtype = weights_bytes(variant.module)
    own = {
        "weights_bytes": measured("weights_bytes", float(sum(by_dtype.values())), detail=by_dtype)
    }
    macs = {"macs": float(touched["macs"])}
    coverage = measured("coverage", float(touched["params"]), detail=macs)
    return (*(own.get(one.metric, one) for one in counted), *([coverage] if covered else []))


def count_of(module: torch.nn.Module, run: Callable[..., Any], args: Sequence[Any]) -> OpCount:
    """What one example costs that `run(*args)` computes by `module`; where that holds a graph of
    another library, of which torch sees nothing, by the graph's own operators."""
    from zoobench.costs.counter import OpCount, count

    if not graphs.kind_of(module):
        return count(run, args)
    found = graphs.counted(module)
    attention = "full" if found.attention else "none"
    return OpCount(found.macs, found.by_operator, found.uncounted, bool(found.uncounted), attention)


def static_costs(backbone: Backbone) -> tuple[Measurement, ...]:
    """params, weights_bytes, feature_dim, macs and flops of `embed`.

    The count is of one example that fills the model's own input, run for real where the
    module lies. Deterministic; the module is left as it was.
    """
    module = backbone.module
    place = next(iter(module.parameters()), None)
    batch = batch_of(backbone, 1)
    held = batch if place is None else to_device(batch, place.device)
    counted = count_of(module, backbone.embed, (held,))
    detail = {"input_shape": shapes(batch), **count_detail(counted)}
    if (length := sequence_length(batch)) is not None:
        detail["sequence_length"] = length
    if (heard := seconds_heard(backbone.input_spec)) is not None:
        detail["seconds"] = heard
    if getattr(backbone, "generates", False):
        # How many tokens come after the first is the recording's to say.
        detail |= {"lower_bound": True, "depends_on_data": True, "counted": "the first token"}
    by_dtype = weights_bytes(module)
    total = parameters(module)
    return (
        measured("params", float(total)),
        measured("weights_bytes", float(sum(by_dtype.values())), detail=by_dtype),
        measured("feature_dim", float(backbone.feature_dim)),
        measured("macs", float(counted.macs), detail=detail),
        measured("flops", float(2 * counted.macs), detail=detail),
    )
