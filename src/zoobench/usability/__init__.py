"""Can it be used? A literal table of probes of one model, each with a yes, a no or a number.

    safe-format     no     efficientnet-lite0.pth is a pickle
    exports-onnx    yes    ONNX Runtime is off by 2.1e-06 at most

A probe is a function and a row. It runs in a process of its own, within a time limit; what cannot
be found out is unknown, and says why. No grade is made of the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoobench.errors import unknown

Said = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found: `value` is in the probe's unit, `why` one sentence for people."""

    answer: Said
    why: str = ""
    value: float | None = None


@dataclass(frozen=True)
class UsabilityProbe:
    """`function` is "module:name" below this room; `unit` is of its value, "" where it has none.

    `loads` says whether the model is loaded first, and `seconds` when the probe is stopped.
    `libraries` decide the answer beside torch and the model's own.
    """

    function: str
    about: str
    unit: str = ""
    loads: bool = True
    seconds: float = 120.0
    libraries: tuple[str, ...] = ()


PROBES: dict[str, UsabilityProbe] = {
    "loads-offline": UsabilityProbe("facts:loads_offline", "no network is needed", loads=False),
    "license-known": UsabilityProbe("facts:license_known", "its card names one", loads=False),
    "permissive": UsabilityProbe(
        "facts:permissive", "its licence asks for little but attribution", loads=False
    ),
    "revision-pinned": UsabilityProbe(
        "facts:revision_pinned", "its name means these weights and no later ones", loads=False
    ),
    "trained-on-known": UsabilityProbe(
        "facts:trained_on_known", "its card says what it was trained on", loads=False
    ),
    "loads": UsabilityProbe("facts:loads", "it loads into the network, cold", "s"),
    "safe-format": UsabilityProbe("facts:safe_format", "its weights are no pickle"),
    "size-on-disk": UsabilityProbe("facts:size_on_disk", "bytes of its weights", "bytes"),
    "deterministic": UsabilityProbe(
        "behaviour:deterministic", "the same input twice gives the same features", "relative"
    ),
    "stateless": UsabilityProbe(
        "behaviour:stateless", "features do not depend on earlier calls", "relative"
    ),
    "thread-invariant": UsabilityProbe(
        "behaviour:thread_invariant", "nor on the number of threads", "relative"
    ),
    "batch-invariant": UsabilityProbe(
        "behaviour:batch_invariant", "nor on what else is in the batch", "relative"
    ),
    "order-invariant": UsabilityProbe(
        "behaviour:order_invariant", "nor on the batch's order", "relative"
    ),
    "other-sizes": UsabilityProbe(
        "behaviour:other_sizes", "it takes inputs of other sizes", "share"
    ),
    "differentiable": UsabilityProbe(
        "behaviour:differentiable", "a gradient reaches each parameter", "share"
    ),
    "trains-batch-8": UsabilityProbe(
        "behaviour:trains", "a training step of 8 examples fits here", "bytes"
    ),
    "exports-torch": UsabilityProbe(
        "exports:to_torch", "torch.export gives the same", "relative", seconds=300
    ),
    "exports-onnx": UsabilityProbe(
        "exports:to_onnx", "ONNX Runtime gives the same", "relative", seconds=300,
        libraries=("onnx", "onnxscript", "onnxruntime"),
    ),
    "exports-torchscript": UsabilityProbe(
        "exports:to_torchscript", "a TorchScript trace gives the same", "relative", seconds=300
    ),
    "compiles": UsabilityProbe(
        "exports:compiles", "torch.compile gives the same, so many times as fast", "times",
        seconds=600,
    ),
    "quantises": UsabilityProbe(
        "exports:quantises", "int8 weights cover most of it; cosine of its features", "cosine",
        libraries=("torchao",),
    ),
    "wrong-mean": UsabilityProbe(
        "preprocessing:wrong_mean", "it matters: kNN loses accuracy without mean and deviation",
        "points", seconds=300,
    ),
    "wrong-channels": UsabilityProbe(
        "preprocessing:wrong_channels", "it matters: kNN loses accuracy with red and blue changed",
        "points", seconds=300,
    ),
    "wrong-resize": UsabilityProbe(
        "preprocessing:wrong_resize", "it matters: kNN loses accuracy where pictures are cut",
        "points", seconds=300,
    ),
}  # fmt: skip


def probe(name: str, where: str = "") -> UsabilityProbe:
    """The probe called `name`; UnknownName with the nearest otherwise."""
    if name not in PROBES:
        raise unknown(where, "probe", name, PROBES)
    return PROBES[name]
