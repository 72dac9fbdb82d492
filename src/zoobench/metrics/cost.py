"""What a backbone costs: counted exactly, and measured on this device (PROTOCOL section 4)."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.metrics import measured
from zoobench.metrics.counter import OpCount, count
from zoobench.metrics.stopwatch import (
    STEPS,
    WARMUPS,
    Timing,
    energy_meter,
    once,
    peak_memory,
    synchroniser,
    timed,
)
from zoobench.schema import Measurement

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Backbone, InputSpec

LARGEST_BATCH = {"cpu": 64, "cuda": 1024}
"""Bound of the throughput sweep."""


def example(spec: InputSpec) -> Any:
    """A raw example that fills the model's own input: noise, or more words than are read."""
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


def moved(batch: Any, device: torch.device) -> Any:
    """`batch` with every tensor on `device`."""
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(moved(value, device) for value in batch)
    return batch.to(device) if hasattr(batch, "to") else batch


def weights_bytes(module: torch.nn.Module) -> dict[str, int]:
    """dtype -> bytes of the state_dict; tensors that share storage count once."""
    totals: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    for tensor in module.state_dict().values():
        if not hasattr(tensor, "untyped_storage"):
            continue  # a module's extra state need not be a tensor
        place = (tensor.untyped_storage()._cdata, tensor.storage_offset())
        if place not in seen:
            seen.add(place)
            name = str(tensor.dtype).removeprefix("torch.")
            totals[name] += tensor.numel() * tensor.element_size()
    return dict(totals)


def count_detail(counted: OpCount) -> dict[str, Any]:
    """What stands beside every count: convention, version, attention, what is missing."""
    detail: dict[str, Any] = {
        "counter": f"zoobench {counted.version}",
        "convention": "1 MAC = 2 FLOPs",
        "attention": counted.attention,
        "lower_bound": counted.lower_bound,
        "uncounted_ops": list(counted.uncounted),
    }
    if counted.attention in ("causal", "mixed"):
        detail["causal_counted_as"] = "full"
    return detail


def static_costs(backbone: Backbone) -> tuple[Measurement, ...]:
    """params, trainable_params, weights_bytes, feature_dim, macs and flops of `embed`.

    The count is of one example that fills the model's own input, run for real where the
    module lies. Deterministic; the module is left as it was.
    """
    module = backbone.module
    place = next(iter(module.parameters()), None)
    batch = batch_of(backbone, 1)
    held = batch if place is None else moved(batch, place.device)
    counted = count(backbone.embed, (held,))
    detail = {"input_shape": shapes(batch), **count_detail(counted)}
    if (length := sequence_length(batch)) is not None:
        detail["sequence_length"] = length
    by_dtype = weights_bytes(module)
    total = sum(p.numel() for p in module.parameters())
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return (
        measured("params", float(total)),
        measured("trainable_params", float(trainable)),
        measured("weights_bytes", float(sum(by_dtype.values())), detail=by_dtype),
        measured("feature_dim", float(backbone.feature_dim)),
        measured("macs", float(counted.macs), detail=detail),
        measured("flops", float(2 * counted.macs), detail=detail),
    )


def measured_costs(
    backbone: Backbone,
    device: torch.device | str,
    seconds_budget: float = 10.0,
    baseline_rss: int | None = None,
) -> tuple[Measurement, ...]:
    """latency_ms_p50, latency_ms_p95, throughput, peak_memory_bytes, energy_joules if known.

    On CUDA: bf16 autocast, images channels-last, synchronised; the module is moved there.
    Every reported time has 10 warm-ups and 40 timed steps or more; `seconds_budget` only
    ends the search for the best batch early, and `detail["sweep_ended"]` says what did.
    `baseline_rss` is this process's RSS in bytes before the model was loaded; without it
    the CPU's peak memory is the rise over the loaded model, plus the weights' bytes.
    """
    import torch

    device = torch.device(device)
    started = time.perf_counter()
    backbone.module.to(device)
    held = moved(batch_of(backbone, 1), device)
    setting = _setting(backbone, device)
    with _inference(backbone, device):
        with peak_memory(device) as peak:
            step = _step(backbone, held, device)
            step()
            step()
        wait = synchroniser(device)
        single = timed(step, wait, seconds=min(2.0, seconds_budget / 5))
        left = seconds_budget - (time.perf_counter() - started)
        best, timing, sweep = _best_batch(backbone, device, single, left)
        energy = _energy(backbone, device, best, timing.p50)
    low, high = (1e3 * end for end in single.interval)
    latency = {**setting, "batch": 1, **single.detail()}
    brief = {k: v for k, v in latency.items() if k != "samples_ms"}
    slow, quick = (best / end for end in reversed(timing.interval))
    n = len(single.seconds)
    found = [
        measured("latency_ms_p50", 1e3 * single.p50, low=low, high=high, n=n, detail=latency),
        measured("latency_ms_p95", 1e3 * single.p95, n=n, detail=brief),
        measured(
            "throughput",
            best / timing.p50,
            low=slow,
            high=quick,
            n=len(timing.seconds),
            detail={**setting, "batch": best, **sweep, **timing.detail()},
        ),
        _memory(backbone, setting, peak, baseline_rss),
    ]
    return (*found, *energy)


