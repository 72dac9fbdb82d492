"""Two sides timed against each other, ABBA, in fresh processes (PROTOCOL section 4).

On a shared machine two separate timings differ by whatever else ran; interleaved ones
share it. A block is A B B A, so that a steady drift cancels; each letter is a process of
its own, so that neither inherits the other's heap, caches or threads. The sides are two
models in this environment (`ab`), or one model in two environments (analysis.compare_measure).
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zoobench.errors import UserError
from zoobench.metrics import fresh
from zoobench.metrics.fresh import HERE, Side
from zoobench.metrics.measure import Place
from zoobench.schema import Ref

ORDER = "ABBA"
CPU = Place()
LIBRARIES = ("torch", "timm", "torchvision", "transformers", "numpy")

Progress = Callable[[int, int], None]
"""Called with (processes done, of how many)."""


def ab(
    model_a: str,
    model_b: str,
    place: Place = CPU,
    blocks: int = 3,
    batch: int = 1,
    timeout: float = 600.0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time of A over time of B at `batch`, with a 95% t interval over 2 x `blocks` pairs.

    A ratio below 1 means that A is faster. Weights are random: time does not depend on
    them. Raises UserError where a name is unknown or a child fails, with its last line.
    """
    from zoobench import models

    if blocks < 2:
        raise UserError(f"an interval needs at least 2 blocks of {ORDER}, not {blocks}")
    jobs = {
        letter: (HERE, str(models.resolve(Ref.parse(name).with_options(weights="random"))))
        for letter, name in (("A", model_a), ("B", model_b))
    }
    runs = interleaved(jobs, place, blocks, batch, timeout, progress)
    times = [(run["model"], run["p50_ms"]) for run in runs]
    return {
        "a": model_a,
        "b": model_b,
        **dataclasses.asdict(place),
        "batch": batch,
        "blocks": blocks,
        **ratio(times),
        "runs": runs,
    }


def interleaved(
    jobs: Mapping[str, tuple[Side, str]],
    place: Place = CPU,
    blocks: int = 3,
    batch: int = 1,
    timeout: float = 600.0,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Each process's timing, in order; `jobs` maps "A" and "B" to a side and a model's name.

    A timing has `model` (the letter), `block`, `p50_ms`, `peak_memory_bytes`, the setting and
    the samples. Raises UserError where a process fails.
    """
    runs: list[dict[str, Any]] = []
    for block in range(blocks):
        for turn, letter in enumerate(ORDER):
            side, name = jobs[letter]
            found = measure(side, name, place, batch, timeout)
            runs.append({"model": letter, "block": block, **found})
            if progress is not None:
                progress(block * len(ORDER) + turn + 1, blocks * len(ORDER))
    return runs


def pair_logs(times: Sequence[tuple[str, float]]) -> list[float]:
    """log(A / B) of neighbouring ("A" or "B", time): two a block, whose mean has no drift."""
    logs = []
    for first, second in zip(times[::2], times[1::2], strict=True):
        pair = dict([first, second])
        logs.append(math.log(pair["A"] / pair["B"]))
    return logs


def ratio(times: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Geometric mean of A over B across neighbouring pairs of ("A" or "B", time), and interval.

    `clear` is whether the interval leaves 1 out. The interval is Student's on the logarithms.
    """
    from scipy import stats

    logs = pair_logs(times)
    n, mean = len(logs), float(np.mean(logs))
    reach = float(stats.t.ppf(0.975, n - 1)) * float(np.std(logs, ddof=1)) / math.sqrt(n)
    low, high = math.exp(mean - reach), math.exp(mean + reach)
    clear = low > 1 or high < 1
    return {"ratio": math.exp(mean), "low": low, "high": high, "pairs": n, "clear": clear}


def measure(side: Side, name: str, place: Place, batch: int, timeout: float) -> dict[str, Any]:
    """One fresh process of `side`: what `timing` returned. Raises UserError where it fails."""
    arguments = {"ref": name, **dataclasses.asdict(place), "batch": batch}
    found: dict[str, Any] = fresh.call("zoobench.metrics.ab:timing", arguments, timeout, side)
    return found


def timing(ref: str, device: str, precision: str, batch: int) -> dict[str, Any]:
    """In a fresh process: load, time; milliseconds, bytes, versions and the setting.

    `peak_memory_bytes` is of the whole process from before the model's libraries are
    imported to the last step, over what it held before.
    """
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from zoobench import __version__, models
    from zoobench.metrics.measure import timing_of
    from zoobench.metrics.stopwatch import peak_memory

    with peak_memory(torch.device(device)) as peak:
        backbone = models.load(models.resolve(Ref.parse(ref)))
        found, setting = timing_of(backbone, Place(device, precision), batch)
    versions = {"python": sys.version.split()[0], "zoobench": __version__}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "absent"
    return {
        "p50_ms": 1e3 * found.p50,
        "peak_memory_bytes": peak.rise,
        "libraries": versions,
        **setting,
        **found.detail(),
    }
