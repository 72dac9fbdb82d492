"""What a backbone costs, measured on this device (PROTOCOL section 4)."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoobench.costs.counted import batch_of, seconds_heard, weights_bytes
from zoobench.costs.stopwatch import (
    STEPS,
    WARMUPS,
    Peak,
    Timing,
    energy_meter,
    once,
    peak_memory,
    synchroniser,
    timed,
)
from zoobench.features.compiled import Compiled, Compiling, training
from zoobench.features.extraction import lay_out
from zoobench.features.incoming import to_device
from zoobench.machine import Place, device_name, out_of_memory
from zoobench.metrics import measured
from zoobench.models import graphs, variants
from zoobench.schema import Measurement

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Backbone

AUTOCAST = "autocast"
LARGEST_BATCH = {"cpu": 64, "cuda": 1024}
"""Bound of the throughput sweep."""


def measured_costs(
    backbone: Backbone,
    place: Place,
    seconds_budget: float = 10.0,
    baseline_rss: int | None = None,
    compiling: Compiling | None = None,
) -> tuple[Measurement, ...]:
    """latency_ms_p50, latency_ms_p95, throughput, peak_memory_bytes, energy_joules if known, and of
    a model of sound its real_time_factor.

    The module is moved to the device, in channels-last layout where it reads images. The
    network is timed as published: extraction may fold its batch norms and be faster. Every
    reported time has 10 warm-ups and 40 timed steps or more, each synchronised;
    `seconds_budget` only ends the search for the best batch early, and
    `detail["sweep_ended"]` says what did. `baseline_rss` is this process's RSS in bytes
    before the model was loaded; without it, and on CUDA, the peak memory is the rise over
    the loaded model, plus the weights' bytes. With `compiling` the network goes through
    torch.compile first, once for batch 1 and once for any other; what that cost, or why it
    failed and the network was timed as it is, is left there. Raises torch.OutOfMemoryError at
    batch 1 only.
    """
    backbone = _taken(backbone, place)
    device = _settle(backbone, place)
    held = _held(backbone, device, 1)
    setting = _setting(backbone, place)
    if compiling is not None:
        with _inference(place):
            backbone = _compiled(backbone, device, compiling)
        setting |= {} if compiling.failed else {"compiled": True}
        baseline_rss = None  # the compiler's own memory came since
    started = time.perf_counter()
    with _inference(place):
        step, peak = _first_steps(backbone, held, device)
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
    return (*found, *_real_time(backbone, single, brief), *energy)


def _real_time(
    backbone: Backbone, single: Timing, detail: Mapping[str, Any]
) -> tuple[Measurement, ...]:
    """Of a network that hears: the latency over the seconds of sound that fill its input."""
    if (heard := seconds_heard(backbone.input_spec)) is None:
        return ()
    low, high = (end / heard for end in single.interval)
    value, n = single.p50 / heard, len(single.seconds)
    told = {**detail, "seconds": heard}
    return (measured("real_time_factor", value, low=low, high=high, n=n, detail=told),)


@contextmanager
def stepping(
    backbone: Backbone, place: Place, batch: int = 1
) -> Iterator[tuple[Callable[[], float], dict[str, Any]]]:
    """A function that runs `embed` once at `batch` in the settings of `measured_costs` and gives
    its seconds, while the block runs; and those settings."""
    backbone = _taken(backbone, place)
    device = _settle(backbone, place)
    step, wait = _step(backbone, _held(backbone, device, batch)), synchroniser(device)
    with _inference(place):
        yield lambda: once(step, wait), {**_setting(backbone, place), "batch": batch}


def training_costs(
    backbone: Backbone,
    place: Place,
    batch: int = 8,
    seconds: float = 4.0,
    compiling: Compiling | None = None,
) -> tuple[Measurement, ...]:
    """train_step_ms and train_peak_memory_bytes of all weights, SGD with momentum, at `batch`.

    A step is forward, the mean square of the features as a loss, backward, update. It
    runs on a copy: the backbone is left as it was. Raises torch.OutOfMemoryError for a
    batch that does not fit, never halves it. `compiling` as in `measured_costs`.
    """
    import torch

    twin = copy.deepcopy(backbone)
    device = _settle(twin, place)
    twin.module.train().requires_grad_(True)
    held = _held(twin, device, batch)
    optimiser = torch.optim.SGD(twin.module.parameters(), lr=1e-6, momentum=0.9)
    # What is trained keeps its own weights: in bf16 it is so under autocast.
    place = Place(place.device, place.precision.replace("bf16", AUTOCAST))
    bf16 = torch.autocast(device.type, torch.bfloat16, enabled=place.precision == AUTOCAST)
    embed: Callable[[Any], torch.Tensor] = twin.embed
    if compiling is not None:
        texts = twin.input_spec.modality == "text"
        embed = training(embed, twin.module, [held], lambda: bf16, texts, compiling)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.enable_grad(), bf16:
            loss = embed(held).float().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    with peak_memory(device) as peak:
        step()
        step()
    timing = timed(step, synchroniser(device), seconds)
    setting = {**_setting(twin, place), "batch": batch}
    if compiling is not None and not compiling.failed:
        setting["compiled"] = True
    low, high = (1e3 * end for end in timing.interval)
    p50, n = 1e3 * timing.p50, len(timing.seconds)
    detail = {**setting, **timing.detail()}
    return (
        measured("train_step_ms", p50, low=low, high=high, n=n, detail=detail),
        dataclasses.replace(_memory(twin, setting, peak, None), metric="train_peak_memory_bytes"),
    )


def _taken(backbone: Backbone, place: Place) -> Backbone:
    """What computes in the place's precision. Raises Unsupported."""
    return variants.made(backbone, "bf16") if place.precision == "bf16" else backbone