def timing_of(
    backbone: Backbone, device: torch.device | str, batch: int = 1, seconds: float = 2.0
) -> tuple[Timing, dict[str, Any]]:
    """Timing of `embed` at `batch` in the settings of `measured_costs`, and those settings."""
    import torch

    device = torch.device(device)
    backbone.module.to(device)
    held = moved(batch_of(backbone, batch), device)
    with _inference(backbone, device):
        timing = timed(_step(backbone, held, device), synchroniser(device), seconds)
    return timing, {**_setting(backbone, device), "batch": batch}


def load_seconds(load: Callable[[], Backbone], times: int = 3) -> tuple[Measurement, ...]:
    """load_seconds_cold and load_seconds: the first call of `load`, the median of the next.

    Cold means this process's first load: imports, the file's first reading and whatever
    else comes once. The system's own file cache may hold the weights already.
    """
    taken = []
    for _ in range(1 + times):
        started = time.perf_counter()
        load()
        taken.append(time.perf_counter() - started)
    samples = {"samples_s": [round(t, 4) for t in taken[1:]]}
    return (
        measured("load_seconds_cold", taken[0], n=1),
        measured("load_seconds", float(np.median(taken[1:])), n=times, detail=samples),
    )


def training_costs(
    backbone: Backbone, device: torch.device | str, batch: int = 8, seconds: float = 4.0
) -> tuple[Measurement, ...]:
    """train_step_ms and train_peak_memory_bytes of all weights, SGD with momentum, at `batch`.

    A step is forward, the mean square of the features as a loss, backward, update. It
    runs on a copy: the backbone is left as it was. Raises torch.OutOfMemoryError for a
    batch that does not fit, never halves it.
    """
    import torch

    device = torch.device(device)
    twin = copy.deepcopy(backbone)
    twin.module.to(device).train().requires_grad_(True)
    held = moved(batch_of(twin, batch), device)
    optimiser = torch.optim.SGD(twin.module.parameters(), lr=1e-6, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        bf16 = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
        with torch.enable_grad(), bf16:
            loss = twin.embed(held).float().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    with peak_memory(device) as peak:
        step()
        step()
    timing = timed(step, synchroniser(device), seconds)
    setting = {**_setting(twin, device), "batch": batch}
    low, high = (1e3 * end for end in timing.interval)
    p50, n = 1e3 * timing.p50, len(timing.seconds)
    detail = {**setting, **timing.detail()}
    return (
        measured("train_step_ms", p50, low=low, high=high, n=n, detail=detail),
        dataclasses.replace(_memory(twin, setting, peak, None), metric="train_peak_memory_bytes"),
    )


def _setting(backbone: Backbone, device: torch.device) -> dict[str, Any]:
    """What must be equal for two times to be compared (PROTOCOL section 4)."""
    import torch

    parameter = next(iter(backbone.module.parameters()), None)
    stored = "float32" if parameter is None else str(parameter.dtype).removeprefix("torch.")
    cuda = device.type == "cuda"
    image = backbone.input_spec.modality == "image"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "dtype": "bfloat16 autocast" if cuda else stored,
        "layout": "channels_last" if cuda and image else "contiguous",
        "threads": torch.get_num_threads(),
    }


