"""The gate for time and memory: both sides measured at one time (`compare --measure`).

Stored times were taken on another day, with other neighbours. Here a block is a fresh process
of base (A) and one of head (B) that take turns (costs/interleaved.py), so that drift cancels within
a block, and the blocks are what is resampled. A regression must be certain, large, and found
twice:

    the interval of the median block's ratio lies above `low`,
    the ratio is `ratio` or more, and the change in milliseconds `floor_ms` or more,
    and another set of blocks, measured only then, says the same.

An interval of few blocks is short: of three it is their range, which covers the true median
three times in four. The other conditions are there for that; compare/false_alarms.py measures
what they come to on a machine.
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoobench.compare.gates import Measure
from zoobench.compare.verdicts import Comparison, Finding, NewCell
from zoobench.costs.fresh_process import Side
from zoobench.costs.interleaved import CPU, Block, interleaved, tried
from zoobench.errors import UserError
from zoobench.machine import Place
from zoobench.schema import Cell, Outcome, Ref
from zoobench.statistics.bootstrap import Floats

Told = Mapping[str, Any]
"""What a process says when it is ready."""
Say = Callable[[str], None]

SETTING = ("device", "dtype", "layout", "threads", "batch")
RESAMPLES = 2_000
EVERY_DRAW = 3_125
"""Up to 5 blocks all resamples are counted: no luck is in the interval."""
NO_DATASET = Ref("none", "none")


@dataclass(frozen=True)
class Schedule:
    """How to measure; `timeout` in seconds a process."""

    limits: Measure
    place: Place = CPU
    batch: int = 1
    timeout: float = 600.0


@dataclass(frozen=True)
class Timed:
    """One model's blocks: ratios are of head over base, times in ms, memory in bytes."""

    ratio: float
    low: float
    high: float
    base_ms: float
    head_ms: float
    base_bytes: float
    head_bytes: float

    def slower(self, limits: Measure) -> bool:
        certain = self.low > limits.low and self.ratio >= limits.ratio
        return certain and self.head_ms - self.base_ms >= limits.floor_ms

    def faster(self, limits: Measure) -> bool:
        certain = self.high < 1 / limits.low and self.ratio <= 1 / limits.ratio
        return certain and self.base_ms - self.head_ms >= limits.floor_ms

    def larger(self, limits: Measure) -> bool:
        return _above(self.base_bytes, self.head_bytes, limits)

    def smaller(self, limits: Measure) -> bool:
        return _above(self.head_bytes, self.base_bytes, limits)


def _above(old: float, new: float, limits: Measure) -> bool:
    return new > limits.memory_ratio * old and new - old > limits.memory_bytes


@lru_cache(maxsize=8)
def draws(blocks: int) -> NDArray[np.intp]:
    """(R, K) indices of resamples of K blocks: every one, or RESAMPLES of them."""
    if blocks**blocks <= EVERY_DRAW:
        return np.array(list(itertools.product(range(blocks), repeat=blocks)), dtype=np.intp)
    return np.random.default_rng(0).integers(0, blocks, size=(RESAMPLES, blocks))


