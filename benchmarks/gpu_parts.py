"""Parts of bench_gpu.py that decide what is worth building: how long a card idles, what recorded
graphs and larger products would gain, the probes, and a whole suite as the sum of its parts."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_clock import Bench

LAMBDAS = 8
"""Penalties whose products are taken in one."""
RECORDED = (1, 8)
"""Parts of a batch whose recorded graph is replayed: the batch, and one that is bound by launching
its kernels."""
RANDOM = "weights=random"
SUITE = Path(__file__).with_name("vision.toml")
SUITE_PICTURES = 10_000
ALIKE = {"hf/facebook/dinov2-small": "timm/vit_small_patch14_dinov2?input_size=224"}
"""A model whose architecture the hub would have to tell, and one that has it."""


def idle_share(intervals: Iterable[tuple[float, float]], wall: float) -> float:
    """Of `wall` what none of `intervals` (start, end) covers; they may overlap, in any order, and
    are of one unit."""
    busy, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        if end > reached:
            busy += end - max(start, reached)
            reached = end
    return max(0.0, 1.0 - busy / wall)


def idle(bench: Bench, call: Callable[[], Any]) -> float | dict[str, str]:
    """The share of the seconds of `call` in which no kernel ran, as torch's profiler saw them; on
    the CPU no operation. It is above what an undisturbed `call` has: profiling takes time."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    cuda = bench.device.type == "cuda"
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    copies = ("Memcpy", "Memset")
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    try:
        with profile(activities=[activity], acc_events=True) as profiler:
            seconds = bench.seconds(call)
        spans = [
            (event.time_range.start, event.time_range.end)
            for event in profiler.events() or ()
            if event.device_type == kind and not event.name.startswith(copies)
        ]
    except Exception as error:  # noqa: BLE001  a profiler that cannot be had costs its number alone
        return said(error)
    return idle_share(spans, 1e6 * seconds)


