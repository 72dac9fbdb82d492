"""Two sides timed against each other, ABBA, in fresh processes (PROTOCOL section 4).

On a shared machine two separate timings differ by whatever else ran; interleaved ones
share it. A block is A B B A, so that a steady drift cancels; each letter is a process of
its own, so that neither inherits the other's heap, caches or threads. The sides are two
models in this environment (`ab`), or one model in two environments (analysis.compare_measure).
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoobench.errors import UserError
from zoobench.schema import Ref

ORDER = "ABBA"
_CHILD = "import sys; from zoobench.metrics.ab import child; child(*sys.argv[1:])"
LIBRARIES = ("torch", "timm", "torchvision", "transformers", "numpy")

Progress = Callable[[int, int], None]
"""Called with (processes done, of how many)."""


@dataclass(frozen=True)
class Side:
    """Where the processes of one side run: an interpreter, and the PYTHONPATH it is given.

    A `path` of None hands this process's own on; with "" the interpreter's site-packages
    are all that it sees.
    """

    name: str
    python: str = sys.executable
    path: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        own = dict(os.environ)
        if self.path is not None:
            own["PYTHONPATH"] = self.path
        return own


HERE = Side("here")


def ab(
    model_a: str,
    model_b: str,
    device: str = "cpu",
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
    runs = interleaved(jobs, device, blocks, batch, timeout, progress)
    times = [(run["model"], run["p50_ms"]) for run in runs]
    return {"a": model_a, "b": model_b, "device": device, "batch": batch, "blocks": blocks,
            **ratio(times), "runs": runs}  # fmt: skip


def interleaved(
    jobs: Mapping[str, tuple[Side, str]],
    device: str = "cpu",
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
        for place, letter in enumerate(ORDER):
            side, name = jobs[letter]
            timing = measure(side, name, device, batch, timeout)
            runs.append({"model": letter, "block": block, **timing})
            if progress is not None:
                progress(block * len(ORDER) + place + 1, blocks * len(ORDER))
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


def measure(side: Side, name: str, device: str, batch: int, timeout: float) -> dict[str, Any]:
    """One fresh process of `side`: what `child` wrote. Raises UserError where it fails."""
    # -P: the folder that the user stands in must not come before the side's own sources.
    command = [side.python, "-P", "-W", "ignore", "-c", _CHILD, name, device, str(batch)]
    where = name if side is HERE else f"{name} in {side.name}"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=side.environment
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{where}: no timing within {timeout:g} s") from None
    except OSError as error:
        raise UserError(f"{where}: {side.python}: {error.strerror}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{where}: the timing process failed: {lines[-1]}")
    try:
        timing: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise UserError(f"{where}: the timing process wrote no result") from None
    return timing


def child(name: str, device: str, batch: str) -> None:
    """In a fresh process: load, time, write one line of JSON to standard output.

    `peak_memory_bytes` is of the whole process from before the model's libraries are
    imported to the last step, over what it held before.
    """
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from zoobench import __version__, models
    from zoobench.metrics.cost import timing_of
    from zoobench.metrics.stopwatch import peak_memory

    with peak_memory(torch.device(device)) as peak:
        backbone = models.load(models.resolve(Ref.parse(name)))
        timing, setting = timing_of(backbone, device, int(batch))
    versions = {"python": sys.version.split()[0], "zoobench": __version__}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "absent"
    body = {"p50_ms": 1e3 * timing.p50, "peak_memory_bytes": peak.rise, "libraries": versions,
            **setting, **timing.detail()}  # fmt: skip
    sys.stdout.write(json.dumps(body) + "\n")