@contextmanager
def _inference(backbone: Backbone, device: torch.device) -> Iterator[None]:
    import torch

    if device.type != "cuda":
        with torch.inference_mode():
            yield
        return
    if backbone.input_spec.modality == "image":
        backbone.module.to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
        yield


def _step(backbone: Backbone, batch: Any, device: torch.device) -> Callable[[], Any]:
    if device.type == "cuda" and hasattr(batch, "dim") and batch.dim() == 4:
        import torch

        batch = batch.contiguous(memory_format=torch.channels_last)
    return lambda: backbone.embed(batch)


def _best_batch(
    backbone: Backbone, device: torch.device, single: Timing, left: float
) -> tuple[int, Timing, dict[str, Any]]:
    """The power-of-two batch of the highest throughput, its timing, and how the search ended.

    Three calls estimate each batch; the best one is then timed in full. The search ends
    where two doublings in a row gain under 5% (flat), at the bound, where the full timing
    would not fit what is `left` of the budget, or where memory ends. Such a batch is
    named, and nothing is halved silently: the row says which batch it is for.
    """
    import torch

    wait = synchroniser(device)
    rates = {1: 1 / single.p50}
    ended, more, batch = "bound", {}, 2
    best, flat = 1, 0
    started = time.perf_counter()
    while batch <= LARGEST_BATCH["cuda" if device.type == "cuda" else "cpu"]:
        remaining = left - (time.perf_counter() - started)
        if (WARMUPS + STEPS + 3) * batch / rates[batch // 2] > remaining:
            ended = "budget"
            break
        try:
            step = _step(backbone, moved(batch_of(backbone, batch), device), device)
            rates[batch] = batch / min(once(step, wait) for _ in range(3))
        except (torch.OutOfMemoryError, MemoryError):
            ended, more = "out of memory", {"oom_batch": batch}
            torch.cuda.empty_cache()
            break
        flat = flat + 1 if rates[batch] < 1.05 * rates[best] else 0
        if rates[batch] > rates[best]:
            best = batch
        if flat == 2:
            ended = "flat"
            break
        batch *= 2
    timing = single
    if best > 1:
        remaining = left - (time.perf_counter() - started)
        step = _step(backbone, moved(batch_of(backbone, best), device), device)
        timing = timed(step, wait, seconds=max(0.0, min(2.0, remaining)))
    sweep = {"sweep_ended": ended, **more, "sweep": {str(b): round(r, 2) for b, r in rates.items()}}
    return best, timing, sweep


def _memory(
    backbone: Backbone, setting: Mapping[str, Any], peak: Any, baseline_rss: int | None
) -> Measurement:
    """CUDA: peak allocated. CPU: peak RSS over `baseline_rss`, or its rise plus the weights."""
    detail = {"batch": 1, **setting, "how": peak.how, **peak.more}
    if setting["device"] != "cpu":
        return measured("peak_memory_bytes", float(peak.peak), detail=detail)
    weights = sum(weights_bytes(backbone.module).values())
    if baseline_rss is not None:
        value, over = max(peak.peak - baseline_rss, 0), "RSS before the model was loaded"
    else:
        value, over = peak.rise + weights, "RSS with the model loaded; its weights added"
    detail |= {"over": over, "weights_bytes": weights}
    return measured("peak_memory_bytes", float(value), detail=detail)


def _energy(
    backbone: Backbone, device: torch.device, batch: int, seconds: float
) -> tuple[Measurement, ...]:
    """Joules of one example over about a second of steps at `batch`; nothing where unknown."""
    meter = energy_meter(device)
    if meter is None:
        return ()
    read, source = meter
    step = _step(backbone, moved(batch_of(backbone, batch), device), device)
    wait = synchroniser(device)
    steps = max(STEPS, int(1 / max(seconds, 1e-6)))
    step()
    wait()
    before = read()
    for _ in range(steps):
        step()
    wait()
    used = read() - before
    if used <= 0:  # the counter wrapped round, or is too coarse to tell
        return ()
    detail = {"source": source, "batch": batch, "steps": steps}
    return (measured("energy_joules", used / (steps * batch), detail=detail),)
