"""Two sides timed against each other by turns, in fresh processes (PROTOCOL section 4).

On a shared machine two separate timings differ by whatever else ran. Measured on two busy
cores: the medians of fresh processes of one model spread by 17%, of their CPU seconds too,
and their minima by 12%: neighbours take caches and memory, not only the processor. So a block
is a fresh process a side, both alive, which take turns of a few steps in the order A B B A;
what is kept is the ratio within each round, and of a block the median round: two equal sides
spread by 2.5%. The sides are two models in this environment (`ab`), or one model in two
environments (compare/measured.py).
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np

from zoobench.costs import fresh_process
from zoobench.costs.fresh_process import HERE, Side
from zoobench.errors import UserError
from zoobench.machine import Place
from zoobench.schema import Ref

ORDER = "ABBA"
TURN = 5
"""Timed steps of a turn; one before them finds out what the other side left in the caches."""
ROUNDS = 4
"""At least: two turns a side each, so 40 timed steps a process."""
MOST_ROUNDS = 40
SECONDS = 2.0
"""Of timed steps a side, unless MOST_ROUNDS comes first or ROUNDS last longer."""
CPU = Place()
LIBRARIES = ("torch", "timm", "torchvision", "transformers", "numpy")

Progress = Callable[[int, int], None]
"""Called with (processes done, of how many)."""
Block = Mapping[str, Any]
"""`block` its number, `A` and `B` a process each, `log` that of B's time over A's. A process has
`p50_ms`, `samples_ms`, `peak_memory_bytes`, `libraries` and the setting."""


def ab(
    model_a: str,
    model_b: str,
    place: Place = CPU,
    blocks: int = 6,
    batch: int = 1,
) -> dict[str, Any]:
    """Time of A over time of B at `batch`, with a 95% t interval over `blocks`.

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
    runs = interleaved(jobs, place, blocks, batch)
    return {
        "a": model_a,
        "b": model_b,
        **dataclasses.asdict(place),
        "batch": batch,
        "blocks": blocks,
        **ratio([-block["log"] for block in runs]),
        "runs": runs,
    }


def interleaved(
    jobs: Mapping[str, tuple[Side, str]],
    place: Place = CPU,
    blocks: int = 3,
    batch: int = 1,
    timeout: float = 600.0,
    progress: Progress | None = None,
) -> list[Block]:
    """The blocks in order; `jobs` maps "A" and "B" to a side and a model's name.

    Raises UserError where a process fails, or does not answer within `timeout` seconds.
    """
    found: list[Block] = []
    for number in range(blocks):
        with ExitStack() as both:
            # Neither side is always the first to start.
            pair = {
                letter: both.enter_context(process(*jobs[letter], place, batch, timeout))
                for letter in (ORDER[:2] if number % 2 == 0 else ORDER[2:])
            }
            told = {letter: pair[letter].answer() for letter in pair}
            rounds = turns_taken(pair)
        sides = {letter: {**told[letter], **_times(rounds, letter)} for letter in sorted(pair)}
        found.append({"block": number, **sides, "log": block_log(rounds)})
        if progress is not None:
            progress(2 * (number + 1), 2 * blocks)
    return found


Round = Sequence[tuple[str, Sequence[float]]]
"""(letter, milliseconds of each step) of four turns in ORDER."""


def turns_taken(pair: Mapping[str, fresh_process.Talk]) -> list[Round]:
    """Rounds of turns of two processes that are ready."""
    rounds: list[Round] = []
    spent = 0.0
    while len(rounds) < ROUNDS or (spent < 2e3 * SECONDS and len(rounds) < MOST_ROUNDS):
        rounds.append([(letter, pair[letter].ask()) for letter in ORDER])
        spent += sum(sum(steps) for _, steps in rounds[-1])
    return rounds


def block_log(rounds: Sequence[Round]) -> float:
    """log(B / A): of a round from its turns' medians, so that a steady drift cancels; of a block
    the median round."""
    logs = []
    for taken in rounds:
        signed = [(1 if at == "B" else -1) * math.log(np.median(steps)) for at, steps in taken]
        logs.append(sum(signed) / 2)
    return float(np.median(logs))


def _times(rounds: Sequence[Round], letter: str) -> dict[str, Any]:
    samples = [ms for taken in rounds for at, steps in taken if at == letter for ms in steps]
    return {"p50_ms": float(np.median(samples)), "samples_ms": [float(f"{s:.4g}") for s in samples]}


def ratio(logs: Sequence[float]) -> dict[str, Any]:
    """The geometric mean behind the logarithms of blocks' ratios, with Student's 95% interval.

    `clear` is whether the interval leaves 1 out.
    """
    from scipy import stats

    n, mean = len(logs), float(np.mean(logs))
    reach = float(stats.t.ppf(0.975, n - 1)) * float(np.std(logs, ddof=1)) / math.sqrt(n)
    low, high = math.exp(mean - reach), math.exp(mean + reach)
    return {"ratio": math.exp(mean), "low": low, "high": high, "clear": low > 1 or high < 1}


def process(
    side: Side, name: str, place: Place, batch: int, timeout: float
) -> AbstractContextManager[fresh_process.Talk]:
    """A context: a fresh process of `side` that runs `turns`, as `fresh_process.Talk`."""
    arguments = {"ref": name, **dataclasses.asdict(place), "batch": batch}
    return fresh_process.talk("zoobench.costs.interleaved:turns", arguments, timeout, side)


def tried(side: Side, name: str, place: Place, batch: int, timeout: float) -> dict[str, Any]:
    """What a fresh process of `side` says when it is ready. Raises UserError where it fails."""
    with process(side, name, place, batch, timeout) as one:
        found: dict[str, Any] = one.answer()
    return found


def turns(
    ref: str, device: str, precision: str, batch: int
) -> Iterator[dict[str, Any] | list[float]]:
    """In a fresh process: load and warm up, then TURN steps each time it is asked.

    First the setting, the versions and `peak_memory_bytes`, of the whole process from before
    the model's libraries are imported to the last warm-up step, over what it held before.
    Then milliseconds of each step.
    """
    import torch

    from zoobench import models
    from zoobench.costs.measured import stepping
    from zoobench.costs.stopwatch import peak_memory, warm

    place = Place(device, precision)
    with peak_memory(torch.device(device)) as peak:
        backbone = models.load(models.resolve(Ref.parse(ref)))
        with stepping(backbone, place, batch) as (second, setting):
            warmups = warm(second, SECONDS)
    told = {"peak_memory_bytes": peak.rise, "libraries": _versions(), "warmups": warmups}
    yield {**told, **setting}
    with stepping(backbone, place, batch) as (second, _):
        while True:
            second()
            yield [1e3 * second() for _ in range(TURN)]


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    from zoobench import __version__

    versions = {"python": sys.version.split()[0], "zoobench": __version__}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "absent"
    return versions
