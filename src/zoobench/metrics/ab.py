"""Two models timed against each other, ABBA, in fresh processes (PROTOCOL section 4).

On a shared machine two separate timings differ by whatever else ran; interleaved ones
share it. A block is A B B A, so that a steady drift cancels; each letter is a process of
its own, so that neither inherits the other's heap, caches or threads.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zoobench.errors import UserError
from zoobench.schema import Ref

ORDER = "ABBA"
_CHILD = "import sys; from zoobench.metrics.ab import child; child(*sys.argv[1:])"


def ab(
    model_a: str,
    model_b: str,
    device: str = "cpu",
    blocks: int = 3,
    batch: int = 1,
    timeout: float = 600.0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Time of A over time of B at `batch`, with a 95% t interval over 2 x `blocks` pairs.

    A ratio below 1 means that A is faster. Weights are random: time does not depend on
    them. Raises UserError where a name is unknown or a child fails, with its last line.
    """
    from zoobench import models

    if blocks < 2:
        raise UserError(f"an interval needs at least 2 blocks of {ORDER}, not {blocks}")
    refs = {
        letter: str(models.resolve(Ref.parse(name).with_options(weights="random")))
        for letter, name in (("A", model_a), ("B", model_b))
    }
    runs: list[dict[str, Any]] = []
    for block in range(blocks):
        for place, letter in enumerate(ORDER):
            timing = _measure(refs[letter], device, batch, timeout)
            runs.append({"model": letter, "block": block, **timing})
            if progress is not None:
                progress(block * len(ORDER) + place + 1, blocks * len(ORDER))
    times = [(run["model"], run["p50_ms"]) for run in runs]
    return {"a": model_a, "b": model_b, "device": device, "batch": batch, "blocks": blocks,
            **ratio(times), "runs": runs}  # fmt: skip


def ratio(times: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Geometric mean of A over B across neighbouring pairs of ("A" or "B", time), and interval.

    `clear` is whether the interval leaves 1 out. The interval is Student's on the logarithms.
    """
    from scipy import stats

    logs = []
    for first, second in zip(times[::2], times[1::2], strict=True):
        pair = dict([first, second])
        logs.append(math.log(pair["A"] / pair["B"]))
    n, mean = len(logs), float(np.mean(logs))
    reach = float(stats.t.ppf(0.975, n - 1)) * float(np.std(logs, ddof=1)) / math.sqrt(n)
    low, high = math.exp(mean - reach), math.exp(mean + reach)
    clear = low > 1 or high < 1
    return {"ratio": math.exp(mean), "low": low, "high": high, "pairs": n, "clear": clear}


def _measure(ref: str, device: str, batch: int, timeout: float) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-c", _CHILD, ref, device, str(batch)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise UserError(f"{ref}: no timing within {timeout:g} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{ref}: the timing process failed: {lines[-1]}")
    timing: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return timing


def child(ref: str, device: str, batch: str) -> None:
    """In a fresh process: load, time, write one line of JSON to standard output."""
    from zoobench import models
    from zoobench.metrics.cost import timing_of

    timing, setting = timing_of(models.load(Ref.parse(ref)), device, int(batch))
    body = {"p50_ms": 1e3 * timing.p50, **setting, **timing.detail()}
    sys.stdout.write(json.dumps(body) + "\n")
