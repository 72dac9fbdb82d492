"""How often would the measuring gate be wrong here? A against A (`compare --aa`)."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoobench.compare.gates import Measure
from zoobench.compare.measured import Say, Schedule, block_interval, draws, sample
from zoobench.costs.fresh_process import HERE
from zoobench.costs.interleaved import SECONDS, Block, interleaved, tried
from zoobench.errors import UserError
from zoobench.models.weights import untrained
from zoobench.quantities import duration
from zoobench.schema import Ref
from zoobench.statistics.bootstrap import Floats
from zoobench.store import Run


@dataclass(frozen=True)
class FalseAlarms:
    """What A against A came to here. Rates are shares of comparisons.

    `alarms` of `comparisons` called one side slower or faster before any confirming set;
    `rate` is the same over pseudo comparisons, which re-deal the measured blocks and swap
    their sides, and `confirmed_rate` with the confirming set. `spread` is the 99th
    percentile of the ratio of one process to another, which is what a stored time meets.
    `ratio`, `low`, `memory_bytes` are thresholds that would keep `rate` at 1% or below.
    """

    models: tuple[str, ...]
    comparisons: int
    alarms: int
    rate: float
    confirmed_rate: float
    spread: float
    ratio: float
    low: float
    memory_bytes: int


PSEUDO = 10_000
TOLERATED = 0.01
HELD = 20_000_000
"""Numbers of all pseudo comparisons' resamples that are held at one time."""
MOST = 3.0
"""The largest ratio that is tried as a threshold."""


def models_of(run: Run) -> list[Ref]:
    """The models of a run, as trained or not; controls have nothing to time. Raises UserError."""
    # Records don't say where a local model lies; the run's own suite does.
    named = [Ref.parse(name) for name in run.suite.get("models", ())]
    known = {one.private: one for ref in named for one in (ref, untrained(ref))}
    refs = [known.get(record.cell.model, record.cell.model) for record in run.records]
    timed = [untrained(ref).without("weights") for ref in refs if ref.source != "control"]
    if not timed:
        raise UserError(f"{run.path}: no model to time")
    return list(dict.fromkeys(timed))


def false_alarms(models: Sequence[Ref], comparisons: int, plan: Schedule, say: Say) -> FalseAlarms:
    """Measure A against A `comparisons` times, over `models` in turn, on this machine.

    An interruption ends it with what the whole comparisons until then say; before the
    first of them it is raised. `say` is told beforehand how long it may take.
    """
    refs = [model.with_options(weights="random").text for model in models]
    taken: dict[str, list[list[Block]]] = {}
    started = time.perf_counter()
    # A throw-away process: it fills the file cache, and finds what cannot run.
    tried(HERE, refs[0], plan.place, plan.batch, plan.timeout)
    once = 2 * (time.perf_counter() - started + SECONDS) * plan.limits.blocks
    say(
        f"{comparisons} comparisons of {2 * plan.limits.blocks} processes: about "
        f"{duration(once * comparisons)}; Ctrl-C ends with what is there"
    )
    try:
        for i in range(comparisons):
            name, ref = models[i % len(models)].text, refs[i % len(refs)]
            jobs = {"A": (HERE, ref), "B": (HERE, ref)}
            found = interleaved(jobs, plan.place, plan.limits.blocks, plan.batch, plan.timeout)
            taken.setdefault(name, []).append(found)
            ratio = sample(found).ratio
            say(f"comparison {i + 1} of {comparisons}: {name}: {ratio:.3f}")
    except KeyboardInterrupt:
        if not taken:
            raise
        say("interrupted")
    return rates(taken, plan.limits)


def rates(taken: Mapping[str, Sequence[Sequence[Block]]], limits: Measure) -> FalseAlarms:
    """The rates and suggestions from measured A/A comparisons, by model."""
    samples = [sample(blocks) for each in taken.values() for blocks in each]
    alarms = sum(s.slower(limits) or s.faster(limits) for s in samples)
    middles, lows = _pseudo(taken, limits.blocks)
    slow = (middles >= math.log(limits.ratio)) & (lows > math.log(limits.low))
    every = [
        [block[letter] for blocks in each for block in blocks for letter in "AB"]
        for each in taken.values()
    ]
    spread = [
        abs(a["p50_ms"] / b["p50_ms"]) for e in every for a, b in itertools.permutations(e, 2)
    ]
    memory = [
        max(r.get("peak_memory_bytes", 0) for r in e)
        - min(r.get("peak_memory_bytes", 0) for r in e)
        for e in every
    ]
    ratio = _quietest(middles, lows)
    rate = float(slow.mean())
    return FalseAlarms(
        models=tuple(taken),
        comparisons=len(samples),
        alarms=alarms,
        rate=rate,
        confirmed_rate=rate**2,
        spread=float(np.quantile(spread, 0.99)),
        ratio=ratio,
        low=round((1 + ratio) / 2, 3),
        memory_bytes=int(2**20 * math.ceil(2 * max(memory) / 2**20)),
    )


def _pseudo(taken: Mapping[str, Sequence[Sequence[Block]]], blocks: int) -> tuple[Floats, Floats]:
    """Medians and lower bounds of up to PSEUDO comparisons a model, their blocks dealt anew.

    Swapping a block's sides changes its sign, and under A against A nothing else.
    """
    rng = np.random.default_rng(0)
    count = min(PSEUDO, HELD // draws(blocks).size)
    found = []
    for each in taken.values():
        logs = np.array([block["log"] for found in each for block in found])
        dealt = rng.permuted(np.tile(logs, (count, 1)), axis=1)[:, :blocks]
        signs = rng.choice([-1.0, 1.0], size=dealt.shape)
        middle, low, _ = block_interval(dealt * signs)
        found.append((middle, low))
    return np.concatenate([m for m, _ in found]), np.concatenate([lo for _, lo in found])


def _quietest(middles: Floats, lows: Floats) -> float:
    """The smallest ratio, in hundredths, whose alarms with `low` halfway stay tolerable."""
    for hundredths in range(102, int(100 * MOST)):
        ratio = hundredths / 100
        alarm = (middles >= math.log(ratio)) & (lows > math.log((1 + ratio) / 2))
        if alarm.mean() <= TOLERATED:
            return ratio
    return MOST
