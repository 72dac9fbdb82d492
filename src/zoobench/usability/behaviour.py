"""Probes of what a network does: the same for the same input, for other sizes, and in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoobench.costs.stopwatch import peak_memory
from zoobench.errors import one_line
from zoobench.usability import ProbeResult
from zoobench.usability.subject import Subject, apart

if TYPE_CHECKING:
    import torch

EXACT = 0.0
ROUNDED = 1e-4
"""Relative distance that float32 may come to where sums are taken in another order."""
SIZES = (0.75, 1.25, 1.5)
"""Sides of a picture, of the model's own, rounded to 32 pixels."""


def _same(one: torch.Tensor, other: torch.Tensor, bound: float, what: str) -> ProbeResult:
    value = apart(one, other)
    if value == float("inf"):
        return ProbeResult("no", f"{what}: features are no numbers, or of another shape")
    return ProbeResult("yes" if value <= bound else "no", f"{what}: {value:.1e} apart", value)


def deterministic(subject: Subject) -> ProbeResult:
    batch = subject.batch()
    return _same(subject.features(batch), subject.features(batch), EXACT, "twice the same batch")


def stateless(subject: Subject) -> ProbeResult:
    """The same batch again, after others."""
    first, other = subject.batch((0, 1)), subject.batch((2, 3))
    before = subject.features(first)
    for _ in range(3):
        subject.features(other)
    return _same(before, subject.features(first), EXACT, "after three other batches")


def thread_invariant(subject: Subject) -> ProbeResult:
    import torch

    batch, threads = subject.batch(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = subject.features(batch)
        torch.set_num_threads(max(2, threads))
        return _same(alone, subject.features(batch), ROUNDED, f"1 thread and {max(2, threads)}")
    finally:
        torch.set_num_threads(threads)


def batch_invariant(subject: Subject) -> ProbeResult:
    import torch

    alone = torch.cat([subject.features(subject.batch((row,))) for row in range(4)])
    together = subject.features(subject.batch())
    return _same(alone, together, ROUNDED, "alone and in a batch of 4")


def order_invariant(subject: Subject) -> ProbeResult:
    turned = subject.features(subject.batch((3, 2, 1, 0))).flip(0)
    return _same(subject.features(subject.batch()), turned, ROUNDED, "the batch turned round")


def other_sizes(subject: Subject) -> ProbeResult:
    """Pictures alone: texts and recordings are of any length up to the model's own."""
    import torch

    spec = subject.backbone.input_spec
    size = spec.size
    if size is None:
        most = f"recordings of up to {(spec.length or 0) / spec.rate:g} s" if spec.rate else ""
        return ProbeResult("yes", most or f"texts of up to {spec.length} tokens", 1.0)
    batch: torch.Tensor = subject.batch((0, 1))
    tried = [tuple(max(32, round(side * by / 32) * 32) for side in size[1:]) for by in SIZES]
    taken: list[str] = []
    why = ""
    for height, width in tried:
        resized = torch.nn.functional.interpolate(batch, (height, width), mode="bilinear")
        try:
            found = subject.features(resized)
            if found.shape[1] == subject.backbone.feature_dim and bool(torch.isfinite(found).all()):
                taken.append(f"{height} x {width}")
                continue
            why = "other features than of its own size"
        except Exception as error:  # noqa: BLE001 - whatever a network raises for a size
            why = one_line(error)
    said = f"takes {', '.join(taken) or 'none of ' + str(len(tried))}" + (f"; {why}" if why else "")
    return ProbeResult("yes" if len(taken) == len(tried) else "no", said, len(taken) / len(tried))


def differentiable(subject: Subject) -> ProbeResult:
    """Parameters that are zero all over are given small values for this, and are put back: what a
    branch that begins at nothing would multiply its gradient by is no fault of the network. What
    it holds fixed itself, such as Whisper's positions, which are sines, is asked for no gradient.
    """
    import torch

    module = subject.backbone.module
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    blank = [p for p in named.values() if not bool(p.detach().any())]
    with torch.no_grad():
        for p in blank:
            p.copy_(0.1 * _wave(p.numel(), p).reshape(p.shape))
    try:
        without = _without_gradient(subject)
    finally:
        with torch.no_grad():
            for p in blank:
                p.zero_()
    reached = sum(p.numel() for n, p in named.items() if n not in set(without))
    share = reached / max(1, sum(p.numel() for p in named.values()))
    if not without:
        return ProbeResult("yes", f"all {len(named)} parameters", 1.0)
    first = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
    return ProbeResult("no", f"{len(without)} of {len(named)} without one: {first}", share)


def _without_gradient(subject: Subject) -> list[str]:
    """Names of the parameters that no gradient of the features reaches."""
    module = subject.backbone.module
    module.train()
    module.eval()  # so what a network kept without gradients, for inference alone, is dropped
    module.zero_grad(set_to_none=True)
    features = subject.backbone.embed(subject.batch((0, 1)))
    # Squares with signs: a plain sum of normalised features has no gradient.
    (features * _wave(features.shape[1], features)).sum().backward()  # type: ignore[no-untyped-call]
    without = [
        name
        for name, p in module.named_parameters()
        if p.requires_grad and (p.grad is None or not bool((p.grad != 0).any()))
    ]
    module.zero_grad(set_to_none=True)
    return without


def _wave(count: int, like: torch.Tensor) -> torch.Tensor:
    """(count,) values of both signs, the same everywhere, none of them zero."""
    return like.detach().new_tensor(range(1, count + 1)).sin()


def trains(subject: Subject) -> ProbeResult:
    """One step of AdamW on 8 examples; its memory over that of the loaded model."""
    import torch

    module = subject.backbone.module
    batch: Any = subject.batch((0, 1, 2, 3, 0, 1, 2, 3))
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5)
    with peak_memory(torch.device("cpu")) as peak:
        loss = subject.backbone.embed(batch).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if not bool(torch.isfinite(loss)):
        return ProbeResult("no", "its loss is no number in training mode")
    return ProbeResult("yes", "over the loaded model", float(max(peak.peak - peak.before, 0)))
