"""Probes of whether other runtimes take the network, and say the same: each exports what `embed`
computes of a batch, runs it there, and compares."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import machine
from zoobench.errors import UserError, one_line
from zoobench.models import graphs, onnx_session
from zoobench.models.variants.int8 import quiet
from zoobench.usability import ProbeResult
from zoobench.usability.subject import Subject, apart

if TYPE_CHECKING:
    import torch

CLOSE = 1e-3
"""Relative distance that another runtime's float32 may come to."""
COVERED = 0.5
"""Least share of the parameters that is worth the name of a quantised network."""
ALIKE = 0.99
"""Least cosine of features before and after."""
TURNS = 20


def of_torch(probe: Callable[[Subject], ProbeResult]) -> Callable[[Subject], ProbeResult]:
    """`probe`, which is answered no for a graph of another library: torch sees one step of it,
    and a trace would keep what that gave of one batch."""

    @wraps(probe)
    def asked(subject: Subject) -> ProbeResult:
        if kind := graphs.kind_of(subject.backbone.module):
            what = f"it is a graph of {graphs.KINDS[kind].title}, which torch does not look into"
            return ProbeResult("no", what)
        return probe(subject)

    return asked


@of_torch
def to_torch(subject: Subject) -> ProbeResult:
    import torch

    network, inputs = _network(subject)
    with quiet():
        program: Any = torch.export.export(network, inputs).module()
        return _compared(subject, lambda: program(*inputs), "torch.export")


def to_onnx(subject: Subject) -> ProbeResult:
    lacking = [n for n in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(n)]
    if lacking:
        what = f"needs {', '.join(lacking)}: pip install 'zoobench[onnx]'"
        return ProbeResult("unknown", what)
    if kind := graphs.kind_of(subject.backbone.module):
        if kind == onnx_session.KIND:
            return ProbeResult("yes", "it is a graph of ONNX, run by ONNX Runtime", 0.0)
        return ProbeResult("no", f"it is a graph of {graphs.KINDS[kind].title}")
    import torch

    network, inputs = _network(subject)
    with tempfile.TemporaryDirectory(prefix="zoobench-") as folder, quiet():
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(network, inputs, path, dynamo=True, verbose=False)
        except torch.onnx.OnnxExporterError as error:
            raise error.__cause__ or error from None  # it says where, and its cause what
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        fed = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
        return _compared(
            subject, lambda: torch.from_numpy(session.run(None, fed)[0]), "ONNX Runtime"
        )


@of_torch
def to_torchscript(subject: Subject) -> ProbeResult:
    """By tracing; TorchScript is deprecated, and asked for by what was built on it."""
    import torch

    network, inputs = _network(subject)
    with quiet():
        traced: Any = torch.jit.trace(network, inputs)  # type: ignore[no-untyped-call]
        return _compared(subject, lambda: traced(*inputs), "TorchScript")


@of_torch
def compiles(subject: Subject) -> ProbeResult:
    """The gain is the ratio of two medians, measured in turns."""
    import torch

    try:
        machine.check_compiler("cpu", "compiles")
    except UserError as error:
        return ProbeResult("unknown", one_line(error))
    network, inputs = _network(subject)
    started = time.perf_counter()
    compiled: Any = torch.compile(network)
    with quiet(), torch.no_grad():
        compiled(*inputs)
        seconds = time.perf_counter() - started
        found = _compared(subject, lambda: compiled(*inputs), "torch.compile")
        if found.answer != "yes":
            return found
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(TURNS):
            for side, one in zip(times, (network, compiled), strict=True):
                began = time.perf_counter()
                one(*inputs)
                side.append(time.perf_counter() - began)
    gain = sorted(times[0])[TURNS // 2] / sorted(times[1])[TURNS // 2]
    return ProbeResult("yes", f"{found.why}; compiled in {seconds:.0f} s", gain)


@of_torch
def quantises(subject: Subject) -> ProbeResult:
    """int8 weights of linear layers, a scale for each row, by torchao."""
    if importlib.util.find_spec("torchao") is None:
        return ProbeResult("unknown", "needs torchao: pip install 'zoobench[compression]'")
    import torch

    module, batch = subject.backbone.module, subject.batch()
    before = subject.features(batch)
    total = sum(p.numel() for p in module.parameters())
    inside = [m for m in module.modules() if isinstance(m, torch.nn.Linear)]
    share = sum(m.weight.numel() for m in inside) / max(1, total)
    if share < COVERED:
        return ProbeResult("no", f"linear layers hold {share:.0%} of its parameters", None)
    with quiet():
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(module, Int8WeightOnlyConfig())
        after = subject.features(batch)
    cosine = float(torch.nn.functional.cosine_similarity(before, after).min())
    said = f"int8 weights cover {share:.0%}, cosine of features at least {cosine:.4f}"
    return ProbeResult("yes" if cosine >= ALIKE else "no", said, cosine)


def _network(subject: Subject) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """What `embed` computes as a module of plain tensors, and a batch for it."""
    import torch

    backbone = subject.backbone
    batch = _batch(subject)
    names = sorted(batch) if isinstance(batch, Mapping) else []

    class Embedding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = backbone.module

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            return backbone.embed(dict(zip(names, given, strict=True)) if names else given[0])

    inputs = tuple(batch[name] for name in names) if names else (batch,)
    return Embedding().eval(), inputs


def _batch(subject: Subject) -> Any:
    """Two examples, or one recording: of several their lengths decide what is computed."""
    return subject.batch((0,) if subject.backbone.input_spec.modality == "audio" else (0, 1))


def _compared(subject: Subject, run: Callable[[], torch.Tensor], what: str) -> ProbeResult:
    import torch

    expected = subject.features(_batch(subject))
    with torch.no_grad():
        value = apart(expected, run().float())
    if value == float("inf"):
        return ProbeResult("no", f"{what} gives no numbers, or another shape")
    return ProbeResult("yes" if value <= CLOSE else "no", f"{what} is off by {value:.1e}", value)