def recorded(bench: Bench, embed: Callable[[Any], Any], batch: Any) -> dict[str, Any] | None:
    """Batch -> the seconds of `embed` over those of its recorded CUDA graph. None where there are
    no such graphs; `error` where it cannot be recorded."""
    if bench.device.type != "cuda":
        return None
    import torch

    found: dict[str, Any] = {}
    stream = torch.cuda.current_stream(bench.device)
    try:
        for part in RECORDED:
            size = max(1, bench.sizes.batch // part)
            some = (
                {name: one[:size] for name, one in batch.items()}
                if isinstance(batch, dict)
                else batch[:size]
            )
            found[str(size)] = replayed(bench, lambda some=some: embed(some))
    except Exception as error:  # noqa: BLE001  of a network that waits for the host, for one
        found |= said(error)
        torch.cuda.set_stream(stream)  # a recording that fails leaves its own
    return found


def replayed(bench: Bench, call: Callable[[], Any]) -> float:
    """Seconds of `call` over those of its recorded graph."""
    import torch

    device = bench.device
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(beside):  # what is done once must not be recorded
        for _ in range(3):
            call()
    torch.cuda.current_stream(device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    eager, again = bench.turns(call, graph.replay)
    return eager / again


def said(error: BaseException) -> dict[str, str]:
    return {"error": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}


def attempted(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `part` gives, or its `error`: the parts after it are measured all the same."""
    try:
        return part()
    except Exception as error:  # noqa: BLE001  a card may be there once, and for minutes
        return said(error)


def rows_of(bench: Bench, n: int, d: int, c: int) -> tuple[Any, Any]:
    """(N, D) float32 and their (N,) labels of C classes, on the device."""
    import torch

    drawn = torch.Generator().manual_seed(0)
    centres = torch.randn(c, d, generator=drawn)
    labels = torch.randint(0, c, (n,), generator=drawn)
    rows = torch.randn(n, d, generator=drawn) * 4 + centres[labels]
    return rows.to(bench.device), labels.to(bench.device)


def probes(bench: Bench) -> dict[str, float]:
    """Seconds of the linear probe's whole path and of ridge regression's, and the gap that the
    former is certified to."""
    import torch

    from zoobench.solvers.grid import grid
    from zoobench.solvers.logistic import logistic_path
    from zoobench.solvers.ridge import ridge_path

    n, d, c = bench.sizes.probe
    rows, labels = rows_of(bench, n + n // 5, d, c)
    train, own = rows[:n], labels[:n]
    hot = torch.nn.functional.one_hot(own, c)
    found: list[Any] = []
    return {
        "logistic_seconds": bench.seconds(
            lambda: found.append(logistic_path(train, own, rows[n:], labels[n:], c))
        ),
        "ridge_seconds": bench.seconds(lambda: ridge_path(train, hot, grid(45, 11.0))),
        "relative_gap": found[0].refit.certificate.relative_gap,
    }


def products(bench: Bench) -> dict[str, float]:
    """Of the probe's products for LAMBDAS penalties, the seconds one after the other over those of
    all in one: at most this could be gained by solving penalties side by side, which then know
    nothing of each other's solutions.

    N rows of D features, C classes: scores T X^t of weights T (C, D), gradients P X of residuals
    P (C, N).
    """
    import torch

    n, d, c = bench.sizes.probe
    rows = torch.randn(n, d, device=bench.device)
    weights = torch.randn(LAMBDAS, c, d, device=bench.device)
    residuals = torch.randn(LAMBDAS, c, n, device=bench.device)
    found: dict[str, float] = {"lambdas": LAMBDAS}
    for name, many, other in (("scores", weights, rows.t()), ("gradients", residuals, rows)):
        whole = many.reshape(LAMBDAS * c, -1)
        apart, together = bench.turns(
            lambda many=many, other=other: [one @ other for one in many],
            lambda whole=whole, other=other: whole @ other,
        )
        found |= {f"{name}_seconds": apart, f"{name}_ratio": apart / together}
    return found


def architecture(ref: str) -> str:
    """What is measured with random weights in the place of `ref`: its name without the tag of its
    weights."""
    if ref in ALIKE:
        return ALIKE[ref]
    name, _, options = ref.partition("?")
    bare = name.partition(".")[0]
    return f"{bare}?{options}" if options else bare


def suite_models() -> tuple[str, ...]:
    with SUITE.open("rb") as file:
        return tuple(tomllib.load(file)["models"])


def suite(
    bench: Bench, refs: Sequence[str], networks: Sequence[Mapping[str, Any]],
    rate: Callable[[str], float],
) -> dict[str, Any]:  # fmt: skip
    """Seconds of the suite `vision` on SUITE_PICTURES pictures: features of each of `refs` at its
    bare forward's `rate` times the least share that extraction reached of it, a linear probe and
    kNN each, and all pictures decoded once. Loading the weights is left out."""
    rates = {row["ref"][: -len(RANDOM) - 1]: row["bare"] for row in networks}
    rows = []
    for ref in refs:
        measured = architecture(ref)
        if measured not in rates:
            joint = "&" if "?" in measured else "?"
            rates[measured] = rate(f"{measured}{joint}{RANDOM}")
        rows.append({"ref": ref, "measured": measured, "bare": rates[measured]})
    pictures = [row for row in networks if "pixels" in row]
    share = min(1.0, *(row["pixels"] / row["bare"] for row in pictures))
    probe, neighbours = methods(bench)
    found = {
        "decode_seconds": SUITE_PICTURES / max(row["jpeg"] for row in pictures),
        "features_seconds": sum(SUITE_PICTURES / (row["bare"] * share) for row in rows),
        "probe_seconds": probe * len(rows),
        "knn_seconds": neighbours * len(rows),
    }
    return {"models": rows, "share": share, **found, "seconds": sum(found.values())}


def methods(bench: Bench) -> tuple[float, float]:
    """Seconds of a linear probe and of kNN on SUITE_PICTURES pictures, a fifth of them valid and
    as many test, with as many features and classes as the large probe has."""
    from zoobench.methods.knn import Knn
    from zoobench.solvers.knn import knn_log_probs
    from zoobench.solvers.logistic import logistic_path

    n, (_, d, c) = min(SUITE_PICTURES, bench.sizes.probe[0]), bench.sizes.probe
    rows, labels = rows_of(bench, n + n // 5, d, c)
    k = 4 * n // 5
    train, own, valid, truth = rows[:k], labels[:k], rows[k:n], labels[k:n]
    return (
        bench.seconds(lambda: logistic_path(train, own, valid, truth, c)),
        bench.seconds(lambda: knn_log_probs(train, own, rows[k:], c, Knn().k)),
    )