def block_interval(logs: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """(median, low, high) of (..., K) block log-ratios by the block bootstrap, 95%."""
    values = np.asarray(logs, dtype=np.float64)
    medians = np.median(values[..., draws(values.shape[-1])], axis=-1)
    low, high = np.quantile(medians, [0.025, 0.975], axis=-1)
    return np.median(values, axis=-1), low, high


def sample(blocks: Sequence[Block]) -> Timed:
    """What the blocks of one set come to."""

    def middle(letter: str, name: str) -> float:
        return float(np.median([block[letter].get(name, math.nan) for block in blocks]))

    logs = [block["log"] for block in blocks]
    ratio, low, high = (math.exp(float(v)) for v in block_interval(logs))
    times = middle("A", "p50_ms"), middle("B", "p50_ms")
    memory = middle("A", "peak_memory_bytes"), middle("B", "peak_memory_bytes")
    return Timed(ratio, low, high, *times, *memory)


def measured(
    models: Sequence[Ref],
    base: Side,
    head: Side,
    plan: Schedule,
    strict: bool = False,
    say: Say = lambda text: None,
) -> Comparison:
    """Measure every model of `models` (random weights) on both sides and decide.

    A model that only the base can run is missing; one that neither can, incomparable.
    """
    findings: list[Finding] = []
    new: list[NewCell] = []
    notes: list[str] = []
    for model in models:
        ref = model.with_options(weights="random").text
        cell = Cell(model, NO_DATASET, "measure")
        # A throw-away process a side: it fills the file cache, and finds what cannot run.
        ready = [_try(side, ref, plan) for side in (base, head)]
        say(f"{model}: both sides were tried")
        failed = [found if isinstance(found, UserError) else None for found in ready]
        if failed[1] is not None:
            outcome: Outcome = "missing" if failed[0] is None else "incomparable"
            findings.append(Finding(cell, "", None, None, outcome, str(failed[1]), kind="measured"))
        elif failed[0] is not None:
            new.append(NewCell(cell, "ok", message=f"not in the base: {failed[0]}"))
        else:
            before, after = (found for found in ready if isinstance(found, dict))
            notes += [n for n in [libraries(before, after, base, head)] if n and n not in notes]
            try:
                findings += _one(cell, ref, (base, head), (before, after), plan, say)
            except UserError as error:  # alone each side ran: both at once may need too much
                findings.append(
                    Finding(cell, "", None, None, "incomparable", str(error), kind="measured")
                )
    return Comparison(
        suite="measure",
        baseline=base.name,
        candidate=head.name,
        findings=tuple(sorted(findings, key=lambda f: (not f.failing, f.outcome, f.name))),
        new=tuple(new),
        notes=tuple(notes),
        strict=strict,
    )


def _try(side: Side, ref: str, plan: Schedule) -> dict[str, Any] | UserError:
    try:
        return tried(side, ref, plan.place, plan.batch, plan.timeout)
    except UserError as error:
        return error


def libraries(before: Told, after: Told, base: Side, head: Side) -> str:
    """One line on the versions that differ, or ""."""
    old, new = before.get("libraries", {}), after.get("libraries", {})
    told = [f"{n} {old.get(n)} -> {new[n]}" for n in new if old.get(n) != new[n]]
    return f"{base.name} -> {head.name}: {', '.join(told)}" if told else ""


def _one(
    cell: Cell,
    ref: str,
    sides: tuple[Side, Side],
    told: tuple[Told, Told],
    plan: Schedule,
    say: Say,
) -> list[Finding]:
    apart = [
        f"{n} {told[0].get(n)} -> {told[1].get(n)}"
        for n in SETTING
        if told[0].get(n) != told[1].get(n)
    ]
    if apart:
        why = ", ".join(apart)
        return [Finding(cell, "latency_ms_p50", None, None, "incomparable", why, kind="measured")]
    jobs = {"A": (sides[0], ref), "B": (sides[1], ref)}

    def take() -> Timed:
        def progress(done: int, of: int) -> None:
            say(f"{cell.model}: {done} of {of} processes")

        blocks = plan.limits.blocks
        return sample(interleaved(jobs, plan.place, blocks, plan.batch, plan.timeout, progress))

    return decide(cell, take, plan.limits)


def decide(cell: Cell, take: Callable[[], Timed], limits: Measure) -> list[Finding]:
    """Time's and memory's findings. `take` measures; it is called again to confirm an alarm."""
    first = take()
    again = take() if first.slower(limits) or first.larger(limits) else None
    return [_time(cell, first, again, limits), *_memory(cell, first, again, limits)]


def _time(cell: Cell, one: Timed, again: Timed | None, limits: Measure) -> Finding:
    blocks = f"{limits.blocks} blocks"
    why = f"{one.ratio:.3f} times base's, 95% interval {one.low:.3f} to {one.high:.3f} ({blocks})"
    outcome: Outcome = "inconclusive"
    if one.slower(limits) and again is not None:
        said = f"{again.ratio:.3f}, {again.low:.3f} to {again.high:.3f}"
        confirmed = again.slower(limits)
        outcome = "regressed" if confirmed else "inconclusive"
        why += f"; a second set {'confirms it' if confirmed else 'does not confirm it'}: {said}"
    elif one.faster(limits):
        outcome = "improved"
    elif one.high < limits.ratio or one.head_ms - one.base_ms < limits.floor_ms:
        outcome = "same"
    else:
        why += f": neither surely {limits.ratio:.2f} times slower nor surely less"
    return Finding(
        cell, "latency_ms_p50", one.base_ms, one.head_ms, outcome, why, kind="measured",
        change=one.base_ms - one.head_ms,
    )  # fmt: skip


def _memory(cell: Cell, one: Timed, again: Timed | None, limits: Measure) -> list[Finding]:
    if math.isnan(one.base_bytes) or math.isnan(one.head_bytes):
        return []  # a side whose zoobench did not measure it yet
    mib = one.base_bytes / 2**20, one.head_bytes / 2**20
    why = f"{mib[0]:.0f} -> {mib[1]:.0f} MiB ({one.head_bytes / max(one.base_bytes, 1) - 1:+.1%})"
    outcome: Outcome = "same"
    if one.larger(limits) and again is not None:
        confirmed = again.larger(limits)
        outcome = "regressed" if confirmed else "inconclusive"
        why += "; a second set confirms it" if confirmed else "; a second set does not confirm it"
    elif one.smaller(limits):
        outcome = "improved"
    return [
        Finding(
            cell, "peak_memory_bytes", one.base_bytes, one.head_bytes, outcome, why,
            kind="measured", change=one.base_bytes - one.head_bytes,
        )
    ]  # fmt: skip


@contextmanager
def side(text: str) -> Iterator[Side]:
    """The side that `text` names, for as long as the block runs. Raises UserError.

    Tried in this order: a folder with bin/python (an environment), another folder (a source
    tree: its src/, or itself), an executable file (an interpreter), a git revision of the
    repository that one stands in.
    """
    path = Path(text)
    python = path / "bin" / "python"
    if path.is_dir():
        yield Side(text, str(python), "") if python.exists() else Side(text, path=sources(path))
    elif path.is_file() and os.access(path, os.X_OK):
        yield Side(text, str(path.absolute()), "")
    else:
        with checkout(text) as tree:
            yield Side(text, path=sources(tree))


def sources(tree: Path) -> str:
    """What PYTHONPATH must hold for the packages of a source tree."""
    inside = tree / "src"
    return str((inside if inside.is_dir() else tree).absolute())


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A worktree of `revision`, removed at the end. Raises UserError where there is no such."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if commit is None:
        raise UserError(
            f"--measure: {revision!r} is neither a Python environment (a folder with bin/python, "
            "or an interpreter), nor a folder of sources, nor a revision of the git repository here"
        )
    with tempfile.TemporaryDirectory(prefix="zoobench-") as folder:
        tree = Path(folder) / "tree"
        if _git("worktree", "add", "--detach", str(tree), commit) is None:
            raise UserError(f"--measure: git could not check {revision} out into {tree}")
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> str | None:
    """What git printed, or None where it failed or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)  # noqa: S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
