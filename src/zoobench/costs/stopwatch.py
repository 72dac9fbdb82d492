"""Times and memory of a callable on this device (PROTOCOL section 4)."""

from __future__ import annotations

import ctypes
import gc
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

WARMUPS = 10
STEPS = 40
MAX_WARMUPS = 50
MAX_STEPS = 400
RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
"""Joules of processor package 0 since some time, in millionths."""
NOISY = 0.15
"""A run whose interquartile range is over this share of its median is noisy."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each timed step, in order, and how they were taken."""

    seconds: tuple[float, ...]
    warmups: int
    repeated: bool = False

    @property
    def p50(self) -> float:
        return float(np.median(self.seconds))

    @property
    def p95(self) -> float:
        return float(np.quantile(self.seconds, 0.95))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the median by order statistics; no distribution is assumed."""
        ordered, n = sorted(self.seconds), len(self.seconds)
        reach = 0.98 * n**0.5
        low, high = int(n / 2 - reach), int(np.ceil(n / 2 + reach))
        return ordered[max(low, 0)], ordered[min(high, n - 1)]

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        q1, q3 = np.quantile(self.seconds, [0.25, 0.75])
        return float((q3 - q1) / self.p50) if self.p50 else 0.0

    @property
    def noisy(self) -> bool:
        return self.spread > NOISY

    def detail(self) -> dict[str, Any]:
        """For a record: milliseconds of every step to 4 digits, warm-ups, noise."""
        return {
            "samples_ms": [float(f"{1e3 * s:.4g}") for s in self.seconds],
            "warmups": self.warmups,
            "spread": round(self.spread, 4),
            "repeated": self.repeated,
            "noisy": self.noisy,
        }


def synchroniser(device: torch.device) -> Callable[[], None]:
    """Waits until all work queued on `device` is done."""
    if device.type == "cuda":
        import torch

        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def timed(step: Callable[[], object], wait: Callable[[], None], seconds: float = 2.0) -> Timing:
    """At least 10 warm-ups until two fives agree, then 40 steps or `seconds`, whichever is more.

    A noisy run is repeated once and the calmer of the two is kept; it may still be noisy.
    """
    first = _run(step, wait, seconds)
    if not first.noisy:
        return first
    second = _run(step, wait, seconds)
    calmer = min(first, second, key=lambda run: run.spread)
    return Timing(calmer.seconds, calmer.warmups, repeated=True)


def _run(step: Callable[[], object], wait: Callable[[], None], seconds: float) -> Timing:
    warmups = warm(lambda: once(step, wait), seconds)
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < STEPS or (
        len(taken) < MAX_STEPS and time.perf_counter() - started < seconds
    ):
        taken.append(once(step, wait))
    return Timing(tuple(taken), warmups)


def warm(second: Callable[[], float], seconds: float) -> int:
    """Steps until two fives agree, at least 10 and at most 50. `second` gives one's seconds."""
    taken: list[float] = []
    while len(taken) < WARMUPS or (len(taken) < MAX_WARMUPS and not _steady(taken, seconds)):
        taken.append(second())
    return len(taken)


def _steady(warm: list[float], seconds: float) -> bool:
    """The last five agree with the five before to 5%, or the warm-up has had its time."""
    last, before = np.median(warm[-5:]), np.median(warm[-10:-5])
    return bool(abs(last - before) <= 0.05 * before) or sum(warm) > seconds


def once(step: Callable[[], object], wait: Callable[[], None]) -> float:
    """Seconds of one synchronised call."""
    wait()
    started = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - started


@dataclass
class Peak:
    """Filled when the block ends: `peak` and `before` in bytes; `how` it was watched."""

    before: int = 0
    peak: int = 0
    how: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def rise(self) -> int:
        return max(self.peak - self.before, 0)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Peak of `device` memory while the block runs; on the CPU this process's own RSS."""
    found = Peak()
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        found.before, found.how = torch.cuda.memory_allocated(device), "cuda allocator"
        yield found
        torch.cuda.synchronize(device)
        found.peak = torch.cuda.max_memory_allocated(device)
        found.more = {"reserved_bytes": torch.cuda.max_memory_reserved(device)}
        return
    _give_back()
    found.before = _resident()
    if _reset_high_water():
        found.how = "VmHWM, reset before"
        yield found
        found.peak = _high_water()
        return
    with _Sampler() as sampler:
        yield found
    found.peak, found.how = max(sampler.highest, _resident()), "RSS sampled every 2 ms"


def _give_back() -> None:
    """Freed blocks go back to the system, else an earlier peak hides this one."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)


def resident() -> int:
    """This process's RSS in bytes, after freed blocks have gone back to the system."""
    _give_back()
    return _resident()


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _reset_high_water() -> bool:
    """Linux: writing 5 to clear_refs sets VmHWM to the present RSS (proc(5))."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _high_water() > 0
    except OSError:
        return False


def _high_water() -> int:
    """Bytes; 0 where the system does not say."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class _Sampler:
    """Highest RSS seen by a thread; misses peaks shorter than its interval."""

    def __init__(self) -> None:
        self.highest = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._end.wait(0.002):
            self.highest = max(self.highest, _resident())

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def energy_meter(device: torch.device) -> tuple[Callable[[], float], str] | None:
    """A reader of joules used so far and its source, or None where the hardware gives none.

    CUDA: NVML's counter of the whole board. CPU: RAPL's counter of package 0, where it may
    be read; both count whatever else runs there. RAPL's wraps round after some minutes at the
    earliest: who measures for longer asks now and then.
    """
    if device.type == "cuda":
        return _nvml(device)
    counter = RAPL
    try:
        last = int(counter.read_text())
    except OSError:
        return None
    try:
        whole = int(counter.with_name("max_energy_range_uj").read_text())
    except (OSError, ValueError):
        whole = 0
    turned = 0

    def joules() -> float:
        """Since the counter stood at 0, as far as it was seen to wrap round."""
        nonlocal last, turned
        now = int(counter.read_text())
        turned += whole if now < last else 0
        last = now
        return (turned + now) / 1e6

    return joules, "rapl package 0"


def _nvml(device: torch.device) -> tuple[Callable[[], float], str] | None:
    import torch

    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)  # boards before Volta have none
    except (nvml.NVMLError, AttributeError):
        return None
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, "nvml"