def _settle(backbone: Backbone, place: Place) -> torch.device:
    import torch

    device = torch.device(place.device)
    lay_out(backbone, device)
    return device


def _held(backbone: Backbone, device: torch.device, n: int) -> Any:
    return to_device(batch_of(backbone, n), device)


def _setting(backbone: Backbone, place: Place) -> dict[str, Any]:
    """What must be equal for two times to be compared (PROTOCOL section 4)."""
    import torch

    parameter = next(iter(backbone.module.parameters()), None)
    stored = "float32" if parameter is None else str(parameter.dtype).removeprefix("torch.")
    cuda = place.device.startswith("cuda")
    kind = graphs.kind_of(backbone.module)
    return {
        **({"runtime": graphs.KINDS[kind].runtime} if kind else {}),
        "device": device_name(place.device) if cuda else "cpu",
        "dtype": "bfloat16 autocast" if place.precision == AUTOCAST else stored,
        "layout": "channels_last" if backbone.input_spec.modality == "image" else "contiguous",
        "threads": torch.get_num_threads(),
    }


@contextmanager
def _inference(place: Place) -> Iterator[None]:
    import torch

    device = torch.device(place.device)
    bf16 = torch.autocast(device.type, torch.bfloat16, enabled=place.precision == AUTOCAST)
    with torch.inference_mode(), bf16:
        yield


def _compiled(backbone: Backbone, device: torch.device, compiling: Compiling) -> Backbone:
    """`backbone` whose `embed` is compiled for batch 1 and, sizes symbolic, for any other."""
    own: Any = copy.copy(backbone)
    embed = Compiled(backbone.embed, True, compiling)
    object.__setattr__(own, "embed", embed)
    for batch in (1, 2):
        embed(_held(backbone, device, batch))
    found: Backbone = own
    return found


def _first_steps(backbone: Backbone, held: Any, device: torch.device) -> tuple[Any, Peak]:
    """What takes a step, and the memory of the first ones."""
    step = _step(backbone, held)
    if device.type != "cpu":
        step()  # a card's libraries take their workspaces, which are no model's
    with peak_memory(device) as peak:
        step()
        step()
    return step, peak


def _step(backbone: Backbone, batch: Any) -> Callable[[], Any]:
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
            step = _step(backbone, _held(backbone, device, batch))
            rates[batch] = batch / min(once(step, wait) for _ in range(3))
        except Exception as error:
            if not out_of_memory(error):
                raise
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
        step = _step(backbone, _held(backbone, device, best))
        timing = timed(step, wait, seconds=max(0.0, min(2.0, remaining)))
    sweep = {"sweep_ended": ended, **more, "sweep": {str(b): round(r, 2) for b, r in rates.items()}}
    return best, timing, sweep


def _memory(
    backbone: Backbone, setting: Mapping[str, Any], peak: Any, baseline_rss: int | None
) -> Measurement:
    """Peak RSS over `baseline_rss`; else, and on CUDA, the rise over the model plus its weights.

    Other models may lie on the card: what was allocated before is not this one's.
    """
    weights = sum(weights_bytes(backbone.module).values())
    detail = {"batch": 1, **setting, "how": peak.how, **peak.more, "weights_bytes": weights}
    if baseline_rss is not None and setting["device"] == "cpu":
        value = max(peak.peak - baseline_rss, 0)
        detail["over"] = "RSS before the model was loaded"
    else:
        value = peak.rise + weights
        detail["over"] = "memory with the model loaded; its weights added"
    return measured("peak_memory_bytes", float(value), detail=detail)


def _energy(
    backbone: Backbone, device: torch.device, batch: int, seconds: float
) -> tuple[Measurement, ...]:
    """Joules of one example over about a second of steps at `batch`; nothing where unknown."""
    meter = energy_meter(device)
    if meter is None:
        return ()
    read, source = meter
    step = _step(backbone, _held(backbone, device, batch))
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
