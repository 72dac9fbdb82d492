"""What an audit by 64 shadow probes costs, in probes; equality first, then the ratio.

    python benchmarks/bench_membership.py [--only SET] [--repeats 3]

One thread, CPU seconds of the process, medians of interleaved repeats, features of the sets of
bench_probe.py. `probe` is the path that chooses lambda, with its refit; `shadows` are 64 probes at
that lambda on halves of train, valid and test, solved together; `one by one` is what the same
shadows cost as separate fits by the same solver (some of them are timed, and scaled). Before
anything is timed the log odds of both must agree to 1e-3.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_probe import SETS, Data

from zoobench.solvers.basis import eigenbasis, scaling
from zoobench.solvers.lbfgs import Pairs, minimise
from zoobench.solvers.logistic import logistic_path
from zoobench.solvers.shadows import Shadows, margins_of, shadow_probes
from zoobench.solvers.softmax import SoftmaxProblem

SHADOWS = 64
APART = 2
"""Shadows that are fitted one by one."""
MOST = 20.0
"""Probes that 64 shadows may cost."""


class Audit:
    """A data set as tensors, and the halves of all of it."""

    def __init__(self, data: Data) -> None:
        self.x = {k: torch.from_numpy(v) for k, v in data.x.items()}
        self.y = {k: torch.from_numpy(v) for k, v in data.y.items()}
        self.classes = data.classes
        self.rows, self.labels = (torch.cat([*side.values()]) for side in (self.x, self.y))
        rng = np.random.default_rng(0)
        halves = []
        for _ in range(SHADOWS // 2):
            order = np.argsort(self.labels.numpy() + rng.random(len(self.labels)))
            half = np.zeros(len(order), dtype=bool)
            half[order[::2]] = True
            halves += [half, ~half]
        self.parts = torch.from_numpy(np.stack(halves))

    def probe(self) -> float:
        """The chosen lambda."""
        one = [half[part] for part in ("train", "valid") for half in (self.x, self.y)]
        return logistic_path(*one, self.classes).fit.lam

    def shadows(self, lam: float) -> Shadows:
        return shadow_probes(self.rows, self.labels, self.classes, self.parts, lam)

    def one_by_one(self, lam: float) -> list[torch.Tensor]:
        """(N,) log odds under each of the first shadows, solved in float64 in coordinates of its
        own rows, from nothing."""
        found = []
        for part in self.parts[:APART]:
            own = scaling(self.rows[part])
            z = own.apply(self.rows, torch.float64)
            basis = eigenbasis(z[part], torch.float64)
            ones = torch.ones(len(z), 1, dtype=torch.float64)
            rows, labels = torch.cat([ones, z @ basis.basis], dim=1), self.labels[part]
            curvature = torch.cat([ones[0], basis.eigenvalues])
            problem = SoftmaxProblem(rows[part], labels, self.classes, lam, curvature)
            start = rows.new_zeros(self.classes, rows.shape[1])
            at = minimise(problem, start, Pairs(), 1e-11, 2000).at
            found.append(margins_of(at @ rows.t(), self.labels))
        return found


def timed(work: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    started = time.process_time()
    found = work(*given)
    return time.process_time() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(SETS), action="append")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    print(f"{platform.machine()}, torch {torch.__version__}")
    torch.set_num_threads(1)
    for name in asked.only or ("digits", "mnist"):
        audit = Audit(SETS[name]())
        lam = audit.probe()
        found = audit.shadows(lam)
        assert found.converged.all(), "all shadows must converge before anything is timed"
        seconds, apart = timed(audit.one_by_one, lam)
        error = max(
            float((mine - own).abs().max()) for mine, own in zip(found.margins, apart, strict=False)
        )
        assert error <= 1e-3, f"log odds differ by {error:.1e}"
        pairs = [
            (timed(audit.probe)[0], timed(audit.shadows, lam)[0]) for _ in range(asked.repeats)
        ]
        probe, shadows = (statistics.median(side) for side in zip(*pairs, strict=True))
        n, d = audit.rows.shape
        alone = seconds / APART * SHADOWS
        print(
            f"{name} (N {n:,}, D {d:,}, C {audit.classes}; lambda {lam:.1e}): {SHADOWS} shadows "
            f"cost {shadows / probe:.1f} probes, one by one {alone / probe:.0f};"
            f" log odds agree to {error:.0e}",
            flush=True,
        )
        assert shadows < MOST * probe, f"{SHADOWS} shadows cost more than {MOST:g} probes"


if __name__ == "__main__":
    main()
