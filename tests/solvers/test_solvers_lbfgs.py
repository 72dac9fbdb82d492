"""The matrix form of the two-loop recursion against the loop, and the workspace it may take."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from zoobench.solvers.lbfgs import MEMORY, Pairs


def loop(
    kept: list[tuple[Tensor, Tensor]], gradient: Tensor, penalty: Tensor, diagonal: Tensor
) -> Tensor:
    """Nocedal & Wright, algorithm 7.4, around a scaled diagonal."""
    pairs = [(s, y + s * penalty) for s, y in kept]
    q, weights = gradient.clone(), []
    for s, f in reversed(pairs):
        weights.append((s * q).sum() / (s * f).sum())
        q = q - weights[-1] * f
    s, f = pairs[-1]
    q = q * diagonal * ((s * f).sum() / (f * f * diagonal).sum())
    for (s, f), weight in zip(pairs, reversed(weights), strict=True):
        q = q + s * (weight - (f * q).sum() / (s * f).sum())
    return -q


@pytest.mark.parametrize("count", [1, 7, MEMORY, MEMORY + 5])
def test_directions_are_those_of_the_loop(count: int) -> None:
    generator = torch.Generator().manual_seed(count)

    def draw() -> Tensor:
        return torch.randn(3, 40, generator=generator, dtype=torch.float64)

    hessian = torch.logspace(-2, 1, 120, dtype=torch.float64).view(3, 40)
    diagonal = 0.5 / hessian
    pairs, kept = Pairs(), []
    for i in range(count):
        step = draw()
        pairs.add(step, step * hessian)
        kept.append((step, step * hessian))
        if i % 2:  # the penalty changes between pairs, as it does along a path
            pairs.direction(draw(), torch.full((40,), 0.1 / (i + 1)), lambda g: g * diagonal)
    kept = kept[-MEMORY:]
    for strength in (1.0, 1e-3):
        penalty = torch.full((40,), strength, dtype=torch.float64)
        penalty[0] = 0.0
        gradient = draw()
        found = pairs.direction(gradient, penalty, lambda g: g * diagonal)
        expected = loop(kept, gradient, penalty, diagonal)
        assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9)
    copied = pairs.copy(torch.float64)
    pairs.clear()
    assert torch.equal(copied.direction(gradient, penalty, lambda g: g * diagonal), found)
    bare = pairs.direction(gradient, penalty, lambda g: g * diagonal)
    assert torch.equal(bare, -gradient * diagonal)


MEASURE = """
import torch
from zoobench.costs.stopwatch import peak_memory
from zoobench.solvers.logistic import PathOptions, logistic_path
torch.set_num_threads(1)
def run(n, d):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    y = torch.arange(n) % 10
    cut = n - n // 10
    with peak_memory(torch.device("cpu")) as peak:  # ru_maxrss would begin at the parent's
        logistic_path(x[:cut], y[:cut], x[cut:], y[cut:], 10, PathOptions(lambdas=3, limit=3))
    return peak.rise, x.nbytes
run(2000, 64)
grown, size = run(100_000, 256)
print(grown, size)
"""


def test_the_path_takes_three_times_the_features_and_a_bounded_workspace() -> None:
    """docs/performance.md, "Memory"; tracemalloc does not see torch, so a process' own peak."""
    command = [sys.executable, "-c", MEASURE]
    # glibc gives freed blocks back at once: what is in use counts, not what the heap keeps.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=120
    )
    grown, size = map(int, done.stdout.split())
    assert size < grown  # it does copy them: a number that cannot fail would say nothing
    assert grown < 3 * size + 32 * 2**20
